"""The caller on the line in virtual time: what it says and when, and what it makes of what it hears."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.media.format import ULAW_8K
from bridge.simulators.genesys_person import (
    ChangeLanguage,
    Hold,
    Person,
    ReportError,
    caller_actions,
    press_keys,
)
from bridge.simulators.genesys_protocol import LINGER_S
from bridge.simulators.genesys_record import State
from bridge.simulators.speech import load_clip, tone
from bridge.simulators.twilio_line import (
    DEMO_ACTIONS,
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
from tests.simulators.genesys_run import EXTERNAL, LineRun, T, offer, probe_setup

AGENT = tone(400, ULAW_8K, 1000)
SILENCE = b"\xff" * 160


def test_audio_goes_out_every_200_ms_from_opened_on() -> None:
    run = LineRun(WaitForClose())
    run.advance(1.0)
    assert run.audio() == []
    run.opened()
    run.advance(0.1999)
    assert run.audio() == []
    run.advance(0.8001)
    assert [len(frame) for frame in run.audio()] == [1600] * 5
    assert run.line.next_timer() == pytest.approx(T + 2.2)
    assert run.result.opened_ms == 1000.0


def test_ticks_that_come_late_are_made_up_for() -> None:
    run = LineRun(WaitForClose())
    run.opened()
    run.line.receive(b"\x00" * 1600, T + 0.45)
    run.line.handle_timer(T + 0.9)
    run.collect()
    assert len(run.audio()) == 4
    assert run.line.next_timer() == pytest.approx(T + 1.0)
    assert run.result.heard[:4000] == b"\xff" * 3600 + b"\x00" * 400


def test_a_session_that_ends_amid_late_ticks_sends_no_more() -> None:
    run = LineRun(WaitForClose())
    run.opened()
    run.advance(1.0)
    run.line.handle_timer(T + 30)  # no pong came
    run.collect()
    assert len(run.audio()) == 29  # the tick at 6 s finds the pong missing
    assert run.result.ended_by == "breach"


def test_the_caller_speaks_presses_keys_and_hangs_up_to_the_frame() -> None:
    run = LineRun(Silence(ms=40), Speak(clip="caller_thanks"), PressKey(digit="5"), Silence(ms=60), HangUp())
    run.opened()
    run.advance(3.0)
    clip = load_clip("caller_thanks")
    frames = -(-len(clip) // 160)
    said = b"".join(run.audio())
    assert said == SILENCE * 2 + clip.ljust(frames * 160, b"\xff") + SILENCE * 3
    [dtmf] = run.of("dtmf")
    [close] = run.of("close")
    assert (dtmf["parameters"], close["parameters"]) == ({"digit": "5"}, {"reason": "end"})
    assert close["position"] == f"PT{len(said) / 8000:g}S"
    assert run.result.ended_by == "caller"
    assert [what for _, what in run.result.timeline] == [
        "open sent",
        "opened",
        "caller speaks caller_thanks",
        "caller stops speaking",
        "caller presses 5",
        "caller hangs up",
    ]


def test_hold_is_a_gap_to_the_frame_between_paused_and_resumed() -> None:
    run = LineRun(Silence(ms=100), Hold(ms=500), WaitForClose())
    run.opened()
    run.advance(1.0)
    assert [len(frame) for frame in run.audio()] == [800, 1600, 1600]
    [paused], [resumed] = run.of("paused"), run.of("resumed")
    assert (paused["position"], resumed["parameters"]) == ("PT0.1S", {"start": "PT0.1S", "discarded": "PT0.5S"})
    assert resumed["position"] == "PT0.6S"
    assert run.result.frames_sent == 3
    assert len(run.result.said) == 8000


def test_lost_audio_is_discarded_to_the_frame() -> None:
    run = LineRun(Silence(ms=100), LoseAudio(ms=300), ChangeLanguage(language="de-DE"), ReportError(), WaitForClose())
    run.opened()
    run.advance(0.8)
    assert [len(frame) for frame in run.audio()] == [800, 1600, 1600]
    assert run.of("discarded")[0]["parameters"] == {"start": "PT0.1S", "discarded": "PT0.3S"}
    assert run.of("update")[0]["parameters"] == {"language": "de-DE"}
    assert run.of("error")[0]["parameters"] == {"code": 500, "message": "Internal error"}
    assert run.session.outbox.position == 6400


def test_the_internal_channel_carries_what_the_caller_hears() -> None:
    run = LineRun(WaitForClose(), setup=offer("internal"))
    run.opened(media=[{**EXTERNAL, "channels": ["internal"]}])
    run.feed(AGENT)
    run.advance(0.4)
    assert b"".join(run.audio()) == AGENT[:3200]


def test_the_caller_waits_until_the_agent_has_finished() -> None:
    run = LineRun(WaitForAgentEnd(quiet_ms=700), PressKey(digit="1"), WaitForClose())
    run.advance(0.25)
    run.opened()
    run.advance(0.5)
    run.feed(AGENT)
    run.answer_pings(1.6)
    assert run.of("dtmf") == []
    run.answer_pings(0.4)
    assert len(run.of("dtmf")) == 1
    assert (750, "agent audible") in run.result.timeline
    run.line.hang_up(run.now)
    run.server("closed")
    run.advance(LINGER_S)
    assert run.result.first_audio_ms == 750.0


def test_a_barge_in_has_its_reaction_and_the_answer_its_delay() -> None:
    run = LineRun(Interrupt(clip="caller_thanks", after_ms=600), WaitForClose())
    run.opened()
    run.advance(0.1)
    run.feed(AGENT * 5)
    run.answer_pings(0.8)
    assert (700, "caller barges in") in run.result.timeline
    run.advance(0.03)
    run.barge_in()
    assert (930, "barge_in, 4170 ms dropped") in run.result.timeline
    run.answer_pings(2.0)
    run.feed(AGENT)
    run.answer_pings(1.0)
    run.barge_in()  # nobody barged in
    run.line.hang_up(run.now)
    run.server("closed")
    run.advance(LINGER_S)
    result = run.result
    assert result.reaction_ms == [230.0]
    assert [at_ms for at_ms, _ in result.timeline] == sorted(at_ms for at_ms, _ in result.timeline)
    stopped_ms = next(at for at, what in result.timeline if what == "caller stops speaking")
    assert result.response_ms == [pytest.approx(2_930 - stopped_ms, abs=20)]
    assert len(result.barge_ins) == 2
    assert result.breaches == []


def test_pauses_inside_the_agents_speech_do_not_end_it() -> None:
    run = LineRun(WaitForClose())
    run.opened()
    run.feed(AGENT + b"\xff" * 3_200 + AGENT)
    run.answer_pings(4.0)
    assert [entry for entry in run.result.timeline if "agent" in entry[1]] == [
        (0, "agent audible"),
        (2400, "agent silent"),
    ]


def test_waiting_for_a_silent_agent_ends_with_its_time_limit() -> None:
    run = LineRun(WaitForAgentEnd(timeout_ms=200), WaitForClose(timeout_ms=100), PressKey(digit="1"), WaitForClose())
    run.opened()
    run.advance(0.4)
    assert len(run.of("dtmf")) == 1


def test_a_probe_opens_and_closes_without_audio() -> None:
    run = LineRun(Speak(clip="caller_thanks"), setup=probe_setup())
    run.opened()
    run.advance(1.0)
    run.server("closed")
    run.advance(LINGER_S)
    assert [message["type"] for message in run.sent] == ["open", "close"]
    assert run.line.finished
    result = run.result
    assert (result.ended_by, result.succeeded, result.frames_sent) == ("probe", True, 0)


def test_the_server_ends_the_call_and_the_books_are_closed() -> None:
    run = LineRun(WaitForClose())
    run.advance(0.01)
    run.opened()
    run.feed(AGENT[:1600])
    run.answer_pings(0.23)
    run.feed(AGENT[1600:])
    run.answer_pings(1.5)
    run.server("disconnect", {"reason": "completed", "outputVariables": {"city": "Ulm"}})
    run.server("closed")
    run.advance(LINGER_S)
    result = run.result
    assert (result.ended_by, result.architect_path, result.output_variables) == ("server", "success", {"city": "Ulm"})
    assert (result.media, result.opened_ms, result.unplayed_ms) == ("PCMU external", 10.0, 0.0)
    assert result.gaps == [Gap(210.0, 30.0)]
    assert result.duration_ms == pytest.approx(1730.0)
    assert len(result.said) == len(result.heard) == round(result.duration_ms * 8)
    assert result.heard[:1600] == AGENT[:1600] and result.heard[1840 : 1840 + 6400] == AGENT[1600:]
    assert result.playback_events == ["playback_started", "playback_completed"] * 2
    assert result.counts.audio_ms == 1000.0 and result.counts.binary_messages == 2
    assert len(result.rtt_ms) == 2 and result.lead_max_ms == 800.0
    assert (result.least_binary_tokens, result.succeeded) == (24.0, True)


def test_a_goodbye_that_is_cut_off_shows() -> None:
    run = LineRun(WaitForClose())
    run.opened()
    run.feed(AGENT)
    run.advance(0.3)
    run.server("disconnect", {"reason": "completed"})
    run.server("closed")
    run.advance(LINGER_S)
    assert run.result.unplayed_ms == 700.0
    assert run.result.disconnect is not None and run.result.disconnect.unplayed_ms == 700.0


def test_a_breach_ends_the_call() -> None:
    run = LineRun(WaitForClose())
    run.opened()
    run.feed("nonsense")
    run.server_seq += 1
    run.server("closed")
    run.advance(LINGER_S)
    result = run.result
    assert (result.ended_by, result.architect_path, result.succeeded) == ("breach", "failure", False)
    assert run.texts() == ["Message not well-formed JSON"]
    assert "session ended for a breach: Message not well-formed JSON" in [what for _, what in result.timeline]


@pytest.mark.parametrize("when", ["opening", "open", "disconnected"])
def test_a_socket_that_the_server_closes_loses_the_call(when: str) -> None:
    run = LineRun(WaitForClose())
    if when != "opening":
        run.opened()
        run.advance(0.3)
    if when == "disconnected":
        run.server("disconnect", {"reason": "completed", "outputVariables": {"a": "b"}})
    run.line.connection_lost(1001, "going away", run.now)
    result = run.result
    assert (result.ended_by, result.close_code, result.architect_path) == ("lost", 1001, "failure")
    assert result.output_variables == {}
    assert "socket closed with 1001 going away" in [what for _, what in result.timeline]
    run.line.connection_lost(1001, "", run.now)
    run.line.receive(b"x", run.now)
    assert len(result.breaches) == 1
    assert run.line.next_timer() == float("inf")


@pytest.mark.parametrize("closed", [True, False])
def test_who_hung_up_first_stays_so(closed: bool) -> None:
    run = LineRun(WaitForClose())
    run.opened()
    run.line.hang_up(run.now, "time")
    run.line.hang_up(run.now)
    if closed:
        run.server("closed")
    run.line.connection_lost(1000, "", run.now)
    assert (run.result.ended_by, run.result.architect_path, run.session.state) == ("time", "none", State.GONE)


def test_a_disconnect_that_crosses_the_hang_up_hands_nothing_over() -> None:
    run = LineRun(WaitForClose())
    run.opened()
    run.line.hang_up(run.now)
    run.server("disconnect", {"reason": "completed", "outputVariables": {"a": "b"}})
    run.server("closed")
    run.advance(LINGER_S)
    assert (run.result.ended_by, run.result.output_variables, run.result.succeeded) == ("caller", {}, True)


def test_without_audio_kept_the_call_takes_no_memory() -> None:
    run = LineRun(Speak(clip="caller_thanks"), WaitForClose(), keep_audio=False)
    run.opened()
    run.feed(AGENT)
    run.answer_pings(2.0)
    run.line.hang_up(run.now)
    run.server("closed")
    run.advance(LINGER_S)
    assert (len(run.result.said), len(run.result.heard)) == (0, 0)
    assert run.result.duration_ms == 2000.0
    assert run.result.first_audio_ms == 0.0


def test_a_rest_of_silence_keeps_both_tracks_on_one_clock() -> None:
    run = LineRun(WaitForClose())
    run.opened()
    run.advance(0.25)
    run.line.hang_up(run.now)
    run.server("closed")
    run.advance(LINGER_S)
    assert len(run.result.said) == len(run.result.heard) == 2000


# --- scripts ---------------------------------------------------------------------------------------------


def test_keys_come_after_the_greeting() -> None:
    actions = press_keys("1#")
    assert actions[:5] == (
        WaitForAgentEnd(),
        PressKey(digit="1"),
        Silence(ms=200),
        PressKey(digit="#"),
        Silence(ms=200),
    )
    assert actions[5:] == DEMO_ACTIONS[1:]


def test_what_the_caller_does_may_come_from_a_file(tmp_path: Path) -> None:
    script = tmp_path / "mine.json"
    script.write_text('[{"action":"hold","ms":500},{"action":"speak","clip":"caller_thanks"},{"action":"hang_up"}]')
    assert caller_actions(script, "") == (Hold(ms=500), Speak(clip="caller_thanks"), HangUp())
    assert caller_actions(None, "") == DEMO_ACTIONS
    assert caller_actions(None, "9") == press_keys("9")
    with pytest.raises(ValueError, match="^give the keys in the script, or without a script$"):
        caller_actions(script, "9")
    with pytest.raises(ValueError, match=r"^digits are 0-9 \* # A-D$"):
        caller_actions(None, "x")
    script.write_text('[{"action":"dance"}]')
    with pytest.raises(ValueError, match=r"^mine\.json is no list of actions: .*dance"):
        caller_actions(script, "")
    with pytest.raises(OSError, match=r"missing\.json"):
        caller_actions(tmp_path / "missing.json", "")


def test_a_person_alone() -> None:
    notes: list[tuple[float, str]] = []
    person = Person((Speak(clip="caller_thanks"),), lambda at_ms, what: notes.append((at_ms, what)))
    said = b"".join(person.step(20.0 * n, SILENCE) for n in range(100))
    clip = load_clip("caller_thanks")
    assert said[: len(clip)] == clip and set(said[len(clip) :]) == {0xFF}
    person.cleared(0)
    assert person.reaction_ms == []
    assert json.dumps(notes).count("caller") == 3
