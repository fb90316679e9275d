"""Who may open a Genesys session: ties the verifier (``bridge.auth.genesys``) to the carrier's card."""

from __future__ import annotations

from bridge.auth import genesys as signature
from bridge.leg import AuthContext, UpgradeRequest


class UpgradeVerifier:
    """``CarrierSpec.authenticate_upgrade``, with the nonces that have been seen through it."""

    __slots__ = ("_nonces",)

    def __init__(self) -> None:
        self._nonces = signature.NonceBook()

    def __call__(self, request: UpgradeRequest, context: AuthContext) -> str:
        """Check key, organization and signature: empty text = let in, otherwise why not, for the log."""
        keys = signature.GenesysKeys(
            api_keys=context.secrets.get("genesys_api_key", ()),
            client_secrets=context.secrets.get("genesys_client_secret", ()),
            organization_ids=context.secrets.get("genesys_organization_id", ()),
        )
        return signature.verify_upgrade(
            keys, context.public_url, request.raw_path, request.headers, context.unix_s, self._nonces
        )
