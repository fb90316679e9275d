"""Where an agent may send a caller: what it wrote, in the one spelling that is dialled, and the allow-list. Pure.

What the agent's model writes is hostile input: callers talk it into things. So a number becomes E.164 or nothing, a SIP
address is taken apart and put together again (headers, passwords and parameters that could send the call elsewhere are
refused, not passed on), and the list is asked about exactly what will be dialled.

Short numbers are emergency numbers somewhere. Whatever pattern fits them, they are refused unless the list has them
literally, and so are SIP users that are such a number.

Sources: E.164; RFC 3261, sections 19.1 (``sip:``) and 25.1; the package phonenumbers' tables of emergency numbers.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Iterable

import msgspec

from bridge.calls.numbers import MAX_ADDRESS_CHARS, matches, normal_pattern, parse_target, spellings

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SIP = re.compile(r"(?i)sips?:")
_NUMBER = re.compile(r"(?i)(?:tel:)?\+?[0-9 ().\-/]*[0-9][0-9 ().\-/]*(?:;phone-context=.*)?")
_SIP_ADDRESS = re.compile(
    r"(?i)(?P<scheme>sips?):(?P<user>[a-z0-9_.!~*'()&=+$,/-]{1,128})"
    r"@(?P<host>[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?P<port>:[0-9]{1,5})?"
    r"(?P<parameters>(?:;(?:transport=(?:udp|tcp|tls)|user=phone))*)"
)
_SHORT = re.compile(r"\+?(?:[0-9]{1,6}|[09](?:112|911|999|000)|10111|10177)")
"""Numbers without an area code. The longest emergency numbers have five digits, short codes at a price six."""
_EMERGENCY_USER = re.compile(r"[0-9]{1,3}|[09]?(?:112|911|999|000)|1122|10111|10177|90000")
"""SIP users that, once separators are gone, a telephone system behind the address would take for an emergency number;
an extension of three digits is one too, somewhere."""
_USER_SEPARATORS = re.compile(r"[^0-9A-Za-z]")
_DASHES = re.compile("[\u2010-\u2015\u2212]")


class Shape(enum.Enum):
    """What a target is."""

    NUMBER = "number"
    """E.164, or a short or national number that the list has literally."""
    SIP = "sip"
    WORD = "word"
    """A word of the carrier's flow."""


class Target(msgspec.Struct, frozen=True):
    """A target that may be dialled."""

    shape: Shape
    address: str


class Wrong(enum.Enum):
    """Why a text is no target."""

    UNREADABLE = "unreadable"
    """Neither number nor address nor word."""
    NATIONAL = "national"
    """A number without its country code."""
    NOT_ALLOWED = "not_allowed"
    EMERGENCY = "emergency"
    """It may be an emergency number, and the list does not have it literally."""


def allowed_patterns(texts: Iterable[str]) -> tuple[str, ...]:
    """TRANSFER_ALLOW in the spelling that is compared. Raises ``ValueError`` with the mend."""
    return tuple(normal_pattern(text) for text in texts)


def find_target(written: str, allow: tuple[str, ...]) -> Target | Wrong:
    """What the agent wrote as a target that may be dialled. ``allow`` comes from ``allowed_patterns``."""
    text = _tidied(written)
    if not text or len(text) > MAX_ADDRESS_CHARS or not text.isprintable():
        return Wrong.UNREADABLE
    if _SIP.match(text):
        return _sip_target(text, allow)
    if _NUMBER.fullmatch(text):
        return _number_target(text, allow)
    if text.startswith("+"):  # "+4930*" and "+4930x" fit a pattern for numbers, but are none
        return Wrong.UNREADABLE
    known_as = spellings(text)
    if not known_as[0] or not _fits(known_as, allow):
        return Wrong.NOT_ALLOWED
    return Target(Shape.WORD, text)


def _sip_target(text: str, allow: tuple[str, ...]) -> Target | Wrong:
    parts = _SIP_ADDRESS.fullmatch(text)
    if parts is None:
        return Wrong.UNREADABLE
    user, host = parts["user"], parts["host"].lower()
    address = f"{parts['scheme'].lower()}:{user}@{host}{parts['port'] or ''}{parts['parameters'].lower()}"
    try:
        parse_target(address)
    except ValueError:  # a port that is none
        return Wrong.UNREADABLE
    known_as = (f"sip:{user.lower()}@{host}",)  # not by its user's number: the host decides where the call goes
    if known_as[0] in allow:
        return Target(Shape.SIP, address)
    if _EMERGENCY_USER.fullmatch(_USER_SEPARATORS.sub("", user)):
        return Wrong.EMERGENCY if _fits(known_as, allow) else Wrong.NOT_ALLOWED
    return Target(Shape.SIP, address) if _fits(known_as, allow) else Wrong.NOT_ALLOWED


def _number_target(text: str, allow: tuple[str, ...]) -> Target | Wrong:
    known_as = spellings(text)
    literal = next((spelling for spelling in known_as if spelling in allow), "")
    if literal:
        return Target(Shape.NUMBER, literal)
    if any(_SHORT.fullmatch(spelling) for spelling in known_as):
        return Wrong.EMERGENCY if _fits(known_as, allow) else Wrong.NOT_ALLOWED
    # Digits without a plus are national ones: 415 555 0100 of San Francisco would ring in Switzerland with one.
    if not _E164.fullmatch(known_as[0]):
        return Wrong.NATIONAL
    return Target(Shape.NUMBER, known_as[0]) if _fits(known_as[:1], allow) else Wrong.NOT_ALLOWED


def _fits(known_as: tuple[str, ...], allow: tuple[str, ...]) -> bool:
    return any(matches(pattern, spelling) for pattern in allow for spelling in known_as)


def _tidied(written: str) -> str:
    """As typed on a keyboard: models write typographic hyphens, wide digits and no-break spaces."""
    text = _DASHES.sub("-", unicodedata.normalize("NFKC", written[: MAX_ADDRESS_CHARS + 1]))
    text = " ".join(text.split())
    return text.replace("(+", "+(", 1) if text.startswith("(+") else text
