"""Telephone numbers and SIP addresses as routes compare them. Pure.

What it is: from the many spellings of one number to those that a route may have been written in, and the patterns
themselves. What it is not: a check whether a number exists; short codes, extensions and names are all let be.

Sources: E.164 (at most 15 digits), RFC 3966 (``tel:``), RFC 3261 section 19.1 (``sip:``); the package phonenumbers for
what only a table of all countries can know (``+49 (0)30 1234`` is ``+49301234``).
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import phonenumbers

MAX_ADDRESS_CHARS = 256
"""Of an address or pattern that is looked at; SIP addresses have some forty."""
MAX_STARS = 4
"""In one pattern. Nobody needs more, and each is another search."""

_NUMBER = re.compile(r"\+?[0-9 ().\-/]*[0-9][0-9 ().\-/]*")
_NUMBER_PATTERN = re.compile(r"\+?[0-9 ().\-/*]*[0-9*][0-9 ().\-/*]*")
_SEPARATORS = re.compile(r"[ ().\-/]")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SIP = re.compile(r"(?i)sips?:")
_TEL = re.compile(r"(?i)tel:")
_HOST = re.compile(r"(?i)[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]")
_USER = re.compile(r"[A-Za-z0-9_.!~*'()&=+$,/%-]{1,128}")
_INTERNATIONAL_DIGITS = range(8, 16)
"""A number of so many digits without a plus may be an international one: some carriers leave the plus out."""


def spellings(address: str) -> tuple[str, ...]:
    """The texts by which a route may know this address, the likeliest first; never empty.

    A number comes as E.164 where it can be told to be one (``+49 30 1234``, ``0049301234`` and ``tel:+49-30-1234``
    are the same), a SIP address as ``sip:user@host`` in lower case, without port and parameters, and, where its user
    is a number, as that too.
    """
    text = _bare(address[:MAX_ADDRESS_CHARS])
    if _SIP.match(text):
        user, host = _sip_parts(text)
        return (f"sip:{user}@{host}", *(_numbers(user) if _NUMBER.fullmatch(user) else ()))
    if _TEL.match(text):
        text = text[4:].partition(";")[0]
    return _numbers(text) if _NUMBER.fullmatch(text) else (text.lower(),)


def normal_pattern(text: str) -> str:
    """A route's pattern in the one spelling that is compared and stored. Raises ``ValueError`` with the mend."""
    text = _bare(text)
    if not text:
        raise ValueError("is empty; give a number such as +4930*, a SIP user such as sip:sales@*, or * for all")
    if len(text) > MAX_ADDRESS_CHARS:
        raise ValueError(f"is longer than {MAX_ADDRESS_CHARS} characters; shorten it")
    text = re.sub(r"\*+", "*", text)
    if text.count("*") > MAX_STARS:
        raise ValueError(f"has more than {MAX_STARS} stars; use fewer")
    if _SIP.match(text):
        user, host = _sip_parts(text)
        return f"sip:{user}@{host or '*'}"
    if _TEL.match(text):
        text = text[4:].partition(";")[0]
    if not _NUMBER_PATTERN.fullmatch(text):
        return text.lower()
    return _plain(text) if "*" in text else _numbers(text)[0]


def matches(pattern: str, text: str) -> bool:
    """Whether the text fits the pattern, in which ``*`` stands for any characters, none included."""
    head, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    *middle, tail = rest
    if len(text) < len(head) + len(tail) or not text.startswith(head) or not text.endswith(tail):
        return False
    at, end = len(head), len(text) - len(tail)
    for part in middle:  # the first place that fits is as good as any later one
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def parse_target(text: str) -> str:
    """Where a caller is sent: E.164, or a SIP address. Raises ``ValueError`` with the mend, without quoting it."""
    bare = text.strip()
    if _SIP.match(bare):
        user, at, host = bare.partition(":")[2].partition(";")[0].rpartition("@")
        name, _, port = host.rpartition(":") if re.search(r":[0-9]{1,5}$", host) else (host, "", "")
        fits = at and len(bare) <= MAX_ADDRESS_CHARS and not re.search(r"[\s<>\"]", bare)
        if fits and _USER.fullmatch(user) and _HOST.fullmatch(name) and int(port or 5060) <= 65535:
            return bare
        raise ValueError("is no SIP address; give one such as sip:sales@pbx.example.com")
    if _NUMBER.fullmatch(bare):
        for number in _numbers(bare) if bare.startswith(("+", "00")) else ():
            if _E164.fullmatch(number):
                return number
    raise ValueError("is no international number; give it with + and country code, such as +49301234567")


def _bare(address: str) -> str:
    """Without display name and angle brackets."""
    text = address.strip()
    if text.endswith(">") and "<" in text:
        text = text[text.rindex("<") + 1 : -1].strip()
    return text


def _sip_parts(text: str) -> tuple[str, str]:
    """User and host in lower case, without password, port and parameters."""
    user, _, host = text.partition(":")[2].partition("@")
    user = unquote(re.split(r"[;?:]", user, maxsplit=1)[0])
    host = re.sub(r":[0-9]{1,5}$", "", re.split(r"[;?]", host, maxsplit=1)[0])
    return user.lower(), host.lower()


def _plain(text: str) -> str:
    """A number without its separators, with a plus for the international prefix 00."""
    digits = _SEPARATORS.sub("", text)
    return f"+{digits[2:]}" if re.match(r"00[1-9]", digits) else digits


def _numbers(text: str) -> tuple[str, ...]:
    """The spellings of a number, the canonical one first."""
    plain = _plain(text)
    found = [plain]
    if plain.startswith("+"):
        try:
            parsed = phonenumbers.parse(text if text.startswith("+") else plain)
            found.insert(0, phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))
        except phonenumbers.NumberParseException:
            pass  # too short, or a country that does not exist: nothing to add to what the carrier wrote
    elif len(plain) in _INTERNATIONAL_DIGITS and not plain.startswith("0"):
        found.append(f"+{plain}")
    return tuple(dict.fromkeys(found))
