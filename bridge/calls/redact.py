"""Masking of phone numbers and SIP users: what is shown of them when REDACT_NUMBERS is on.

Enough is left to tell two callers of one afternoon apart (the last digits), too little to call anybody back. The
mask has a fixed width, so that it does not tell how long the number was. Not for logs: those never hold numbers
at all (``bridge.server.logs``). What was said is not touched beyond numbers that are written in digits.
"""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

_KEPT_OF_LONG, _LONG = 3, 7
"""From seven characters on (the shortest subscriber numbers with an area code) three are shown."""
_KEPT_OF_SHORT, _SHORT = 2, 4
"""Extensions of four to six characters show two, shorter ones nothing."""

_NOBODY = frozenset({"", "anonymous", "restricted", "unavailable", "unknown", "private", "blocked"})
"""What carriers write in place of a number that was withheld; nobody is to be found by it."""

_SCHEME = re.compile(r"(sips?|tel|client|whatsapp):", re.IGNORECASE)
_MAX_DEPTH = 16
"""Nesting of a document that is looked into; deeper parts are blanked, as nothing genuine is that deep."""

_IN_TEXT = r"\b(?:sips?|tel|client|whatsapp):[^\s,;<>\"']+|(?<![\w+*])\+\d(?:[ ().-]{0,2}\d){5,14}(?!\w)"
"""In running text: addresses with a scheme, and E.164 numbers as people space them."""


def redact_number(number: str) -> str:
    """The number or SIP address with all but its last two or three characters masked.

    ``+4930123456`` gives ``+***456``, ``sip:alice@example.com`` gives ``sip:***ce@example.com``; words for a
    withheld number stay as they are. A display name and parameters of a SIP address are dropped.
    """
    text = number.strip()
    if text.lower() in _NOBODY:
        return text
    if "<" in text:  # what stands before it is a person's name
        text = text.partition("<")[2].partition(">")[0].strip()
    scheme = found.group() if (found := _SCHEME.match(text)) else ""
    address = text[len(scheme) :].partition(";")[0].partition("?")[0]
    user, at, host = address.rpartition("@")
    if not at:
        user, host = address, ""
    return f"{scheme}{_masked(user)}{at}{host}"


def _masked(user: str) -> str:
    """A number or name without its scheme and host."""
    user = user.partition(":")[0]  # what follows is a password (RFC 3261, section 19.1.1)
    if user.lower() in _NOBODY:
        return user
    sign = "+" if user.startswith("+") else ""
    core = "".join(char for char in user if char.isalnum())
    kept = _KEPT_OF_LONG if len(core) >= _LONG else _KEPT_OF_SHORT if len(core) >= _SHORT else 0
    return f"{sign}{MASK}{core[len(core) - kept :]}"


def redact_text(text: str, known: tuple[str, ...] = ()) -> str:
    """Running text with every E.164 number and SIP address masked, and each of ``known`` wherever it stands."""
    bare = (number.strip().removeprefix("+") for number in known)
    wanted = [  # a shorter number is in every other word
        rf"\+?{re.escape(number)}" for number in bare if len(number) >= _SHORT and number.lower() not in _NOBODY
    ]
    # in one pass, so that nothing is masked twice
    return re.sub("|".join([_IN_TEXT, *wanted]), lambda found: redact_number(found.group()), text, flags=re.IGNORECASE)


def redact_document(document: Any, known: tuple[str, ...] = (), depth: int = 0) -> Any:
    """A JSON document (a copy of it) with all its texts through ``redact_text``; names of members stay."""
    if isinstance(document, str):
        return redact_text(document, known)
    if depth >= _MAX_DEPTH and isinstance(document, dict | list):
        return MASK
    if isinstance(document, dict):
        return {name: redact_document(value, known, depth + 1) for name, value in document.items()}
    if isinstance(document, list):
        return [redact_document(value, known, depth + 1) for value in document]
    return document
