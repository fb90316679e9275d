from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from bridge.media.format import ULAW_8K
from bridge.simulators.call_result import MAX_TIMELINE, CallResult
from bridge.simulators.speech import load_clip, tone
from bridge.simulators.twilio_line import (
    AnyAction,
    CloseStream,
    FakeTwilio,
    HangUp,
    Interrupt,
    LoseAudio,
    PressKey,
    Silence,
    Speak,
    WaitForAgentEnd,
    WaitForClose,
)
from bridge.simulators.twilio_playout import Gap
from bridge.simulators.twilio_protocol import TwilioStream

T = 50.0
MZ = "MZ1"
SILENCE = b"\xff" * 160


class Line:
    """A line in virtual time; ``sent`` is what came from it."""

    def __init__(self, *actions: AnyAction, result: CallResult | None = None) -> None:
        self.now = T
        self.twilio = FakeTwilio(TwilioStream("CA1", MZ, "AC1", {}), actions, T, result)
        self.sent: list[dict[str, Any]] = []
        self.closed_at: float | None = None
        self._drain()

    @property
    def result(self) -> CallResult:
        return self.twilio.result

    def advance(self, ms: float) -> None:
        end_s = T + round((self.now - T) * 1000 + ms) / 1000
        while self.twilio.next_timer() <= end_s:
            self.now = max(self.now, self.twilio.next_timer())
            self.twilio.handle_timer(self.now)
            self._drain()
        self.now = end_s

    def send(self, event: str, **body: str) -> None:
        message: dict[str, Any] = {"event": event, "streamSid": MZ}
        self.twilio.receive(json.dumps({**message, event: body} if body else message), self.now)
        self._drain()

    def play(self, payload: bytes) -> None:
        self.send("media", payload=base64.b64encode(payload).decode())

    def of(self, event: str) -> list[dict[str, Any]]:
        return [message for message in self.sent if message["event"] == event]

    def said(self) -> bytes:
        return b"".join(base64.b64decode(message["media"]["payload"]) for message in self.of("media"))

    def _drain(self) -> None:
        for action in self.twilio.drain():
            if isinstance(action, CloseStream):
                self.closed_at = self.now
            else:
                self.sent.append(json.loads(action))


AGENT = tone(400, ULAW_8K, 1000)


def test_a_call_begins_with_connected_start_and_then_a_frame_every_20_ms() -> None:
    line = Line(WaitForClose())
    assert [message["event"] for message in line.sent] == ["connected", "start"]
    line.advance(999)
    assert line.said() == SILENCE * 50
    assert [message["media"]["timestamp"] for message in line.of("media")] == [str(20 * n) for n in range(50)]
    assert line.twilio.next_timer() == T + 1.0


def test_ticks_that_come_late_are_made_up_for() -> None:
    line = Line(WaitForClose())
    line.twilio.handle_timer(T + 0.5)
    line._drain()
    assert len(line.of("media")) == 26
    assert line.twilio.next_timer() == T + 0.52


