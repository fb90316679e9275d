"""Vonage Voice API."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, SecretStr

from bridge.settings.base import CommaList, HttpUrl, Lower, OwnNumbers, Topic, ring, setting

MIN_KEY_BITS = 1024
"""Vonage makes 2048; below this RS256 signs nothing that anybody takes."""
MAX_KEY_CHARS = 20_000
"""Of a PEM; one of 4096 bits has some 3300."""

_UUID = r"^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"
_HOST = re.compile(r"(?:\*\.)?(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,62})(?:\.[a-z0-9](?:[a-z0-9-]{0,62}))*")


def _private_key(value: SecretStr) -> SecretStr:
    """The PEM text itself, whether it was given, with its line breaks written as ``\\n``, or its file."""
    text = value.get_secret_value()
    if "-----BEGIN" not in text:
        text = _read_key(Path(text))
    pem = text.replace("\\n", "\n").strip() + "\n"
    if len(pem) > MAX_KEY_CHARS or not pem.isascii():
        raise ValueError("is no PEM text; download the application's private key again from Vonage")
    _check_rsa(pem)
    return SecretStr(pem)


def _read_key(path: Path) -> str:
    try:
        with path.open(encoding="ascii") as file:
            return file.read(MAX_KEY_CHARS + 1)
    except (OSError, ValueError):  # not quoted: somebody may have put the bare key here
        raise ValueError("is neither a PEM text nor the path of a PEM file that can be read") from None


def _check_rsa(pem: str) -> None:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # 20 ms, for Vonage only
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except Exception:  # the library raises ValueError, TypeError and its own; all mean the same here
        raise ValueError("cannot be read as a private key without a password; download it again from Vonage") from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < MIN_KEY_BITS:
        raise ValueError("is no RSA private key of 1024 bits or more; download it again from Vonage")


def _hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    for place, host in enumerate(hosts, 1):
        if not _HOST.fullmatch(host.lower()):
            raise ValueError(f"entry {place} is no host; give a list such as hooks.example.com, *.example.org")
    return tuple(host.lower() for host in hosts)


def _as_int(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class VonageSettings(Topic):
    """Vonage."""

    vonage_application_id: str | None = setting(
        None,
        "Vonage application whose calls are taken, a UUID.",
        pattern=_UUID,
        expected="a UUID",
        restart=True,
    )
    vonage_private_key: Annotated[SecretStr, AfterValidator(_private_key)] | None = setting(
        None,
        "Private key of that application, which signs requests to Vonage: the PEM text (line breaks may be written as "
        "`\\n`) or the path of its file. Unset: calls cannot be placed, transferred or sent tones.",
        restart=True,
        lines=True,
    )
    vonage_signature_secret: SecretStr | None = setting(
        None,
        "Signature secret of the account, with which Vonage signs webhooks; several with commas between them while it "
        "is rotated. Unset: Vonage's requests are refused while `BRIDGE_AUTH` is `on`.",
    )
    vonage_api_base_url: HttpUrl = setting(
        "https://api.nexmo.com",
        "Vonage's interface, for calls whose webhook names no region.",
        restart=True,
    )
    vonage_from_numbers: OwnNumbers = setting(
        (),
        "Vonage numbers of the account that placed calls may come from, with commas between them; the first is the "
        "default. Unset: no calls are placed over Vonage.",
    )
    vonage_webhook_allow: Annotated[tuple[str, ...], CommaList, AfterValidator(_hosts)] = setting(
        (),
        "Hosts to which the `webhook_url` parameter of the old connector may point, with commas between them: "
        "`hooks.example.com, *.example.org`. Unset: the parameter is ignored.",
    )
    vonage_topology: Annotated[Literal["direct", "conversation"], Lower] = setting(
        "direct",
        "`direct` = the caller is connected to the bridge; `conversation` = caller and bridge meet in a conversation, "
        "from which transfers are cleaner, at the price of a second leg.",
    )
    vonage_rate_hz: Annotated[Literal[8000, 16000, 24000], BeforeValidator(_as_int)] = setting(
        16000,
        "Sampling rate of the audio; agents with `pcm_16000` get 16000 unconverted.",
        unit="Hz",
        expected="one of 8000, 16000, 24000",
    )

    @property
    def vonage_signature_secrets(self) -> tuple[str, ...]:
        """What may sign Vonage's webhooks; none = they are refused."""
        return ring(self.vonage_signature_secret)
