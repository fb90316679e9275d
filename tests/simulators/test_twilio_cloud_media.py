from __future__ import annotations

import pytest

from bridge.simulators.twilio_cloud_media import (
    QUIET,
    SILENT_FRAME,
    Bridged,
    Player,
    beep,
    mix,
    music,
    ringback,
    ulaw_tone,
)
from tests.simulators.twilio_bridge import has_pitch


def test_one_voice_passes_unchanged_and_two_are_added() -> None:
    low, high = ulaw_tone((500.0,), 20), ulaw_tone((2000.0,), 20)
    assert mix([]) == SILENT_FRAME
    assert mix([SILENT_FRAME, low]) == low
    both = b"".join(mix([low, high]) for _ in range(10))
    assert not has_pitch(10 * low, 2000.0)
    assert mix([low, high]) not in (low, high) and len(both) == 1600


async def test_a_player_plays_once_or_for_ever() -> None:
    player = Player(bytes(range(200)))
    assert player.hear(0.0) == bytes(range(160)) and not player.done.is_set()
    assert player.hear(0.0) == bytes(range(160, 200)) + 120 * b"\xff" and player.done.is_set()
    assert player.hear(0.0) == SILENT_FRAME
    again = Player(b"\x01" * 160, forever=True)
    assert [again.hear(0.0) for _ in range(3)] == 3 * [b"\x01" * 160] and not again.done.is_set()
    assert not again.key("1") and not again.joined


def test_what_is_not_connected_hears_nothing() -> None:
    assert QUIET.hear(0.0) == SILENT_FRAME and not QUIET.joined and not QUIET.key("1")


def test_a_bridged_leg_hears_the_other() -> None:
    class Other:
        out = b"\x07" * 160

    assert Bridged(Other()).hear(0.0) == b"\x07" * 160 and Bridged(Other()).joined


@pytest.mark.parametrize(("player", "hz"), [(music(), 660.0), (ringback(), 440.0)])
def test_pitches(player: Player, hz: float) -> None:
    assert has_pitch(b"".join(player.hear(0.0) for _ in range(20)), hz, at_least_ms=20)
    assert has_pitch(beep(), 1400.0)
