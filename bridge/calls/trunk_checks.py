"""What an operator may write into each member of a SIP trunk: one check a member, for the TOML file and the settings.

Each check takes a text (lists: with commas) or what TOML gave, and raises ``ValueError`` with the rest of a sentence
that begins with the member's name: what is wrong, then the mend. It also takes what it gives. Passwords and header
values are secrets and never quoted. Meaning and sources: ``bridge.sip.trunks``.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from bridge.auth.sip_digest_header import Algorithm
from bridge.calls.numbers import normal_pattern
from bridge.errors import LocalError
from bridge.media.format import Encoding
from bridge.sip.errors import HeaderError
from bridge.sip.flow import Transport
from bridge.sip.grammar import is_token
from bridge.sip.headers import canonical_name
from bridge.sip.trunks import ANY_OWN_HEADER, AnswerWhen, DtmfWay, Network, parse_ip, parse_network
from bridge.sip.ua_options import MAX_ORDER_HEADERS, check_custom_header
from bridge.sip.uri import parse_host_port

MAX_ADDRESSES = 1_000
"""Of one trunk; the largest carriers publish some dozens."""
MAX_NUMBERS = 10_000
"""Patterns of callers or of called numbers of one trunk; each is looked at for a call."""
MAX_DOMAINS = 100
MAX_VARIABLES = 30
"""Headers that may become variables."""
MAX_PASSWORDS = 4
"""That work at the same time; each costs a hash for every wrong guess."""
MAX_SECRET_CHARS = 256
MAX_USERNAME_CHARS = 128
MAX_CONCURRENCY = 100_000
"""More calls at once than any cluster has; a larger number is a slip."""
_SHOWN_CHARS = 60
"""How much of a wrong value a message repeats."""
NONE = "none"
"""In the place of header names: no header becomes a variable."""

_NUMBER = re.compile(r"\+?[0-9 ().-]+")
_CALLER_ID = re.compile(r"\+?[A-Za-z0-9._-]{1,64}")
_DOMAIN = re.compile(r"(?:\*\.)?(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*")
_CODECS = {
    "pcmu": Encoding.ULAW, "ulaw": Encoding.ULAW, "mulaw": Encoding.ULAW, "g711u": Encoding.ULAW,
    "pcma": Encoding.ALAW, "alaw": Encoding.ALAW, "g711a": Encoding.ALAW,
}  # fmt: skip
_ALGORITHMS = {"md5": Algorithm.MD5, "sha-256": Algorithm.SHA_256, "sha256": Algorithm.SHA_256}
_TRANSPORTS = {"auto": None, "udp": Transport.UDP, "tcp": Transport.TCP, "tls": Transport.TLS}

_E = TypeVar("_E", bound=enum.Enum)


def _wrong(value: object, mend: str) -> ValueError:
    shown = repr(value)
    if len(shown) > _SHOWN_CHARS:
        shown = shown[:_SHOWN_CHARS] + "..."
    return ValueError(f"is {shown}; give {mend}")


def _text(value: object, mend: str) -> str:
    if not isinstance(value, str) or not value.isprintable() or not value.strip():
        raise _wrong(value, mend)
    return value.strip()


def _texts(value: object, mend: str, most: int) -> tuple[str, ...]:
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list | tuple):
        raise _wrong(value, mend)
    if len(given) > most:
        raise ValueError(f"has {len(given)} entries; there may be {most}")
    return tuple(_text(text, mend) for text in given if text != "" and not (isinstance(text, str) and text.isspace()))


def addresses(value: object) -> tuple[Network, ...]:
    """Addresses and CIDR blocks."""
    if isinstance(value, tuple) and all(isinstance(each, Network) for each in value):
        return value
    mend = "a list of addresses and CIDR blocks such as 203.0.113.7, 198.51.100.0/24"
    found = []
    for text in _texts(value, mend, MAX_ADDRESSES):
        try:
            found.append(parse_network(text))
        except ValueError as problem:
            words = "has host bits set, so it is no block" if "host bits" in str(problem) else "is no address or block"
            raise ValueError(f"has {text[:_SHOWN_CHARS]!r}, which {words}; give {mend}") from None
    return tuple(dict.fromkeys(found))


def numbers(value: object) -> tuple[str, ...]:
    """Patterns of numbers or SIP users, in their normal spelling."""
    return tuple(
        normal_pattern(text) for text in _texts(value, "a list of patterns such as +4930*, +15551234567", MAX_NUMBERS)
    )


def domains(value: object) -> tuple[str, ...]:
    """Domains in lower case; ``*.`` in front is all below. Addresses are taken too: some carriers name nothing else."""
    mend = "a list of domains such as sip.example.com, *.example.net"
    found = []
    for text in _texts(value, mend, MAX_DOMAINS):
        domain = text.lower().rstrip(".")
        address = parse_ip(domain.strip("[]"))
        if address is None and not _DOMAIN.fullmatch(domain):
            raise ValueError(f"has {text[:_SHOWN_CHARS]!r}, which is no domain; give {mend}")
        found.append(domain if address is None else str(address))
    return tuple(dict.fromkeys(found))


def codecs(value: object) -> tuple[Encoding, ...]:
    """G.711 codecs in order of preference."""
    if isinstance(value, tuple) and value and all(isinstance(each, Encoding) for each in value):
        return value
    mend = "PCMU, PCMA or both, the preferred one first"
    found = []
    for text in _texts(value, mend, len(_CODECS)):
        codec = _CODECS.get(text.lower().replace(".", "").removesuffix("/8000"))
        if codec is None or codec in found:
            raise _wrong(value, mend)
        found.append(codec)
    if not found:
        raise _wrong(value, mend)
    return tuple(found)


def algorithms(value: object) -> tuple[Algorithm, ...]:
    """Algorithms of digest authentication, in the order of the challenges."""
    mend = "MD5, SHA-256 or both, in the order in which they are offered"
    found = tuple(dict.fromkeys(_ALGORITHMS.get(text.lower()) for text in _texts(value, mend, len(_ALGORITHMS))))
    known = tuple(algorithm for algorithm in found if algorithm is not None)
    if not found or len(known) < len(found):
        raise _wrong(value, mend)
    return known


def variable_headers(value: object) -> tuple[str, ...]:
    """Names of headers, ``X-*`` for all of these, ``none``."""
    mend = f"a list of header names such as X-Contact-ID, User-to-User; {ANY_OWN_HEADER} for all of these; or {NONE}"
    found = _texts(value, mend, MAX_VARIABLES)
    if [text.lower() for text in found] == [NONE]:
        return ()
    if any(not is_token(text) or ("*" in text and text.upper() != ANY_OWN_HEADER) for text in found):
        raise _wrong(value, mend)
    return found


def passwords(value: object) -> tuple[str, ...]:
    """A password, or several with commas between them. Never quoted."""
    given = value.split(",") if isinstance(value, str) else value
    each = given if isinstance(given, list | tuple) else ()
    known = all(isinstance(text, str) for text in each)
    found = tuple(bare for text in each if (bare := text.strip())) if known else ()
    if not found or len(found) > MAX_PASSWORDS or not all(_is_secret(text) for text in found):
        raise ValueError(
            f"is none that works; give up to {MAX_SECRET_CHARS} printable characters, or up to {MAX_PASSWORDS} "
            "passwords with commas between them"
        )
    return found


def password(value: object) -> str:
    """One password, commas and all. Never quoted."""
    if not isinstance(value, str) or not _is_secret(value):
        raise ValueError(f"is none that works; give up to {MAX_SECRET_CHARS} printable characters")
    return value


def _is_secret(text: str) -> bool:
    return bool(text) and text.isprintable() and len(text) <= MAX_SECRET_CHARS


def username(value: object) -> str:
    """A user name of digest authentication; may hold a domain."""
    text = _text(value, mend := f"a user name of up to {MAX_USERNAME_CHARS} characters")
    if len(text) > MAX_USERNAME_CHARS:
        raise _wrong(value, mend)
    return text


def outbound_address(value: object) -> str:
    """``host`` or ``host:port`` in the form of ``split_address``."""
    text = _text(value, mend := "a host name or address such as sip.example.com, 203.0.113.7:5070 or [2001:db8::1]")
    if ":" in text and (address := parse_ip(text.strip("[]"))) is not None and address.version == 6:
        text = f"[{address}]"  # without brackets, its last part would pass for a port
    try:
        host, port = parse_host_port(text)
    except HeaderError:
        raise _wrong(value, mend) from None
    return host if port is None else f"{host}:{port}"


def split_address(address: str) -> tuple[str, int | None]:
    """Host (IPv6 without brackets) and port of what ``outbound_address`` gave."""
    host, port = parse_host_port(address)
    return host.strip("[]"), port


def headers(value: object) -> tuple[tuple[str, str], ...]:
    """Names and values of headers. Values are never quoted."""
    if isinstance(value, tuple):
        value = dict(value)
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for pair in value.items() for each in pair):
        raise ValueError('is no table of texts; give one such as { "X-Token" = "..." }')
    if len(value) > MAX_ORDER_HEADERS:
        raise ValueError(f"has {len(value)} headers; there may be {MAX_ORDER_HEADERS}")
    if len({canonical_name(name).lower() for name in value}) < len(value):
        raise ValueError("has a header twice; take one out")
    for name, text in value.items():
        try:
            check_custom_header(name, text)
        except LocalError as problem:
            raise ValueError(f"cannot be sent: {problem}") from None
    return tuple(value.items())


def caller_id(value: object) -> str:
    """The user part of the address that calls come from."""
    text = _text(value, mend := "a number such as +15551234567")
    if _NUMBER.fullmatch(text):
        text = re.sub(r"[ ().-]", "", text)
    if not _CALLER_ID.fullmatch(text):
        raise _wrong(value, mend)
    return text


def _choice(kind: type[_E]) -> Callable[[object], _E]:
    def check(value: object) -> _E:
        if isinstance(value, kind):
            return value
        try:
            return kind(str(value).strip().lower())
        except ValueError:
            raise _wrong(value, "one of " + ", ".join(each.value for each in kind)) from None

    return check


answer = _choice(AnswerWhen)
dtmf = _choice(DtmfWay)


def transport(value: object) -> Transport | None:
    """``auto``, ``udp``, ``tcp`` or ``tls``."""
    word = str(value).strip().lower()
    if word not in _TRANSPORTS:
        raise _wrong(value, "one of " + ", ".join(_TRANSPORTS))
    return _TRANSPORTS[word]


def switch(value: object) -> bool:
    """``true`` or ``false``, also as ``on`` and ``off``."""
    if isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    if text not in ("on", "off"):
        raise _wrong(value, "true or false")
    return text == "on"


def calls(value: object) -> int:
    """A number of calls at once."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_CONCURRENCY:
        raise _wrong(value, f"a whole number from 1 to {MAX_CONCURRENCY}")
    return value