def test_the_caller_speaks_waits_and_presses_keys_in_order() -> None:
    line = Line(Silence(ms=40), Speak(clip="caller_thanks"), PressKey(digit="5"), PressKey(digit="#"), Silence(ms=60))
    line.advance(2_000)
    clip = load_clip("caller_thanks")
    assert line.said()[: 320 + len(clip)] == SILENCE * 2 + clip
    assert [message["dtmf"]["digit"] for message in line.of("dtmf")] == ["5", "#"]
    order = [message["event"] for message in line.sent].index("dtmf")
    assert order == 2 + 2 + -(-len(clip) // 160)  # connected, start, silence, speech
    assert [what for _, what in line.result.timeline] == [
        "stream started",
        "caller speaks caller_thanks",
        "caller stops speaking",
        "caller presses 5",
        "caller presses #",
    ]


def test_lost_audio_leaves_a_hole_in_the_stream_but_not_in_the_callers_track() -> None:
    line = Line(Silence(ms=40), LoseAudio(ms=60), WaitForClose())
    line.advance(139)
    counts = [(media["sequenceNumber"], media["media"]["timestamp"]) for media in line.of("media")]
    assert counts == [("2", "0"), ("3", "20"), ("7", "100"), ("8", "120")]
    assert (line.result.frames_sent, len(line.result.said)) == (4, 7 * 160)


def test_hanging_up_sends_stop_and_closes() -> None:
    line = Line(Silence(ms=100), HangUp(), Speak(clip="caller_thanks"))
    line.advance(1_000)
    assert line.sent[-1]["event"] == "stop"
    assert line.closed_at == pytest.approx(T + 0.1)
    assert (line.result.ended_by, line.result.close_code, line.twilio.finished) == ("caller", 1000, True)
    assert line.result.duration_ms == 100.0
    line.twilio.connection_lost(1000, "", line.now)
    line.twilio.hang_up(line.now)
    line.twilio.receive("x", line.now)
    line.twilio.handle_timer(line.now)
    assert (line.result.ended_by, line.twilio.drain(), line.result.violations) == ("caller", [], [])
    assert line.twilio.next_timer() == float("inf")


def test_the_caller_waits_until_the_agent_has_finished() -> None:
    line = Line(WaitForAgentEnd(quiet_ms=700), PressKey(digit="1"))
    line.advance(500)
    line.play(AGENT)
    line.advance(1_600)
    assert line.of("dtmf") == []
    line.advance(140)
    assert len(line.of("dtmf")) == 1
    assert (500, "agent audible") in line.result.timeline
    assert line.result.first_audio_ms == 500.0


def test_waiting_for_a_silent_agent_ends_with_its_time_limit() -> None:
    line = Line(WaitForAgentEnd(timeout_ms=200), WaitForClose(timeout_ms=100), PressKey(digit="1"))
    line.advance(299)
    assert line.of("dtmf") == []
    line.advance(41)
    assert len(line.of("dtmf")) == 1


def test_pauses_inside_the_agents_speech_do_not_end_it() -> None:
    line = Line(WaitForClose())
    line.play(AGENT + b"\xff" * 3_200 + AGENT)  # 400 ms
    line.advance(4_000)
    assert [entry for entry in line.result.timeline if "agent" in entry[1]] == [
        (0, "agent audible"),
        (2400, "agent silent"),
    ]


def test_the_caller_barges_in_when_the_agent_has_been_audible_long_enough() -> None:
    line = Line(Interrupt(clip="caller_thanks", after_ms=600), WaitForAgentEnd(), PressKey(digit="1"), WaitForClose())
    line.advance(100)
    line.play(AGENT * 10)
    line.advance(720)
    assert (700, "caller barges in") in line.result.timeline
    line.advance(110)
    line.send("mark", name="m")
    line.send("clear")
    assert line.of("mark")[0]["mark"]["name"] == "m"
    assert line.result.reaction_ms == [230.0]
    assert (930, "clear, 9170 ms dropped, 1 marks back") in line.result.timeline
    line.advance(2_000)
    assert line.of("dtmf") == []  # what was heard before the barge-in is not the answer
    line.play(AGENT)
    line.advance(2_000)
    assert len(line.of("dtmf")) == 1
    stopped_ms = next(at for at, what in line.result.timeline if what == "caller stops speaking")
    assert line.result.response_ms == [pytest.approx(2_930 - stopped_ms, abs=20)]
    line.send("clear")
    assert (line.result.clear_count, len(line.result.reaction_ms)) == (2, 1)


def test_the_bridge_closes_and_what_was_not_played_is_counted() -> None:
    line = Line(WaitForClose())
    line.advance(100)
    line.play(AGENT)
    line.advance(400)
    line.play(b"\x00")
    line.twilio.connection_lost(1001, "going away", line.now)
    result = line.result
    assert (result.ended_by, result.close_code, result.close_reason) == ("bridge", 1001, "going away")
    assert result.unplayed_ms == pytest.approx(600.125)
    assert (result.frames_sent, result.media_messages, result.media_bytes) == (26, 2, 8_001)
    assert result.heard[800:4_000] == AGENT[:3_200]
    assert len(result.heard) == len(result.said)
    assert result.lead_max_ms == 1_000.0


def test_a_line_that_breaks_is_lost() -> None:
    line = Line(WaitForClose())
    line.twilio.connection_lost(1006, "", T)
    assert line.result.ended_by == "lost"


def test_a_second_stream_of_the_call_continues_the_result() -> None:
    first = Line(Speak(clip="caller_thanks"), HangUp())
    first.advance(500)
    first.twilio.connection_lost(1000, "", first.now)
    assert first.twilio.remaining_actions() == [Speak(clip="caller_thanks"), HangUp()]
    first_ms = first.result.duration_ms
    second = Line(WaitForClose(), result=first.result)
    second.play(AGENT[:160])
    second.advance(30)
    second.play(AGENT)
    second.advance(70)
    second.twilio.receive(b"\x00", second.now)
    second.twilio.connection_lost(1000, "", second.now)
    result = second.result
    assert result.stream_sids == [MZ, MZ]
    assert result.gaps == [Gap(first_ms + 20.0, 10.0)]
    assert result.duration_ms == pytest.approx(first_ms + 120, abs=20)
    assert (round(first_ms), "stream started") in result.timeline
    summary = json.loads(json.dumps(result.to_json()))
    assert (summary["gap_count"], summary["gap_ms"]) == (1, 10.0)
    assert summary["violations"] == [
        {"code": 31950, "text": "binary message of 1 bytes; Twilio takes JSON text only", "at_ms": 100.0}
    ]
    assert "heard" not in summary and summary["heard_ms"] == result.duration_ms


def test_a_timeline_does_not_grow_for_ever() -> None:
    result = CallResult()
    for index in range(MAX_TIMELINE + 5):
        result.note(index, "x")
    assert len(result.timeline) == MAX_TIMELINE
