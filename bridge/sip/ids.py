"""Names and numbers that must not be guessed or repeated, all made of one source of random text.

The source is an argument: a callable that gives fresh random token characters (letters and digits, at least 80 bits of
chance) each time. Sources: RFC 3261 sections 8.1.1.4 (Call-ID), 8.1.1.7 (branch), 19.3 (tags), RFC 3262 section 3
(RSeq).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from bridge.sip.values import BRANCH_COOKIE, MAX_CSEQ

NewId = Callable[[], str]

FIRST_CSEQ = 1
"""Of our own requests in a dialog. Below 2**31 is all that is asked for (RFC 3261 section 8.1.1.5)."""

_FRACTION_BITS = 32


def new_branch(new_id: NewId) -> str:
    """A branch that identifies a transaction all by itself."""
    return BRANCH_COOKIE + new_id()


def new_fraction(new_id: NewId) -> float:
    """A random number from 0 to below 1, for back-off times."""
    return _number(new_id()) / float(1 << _FRACTION_BITS)


def new_rseq(new_id: NewId) -> int:
    """The number of a first reliable provisional response: random, and with room to count up."""
    return 1 + _number(new_id()) % (MAX_CSEQ // 2)


def _number(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=_FRACTION_BITS // 8).digest()
    return int.from_bytes(digest, "big")
