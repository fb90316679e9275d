"""What a message says about extensions: the option tags of Require and Supported (RFC 3261 sections 20.32, 20.37)."""

from __future__ import annotations

from bridge.sip.errors import HeaderError
from bridge.sip.grammar import tokens
from bridge.sip.headers import Headers


def listed(headers: Headers, name: str) -> tuple[str, ...]:
    """The tokens of a header such as Allow; none if it cannot be read."""
    values = headers.all(name)
    if not values:
        return ()
    try:
        return tokens(values)
    except HeaderError:
        return ()


def requires(headers: Headers, tag: str) -> bool:
    """Whether Require names this (lower-case) tag."""
    return any(one.lower() == tag for one in listed(headers, "Require"))


def supports(headers: Headers, tag: str) -> bool:
    """Whether Supported names this (lower-case) tag, or Require does."""
    return any(one.lower() == tag for one in listed(headers, "Supported")) or requires(headers, tag)
