"""Who speaks and how loud: from what the call has anyway, without staying in the way of its audio."""

from __future__ import annotations

from time import monotonic

import pytest

from bridge.calls.tap import Tap
from bridge.media.format import ALAW_8K, PCM_16K, ULAW_8K, MediaFormat
from bridge.server.console.pulse import AGENT, CALLER, MAX_LEVEL, NOBODY, Glance, Glances, level_of
from tests.kit import convai
from tests.kit.audio import make_tone
from tests.kit.sessions import Table


@pytest.mark.parametrize("media", [ULAW_8K, ALAW_8K, PCM_16K], ids=lambda media: media.name)
def test_levels_go_from_silence_to_the_loudest_tone(media: MediaFormat) -> None:
    assert level_of(media.silence(media.size_bytes(20)), media) == 0
    tone = make_tone(1000, 40, media)
    assert 4 <= level_of(tone, media) <= MAX_LEVEL
    assert level_of(b"", media) == 0


def test_a_level_is_six_decibels() -> None:
    loud = (8000).to_bytes(2, "little") * 160
    assert level_of(loud, PCM_16K) - level_of((4000).to_bytes(2, "little") * 160, PCM_16K) == 1
    assert level_of((32767).to_bytes(2, "little") * 160, PCM_16K) == MAX_LEVEL
    assert level_of(loud + b"\x01", PCM_16K) == level_of(loud, PCM_16K), "an odd byte is no sample"


class Heard:
    def __init__(self) -> None:
        self.agents: list[bytes] = []
        self.flushes = 0

    def caller(self, payload: bytes, now: float) -> None:
        raise AssertionError("the caller does not come this way")

    def agent(self, payload: bytes, now: float) -> None:
        self.agents.append(payload)

    def flush(self, now: float) -> None:
        self.flushes += 1


async def test_a_glance_takes_one_piece_and_steps_aside() -> None:
    table = await Table().activate()
    downlink = table.session.call.downlink
    assert downlink is not None
    behind = Heard()
    downlink.tap = behind
    glance: Tap = Glance(downlink)
    assert downlink.tap is glance
    glance.flush(0.0)
    glance.agent(b"one", 0.0)
    assert (downlink.tap, behind.agents, behind.flushes) == (behind, [b"one"], 1)
    lonely = Glance(downlink)
    downlink.tap = None  # somebody else has decided meanwhile
    lonely.agent(b"two", 0.0)
    assert downlink.tap is None
    table.hang_up()


async def test_a_pulse_says_who_speaks() -> None:
    table = Table()
    glances = Glances()
    assert glances.pulse(table.session, monotonic()).state == "waiting"
    await table.activate()
    session = table.session
    assert glances.pulse(session, monotonic()).speaks == NOBODY
    session.from_agent(convai.audio(make_tone(1000, 400, ULAW_8K), 1))
    first = glances.pulse(session, monotonic())
    assert (first.speaks, first.agent_level) == (AGENT, 0), "nothing has passed since anybody looked"
    session.from_agent(convai.audio(make_tone(1000, 400, ULAW_8K), 1))
    session.step(lambda now: session.call.handle_timer(now + 0.3))
    assert glances.pulse(session, monotonic()).agent_level >= 4
    glances.close()
    assert session.call.downlink is not None and session.call.downlink.tap is None
    table.hang_up()


async def test_the_callers_level_is_that_of_the_latest_frame() -> None:
    table = await Table().activate()
    session = table.session
    session.call.leg.last_payload = make_tone(1000, 20, ULAW_8K)
    session._ear.listen(0.0)
    for at_s in (0.1, 0.2, 0.3):
        session._ear.listen(at_s)
    pulse = Glances().pulse(session, monotonic())
    assert (pulse.speaks, pulse.caller_level >= 4, pulse.response_ms) == (CALLER, True, -1)
    table.hang_up()
