"""``bridge.simulators.vonage_line``: a scripted caller on a media socket, in virtual time."""

from __future__ import annotations

import json
import math

import pytest

from bridge.media.format import Encoding, MediaFormat
from bridge.simulators.genesys_person import AnyAction, Hold
from bridge.simulators.speech import tone
from bridge.simulators.twilio_line import HangUp, Interrupt, LoseAudio, PressKey, Silence, Speak, WaitForAgentEnd
from bridge.simulators.vonage_line import Inject, VonageLine
from bridge.simulators.vonage_result import Intervals, VonageResult, intervals
from bridge.simulators.vonage_socket import AbortSocket, CloseSocket, Outgoing, SocketSetup, VonageSocket

T = 1000.0


class Run:
    """A line in virtual time."""

    def __init__(self, *actions: AnyAction, rate_hz: int = 16000, injections: tuple[Inject, ...] = ()) -> None:
        self.now = T
        self.media = MediaFormat(Encoding.L16, rate_hz)
        self.result = VonageResult()
        self.line = VonageLine(
            VonageSocket(SocketSetup(rate_hz=rate_hz), T), actions, self.result, injections=injections
        )
        self.out: list[tuple[float, Outgoing]] = []

    def to(self, seconds: float) -> None:
        """Let time pass until so long after the start."""
        while not self.line.finished and (due := self.line.next_timer()) <= T + seconds:
            self.now = max(self.now, due)
            self.line.handle_timer(self.now)
            self.out += [(self.now - T, item) for item in self.line.drain()]
        self.now = T + seconds

    def agent_says(self, ms: int, hz: float = 1000.0) -> None:
        audio, size = tone(hz, self.media, ms), self.media.size_bytes(20)
        for start in range(0, len(audio), size):
            self.line.receive(audio[start : start + size], self.now)

    def texts(self) -> list[dict[str, object]]:
        return [json.loads(item) for _, item in self.out if isinstance(item, str)]


@pytest.mark.parametrize("rate_hz", [8000, 16000, 24000])
def test_a_frame_every_20_ms(rate_hz: int) -> None:
    run = Run(Speak(clip="caller_thanks"), HangUp(), rate_hz=rate_hz)
    run.to(3.0)
    frames = [(at_s, item) for at_s, item in run.out if isinstance(item, bytes)]
    assert {len(item) for _, item in frames} == {rate_hz // 25}
    assert [round(at_s * 1000) for at_s, _ in frames[:3]] == [20, 40, 60]
    assert run.out[-1][1] == CloseSocket()
    assert (run.result.ended_by, run.result.frames_sent) == ("caller", len(frames))
    assert run.line.next_timer() == math.inf
    loudest = max(abs(int.from_bytes(item[:2], "little", signed=True)) for _, item in frames)
    assert loudest > 1000, "the clip can be heard"


@pytest.mark.parametrize("rate_hz", [8000, 16000, 24000])
def test_what_is_heard_at_any_rate(rate_hz: int) -> None:
    run = Run(WaitForAgentEnd(), HangUp(), rate_hz=rate_hz)
    run.to(0.1)
    run.agent_says(400)
    run.to(5.0)
    assert run.result.heard_tones_hz() == pytest.approx([1000], abs=5)
    assert run.result.first_audio_ms == pytest.approx(100, abs=40)
    assert run.result.succeeded
    assert (run.result.frames_received, run.result.unplayed_ms, run.result.gaps) == (20, 0, [])
    assert len(run.result.said) == len(run.result.heard)


def test_a_barge_in_is_timed() -> None:
    run = Run(Interrupt(after_ms=200), HangUp())
    run.to(0.1)
    run.agent_says(2000)
    run.to(0.5)
    run.line.receive('{"action":"clear"}', run.now)
    run.to(5.0)
    [reaction_ms] = run.result.reaction_ms
    assert 0 < reaction_ms < 250
    assert run.result.cleared_ms == pytest.approx(1600, abs=1)
    assert {"event": "websocket:cleared"} in run.texts()
    assert "1600 ms dropped" in run.result.to_text()


def test_keys_injections_and_lost_audio() -> None:
    run = Run(PressKey(digit="7"), LoseAudio(ms=100), HangUp(), injections=(Inject(40, b"{}"), Inject(0, "text")))
    run.to(1.0)
    kinds = [item if not isinstance(item, bytes) or len(item) < 640 else "audio" for _, item in run.out]
    assert kinds[1:3] == ["text", '{"event":"websocket:dtmf","digit":"7","duration":260}']
    assert b"{}" in kinds
    assert kinds.count("audio") < 3


def test_notifies_come_back_when_they_are_due() -> None:
    run = Run(Silence(ms=1000), HangUp())
    run.to(0.1)
    run.agent_says(200)
    run.line.receive('{"action":"notify","payload":{"mark":"m"}}', run.now)
    run.to(2.0)
    [(at_s, _)] = [(at_s, item) for at_s, item in run.out if isinstance(item, str) and "notify" in item]
    assert at_s == pytest.approx(0.3, abs=0.001)
    assert run.result.notifies_echoed == [{"mark": "m"}]


def test_a_frame_of_another_size_ends_the_call() -> None:
    run = Run(Silence(ms=1000))
    run.to(0.1)
    run.line.receive(bytes(320), run.now)
    assert run.line.drain() == [AbortSocket()]
    assert (run.result.ended_by, run.result.close_code, run.result.succeeded) == ("violation", 1006, False)
    assert "unexpected frame size 320, when required 640" in run.result.to_text()
    run.line.receive(bytes(640), run.now)
    run.line.connection_lost(1006, "", run.now)
    run.line.hang_up(run.now)
    assert run.result.ended_by == "violation"


@pytest.mark.parametrize(("code", "by"), [(1000, "bridge"), (1006, "lost")])
def test_the_bridge_goes(code: int, by: str) -> None:
    run = Run(Silence(ms=1000))
    run.to(0.1)
    run.line.connection_lost(code, "bye", run.now)
    assert (run.result.ended_by, run.result.close_code, run.result.close_reason) == (by, code, "bye")
    assert run.result.to_json()["gaps_over_40_ms"] == 0


def test_what_a_vonage_line_does_not_have() -> None:
    with pytest.raises(ValueError, match="a caller over Vonage cannot Hold"):
        Run(Hold(ms=1))


def test_intervals() -> None:
    assert intervals([]) == Intervals()
    assert intervals([20.0] * 99 + [60.0]) == Intervals(100, 20.4, 20.0, 20.0, 60.0)
