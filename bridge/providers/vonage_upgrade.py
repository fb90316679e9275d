"""Who may open a Vonage media socket: ties the verifier (``bridge.auth.vonage``) to the carrier's card."""

from __future__ import annotations

from bridge.auth.vonage import JtiBook, VonageKeys, verify_upgrade
from bridge.leg import AuthContext, UpgradeRequest


class UpgradeVerifier:
    """``CarrierSpec.authenticate_upgrade``, with the tokens that have been seen through it."""

    __slots__ = ("_used",)

    def __init__(self) -> None:
        self._used = JtiBook()

    def __call__(self, request: UpgradeRequest, context: AuthContext) -> str:
        """Check the JWT that ``authorization: vonage`` of our NCCO asks for: empty = let in, otherwise why not."""
        application = context.secrets.get("vonage_application_id", ())
        keys = VonageKeys(
            signature_secrets=context.secrets.get("vonage_signature_secret", ()),
            application_id=application[0] if application else "",
        )
        verdict = verify_upgrade(keys, request.headers, context.unix_s)
        if not verdict.problem and not self._used.use(verdict.jti, verdict.until_unix_s, context.unix_s):
            return "token used before"
        return verdict.problem
