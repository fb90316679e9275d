"""The signature of post-call webhooks: who really sent this event. Pure: secrets, bodies and time are arguments.

What it is: verifier and signer of ``ElevenLabs-Signature: t=<unix seconds>,v0=<hex>``, the hex of HMAC-SHA256 over
``<t>.<body>``. Both work on a body that comes in pieces, because an event with audio is larger than anybody wants
to hold. What it is not: protection against a repeated event; events carry an id for that.

Source: ElevenLabs docs, "Post-call webhooks", section "Authentication" (read 2026-11-21). The vendor's examples and
SDK check only that ``t`` is not too old; here it must not be from the future either, beyond the same tolerance.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

HEADER = "ElevenLabs-Signature"

TOLERANCE_S = 30 * 60
"""The vendor's own: how far a signature's time may be from ours, either way."""

MAX_HEADER_CHARS = 1_024
"""A genuine header has some 80."""

MAX_SIGNATURES = 8
"""``v0`` parts that are looked at; a sender that rotates its secret sends two."""

_TIME = re.compile(r"[0-9]{1,12}")
_HEX = re.compile(r"[0-9a-fA-F]{64}")


class BodyMac:
    """The HMAC of a body that comes in pieces. One instance is for one body."""

    __slots__ = ("_mac", "time_text")

    def __init__(self, secret: str, time_text: str) -> None:
        self.time_text = time_text
        """The ``t`` part to the letter: it is part of what is signed."""
        self._mac = hmac.new(secret.encode(), time_text.encode() + b".", hashlib.sha256)

    def update(self, piece: bytes | memoryview) -> None:
        """Take the next piece of the body."""
        self._mac.update(piece)

    def hexdigest(self) -> str:
        """The signature of everything so far, in lower-case hex."""
        return self._mac.hexdigest()

    def header(self) -> str:
        """The value of the header for everything so far."""
        return f"t={self.time_text},v0={self.hexdigest()}"


def signer(secret: str, unix_s: float) -> BodyMac:
    """Begin to sign a body at this time; feed it with ``update`` and end with ``header``."""
    return BodyMac(secret, str(int(unix_s)))


def sign(secret: str, body: bytes, unix_s: float) -> str:
    """The header's value for a whole body."""
    mac = signer(secret, unix_s)
    mac.update(body)
    return mac.header()


@dataclass(frozen=True, slots=True)
class _Parts:
    time_text: str
    signatures: tuple[str, ...]


class Verifier:
    """Checks one event. Begin with ``problem``: it is already set where no body could make the event genuine."""

    __slots__ = ("_macs", "_signatures", "problem")

    def __init__(self, secrets: Sequence[str], header: str | None, unix_s: float) -> None:
        """``secrets`` is a key ring: several while a secret is rotated; blank ones count as absent."""
        parts = _parse(header)
        self.problem = parts if isinstance(parts, str) else _time_problem(parts.time_text, unix_s)
        """Why the event is refused; empty while nothing speaks against it."""
        keys = [secret for secret in secrets if secret]
        if not keys:
            self.problem = "no secret is set"
        self._macs: list[BodyMac] = []
        self._signatures: tuple[str, ...] = ()
        if not self.problem and not isinstance(parts, str):
            self._macs = [BodyMac(secret, parts.time_text) for secret in keys]
            self._signatures = parts.signatures

    def update(self, piece: bytes | memoryview) -> None:
        """Take the next piece of the body."""
        for mac in self._macs:
            mac.update(piece)

    def finish(self) -> str:
        """Empty = genuine; otherwise why not, for the log. Never quotes the header."""
        if self.problem:
            return self.problem
        genuine = False
        for mac in self._macs:  # all of them, always: the time taken tells nothing of which one fits
            wanted = mac.hexdigest()
            for given in self._signatures:
                genuine |= hmac.compare_digest(wanted, given)
        return "" if genuine else "the signature does not fit: wrong secret, or the body was changed"


def verify(secrets: Sequence[str], header: str | None, body: bytes, unix_s: float) -> str:
    """Check a whole body: empty = genuine, otherwise why not."""
    verifier = Verifier(secrets, header, unix_s)
    verifier.update(body)
    return verifier.finish()


def _parse(header: str | None) -> _Parts | str:
    """The parts that matter, in any order and with any blanks; a text where there is something wrong."""
    if not header:
        return f"no {HEADER} header"
    if len(header) > MAX_HEADER_CHARS:
        return f"the {HEADER} header is too long"
    times: list[str] = []
    signatures: list[str] = []
    for part in header.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name == "t":
            times.append(value)
        elif name == "v0":
            signatures.append(value.lower())
    if len(times) != 1 or not _TIME.fullmatch(times[0]):
        return f"the {HEADER} header has not exactly one time"
    if len(signatures) > MAX_SIGNATURES:
        return f"the {HEADER} header has too many signatures"
    usable = tuple(value for value in signatures if _HEX.fullmatch(value))
    if not usable:
        return f"the {HEADER} header has no v0 signature"
    return _Parts(times[0], usable)


def _time_problem(time_text: str, unix_s: float) -> str:
    age_s = unix_s - int(time_text)
    if age_s > TOLERANCE_S:
        return "the signature is too old"
    if age_s < -TOLERANCE_S:
        return "the signature is from the future; is this machine's clock right?"
    return ""
