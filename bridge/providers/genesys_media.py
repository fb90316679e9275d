"""Which of Genesys' media offers is taken, and how its channels map to one caller.

The choice depends on nothing but the offers. In order: external alone, external beside internal (the external channel
is cut out of the interleaved samples), internal alone; among equals the first. "External" is the caller; the Audio
Connector was only ever seen to offer that one.

Only PCMU is taken. L16 at 8 kHz would carry nothing that a phone line has, the Audio Connector does not offer it, and
its byte order is contested: by its name (RFC 3551) it is big-endian, Genesys' reference code reads it little-endian,
and the wrong one is deafening noise. A session whose offers are all of that kind is opened with ``media: []``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

SAMPLE_RATE_HZ = 8000
"""The one rate of AudioHook; PCMU has one byte a sample."""

MAX_OFFERS = 32
"""Offers that are looked at; Genesys sends three at most."""


class _Offer(msgspec.Struct, frozen=True):
    type: str
    format: str
    channels: list[str]
    rate: int


class Channels:
    """The channels of a chosen offer. Audio on our side is always mono."""

    __slots__ = ("caller", "count")

    def __init__(self, count: int, caller: int) -> None:
        self.count = count
        """1 or 2."""
        self.caller = caller
        """Number of the caller's channel."""

    def extract(self, interleaved: bytes) -> bytes:
        """The caller's samples; a sample that is not there for all channels is left out."""
        if self.count == 1:
            return interleaved
        return interleaved[self.caller : len(interleaved) - len(interleaved) % 2 : 2]

    def spread(self, mono: bytes) -> bytes:
        """Our audio in the negotiated layout: the same in every channel."""
        if self.count == 1:
            return mono
        return np.repeat(np.frombuffer(mono, np.uint8), 2).tobytes()


_LAYOUTS = {
    ("external",): (0, Channels(1, 0)),
    ("external", "internal"): (1, Channels(2, 0)),
    ("internal", "external"): (1, Channels(2, 1)),
    ("internal",): (2, Channels(1, 0)),
}
"""By the channels of an offer: its rank, the lowest is taken, and how to read it."""


def choose(offers: Sequence[msgspec.Raw]) -> tuple[str, Channels] | None:
    """The offer to take, as it was written, and its channels; None when none of them can be served."""
    found: list[tuple[int, str, Channels]] = []
    for raw in offers[:MAX_OFFERS]:
        try:
            offer = msgspec.json.decode(raw, type=_Offer)
        except (msgspec.DecodeError, RecursionError):
            continue  # an offer of tomorrow's: another one may be for us
        layout = _LAYOUTS.get(tuple(offer.channels))
        if layout is not None and (offer.type, offer.format, offer.rate) == ("audio", "PCMU", SAMPLE_RATE_HZ):
            rank, channels = layout
            found.append((rank, bytes(raw).decode(), channels))
    return min(found, key=lambda entry: entry[0])[1:] if found else None
