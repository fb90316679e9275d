"""Whether a number is on a list of patterns: which callers a trunk takes, and which called numbers are its own.

Pure. What a pattern is, and which spellings a number has, is the business of ``bridge.calls.numbers``.
"""

from __future__ import annotations

from functools import lru_cache

from bridge.calls.numbers import matches, spellings

_KEPT_LISTS = 256
"""Lists whose order by kind is remembered: one or two of each trunk."""


def is_listed(patterns: tuple[str, ...], address: str) -> bool:
    """Whether the number or SIP address fits one of the patterns, in whichever spelling."""
    exact, wild = _sorted(patterns)
    known_as = spellings(address)
    return any(text in exact for text in known_as) or any(
        matches(pattern, text) for pattern in wild for text in known_as
    )


@lru_cache(_KEPT_LISTS)
def _sorted(patterns: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Patterns without a star, which are a matter of one look, and those with one."""
    return (
        frozenset(pattern for pattern in patterns if "*" not in pattern),
        tuple(pattern for pattern in patterns if "*" in pattern),
    )
