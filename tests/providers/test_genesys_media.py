"""Which offer is taken, and what becomes of its channels."""

from __future__ import annotations

import json

import msgspec
import pytest

from bridge.providers.genesys_media import MAX_OFFERS, Channels, choose
from tests.kit.genesys import INTERNAL, INVERTED, L16, MONO, STEREO


def chosen(*offers: object) -> tuple[object, int, int] | None:
    choice = choose([msgspec.Raw(json.dumps(offer).encode()) for offer in offers])
    return None if choice is None else (json.loads(choice[0]), choice[1].count, choice[1].caller)


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        ((MONO,), (MONO, 1, 0)),
        ((STEREO, MONO, INTERNAL), (MONO, 1, 0)),
        ((INVERTED, INTERNAL, MONO), (MONO, 1, 0)),
        ((STEREO,), (STEREO, 2, 0)),
        ((INTERNAL, INVERTED, STEREO), (INVERTED, 2, 1)),
        ((INTERNAL,), (INTERNAL, 1, 0)),
        ((L16, INTERNAL), (INTERNAL, 1, 0)),
        ((L16, MONO), (MONO, 1, 0)),
        ((L16,), None),
        ((), None),
        (({**MONO, "rate": 16000},), None),
        (({**MONO, "type": "video"},), None),
        (({**MONO, "format": "PCMA"},), None),
        (({**MONO, "channels": []},), None),
        (({**MONO, "channels": ["external", "external"]},), None),
        (({**MONO, "channels": ["external", "internal", "other"]},), None),
        (("PCMU", None, 1, {}, {**MONO, "rate": "8000"}, MONO), (MONO, 1, 0)),
        ((*[L16] * MAX_OFFERS, MONO), None),
    ],
)
def test_the_choice_depends_on_the_offers_alone(offers: tuple[object, ...], expected: object) -> None:
    assert chosen(*offers) == expected


def test_among_equals_the_first_is_taken_and_as_it_was_written() -> None:
    first = b'{ "rate":8000, "type":"audio", "x":[1], "format":"PCMU", "channels":["external"] }'
    choice = choose([msgspec.Raw(first), msgspec.Raw(json.dumps(MONO).encode())])
    assert choice is not None
    assert choice[0] == first.decode()


def test_channels_are_cut_out_and_spread() -> None:
    assert Channels(1, 0).extract(b"abc") == b"abc"
    assert Channels(2, 0).extract(b"aAbBcC") == b"abc"
    assert Channels(2, 1).extract(b"AaBbCc") == b"abc"
    assert Channels(2, 0).extract(b"aAbBc") == b"ab"
    assert Channels(2, 1).extract(b"A") == b""
    assert Channels(1, 0).spread(b"abc") == b"abc"
    assert Channels(2, 1).spread(b"abc") == b"aabbcc"
