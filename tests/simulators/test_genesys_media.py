from __future__ import annotations

import pytest

from bridge.media.g711 import ulaw_to_pcm
from bridge.simulators.genesys_media import OFFERS, decode_audio, encode_frame

CALLER, BOT = bytes(range(8)), bytes(range(100, 108))


def test_the_real_offer() -> None:
    [entry] = OFFERS["external"]
    assert (entry.type, entry.format, entry.channels, entry.rate) == ("audio", "PCMU", ("external",), 8000)


def test_channels_are_interleaved_in_their_order() -> None:
    both, external, internal = OFFERS["both"]
    [inverted] = OFFERS["inverted"]
    assert encode_frame(external, CALLER, BOT) == CALLER
    assert encode_frame(internal, CALLER, BOT) == BOT
    assert encode_frame(both, CALLER[:2], BOT[:2]) == bytes([0, 100, 1, 101])
    assert encode_frame(inverted, CALLER[:2], BOT[:2]) == bytes([100, 0, 101, 1])


def test_l16_is_big_endian() -> None:
    [entry] = OFFERS["l16"]
    pcm = ulaw_to_pcm(CALLER)
    swapped = bytes(pcm[index ^ 1] for index in range(len(pcm)))
    assert encode_frame(entry, CALLER, BOT) == swapped
    assert decode_audio(entry, swapped) == CALLER


@pytest.mark.parametrize(("name", "size"), [("external", 1), ("stereo", 2), ("l16", 2)])
def test_the_size_of_a_sample(name: str, size: int) -> None:
    assert OFFERS[name][0].bytes_per_sample == size


def test_the_caller_hears_the_first_channel() -> None:
    assert decode_audio(OFFERS["external"][0], CALLER) == CALLER
    assert decode_audio(OFFERS["stereo"][0], bytes([1, 2, 3, 4])) == bytes([1, 3])
