"""The session against right and wrong servers, in virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.format import ULAW_8K
from bridge.simulators.genesys_limits import Limits, Rate
from bridge.simulators.genesys_playout import Playback
from bridge.simulators.genesys_protocol import LINGER_S, GenesysSession
from bridge.simulators.genesys_record import State
from bridge.simulators.genesys_setup import NULL_UUID, parse_custom_config, parse_variables
from bridge.simulators.genesys_wire import MAX_BREACHES
from tests.simulators.genesys_run import (
    CONVERSATION,
    EXTERNAL,
    ORGANIZATION,
    PARTICIPANT,
    SESSION,
    SessionRun,
    T,
    offer,
    probe_setup,
    setup_for,
)

FRAME = b"\x55" * 1600
SILENCE = b"\xff" * 1600


def running(setup: Any = None, **limits: Any) -> SessionRun:
    """An open session."""
    run = SessionRun(setup, limits=Limits(**limits) if limits else None)
    run.opened()
    assert run.session.state is State.OPEN
    return run


def assert_killed(run: SessionRun, code: int, text: str) -> None:
    """The breach was noted, told, and the session is being closed for it."""
    assert run.breaches()[0] == (code, text, True)
    [error] = run.of("error")
    assert (error["parameters"]["code"], error["parameters"]["message"]) == (code, text)
    [close] = run.of("close")
    assert close["parameters"] == {"reason": "error"}
    assert run.session.killed and run.session.state is State.CLOSING


# --- open ------------------------------------------------------------------------------------------------


def test_open_is_as_genesys_sends_it() -> None:
    run = SessionRun(setup_for(language="de-DE", input_variables={"tier": "gold"}, custom_config={"a": [1]}))
    assert run.sent == [
        {
            "version": "2",
            "id": SESSION,
            "type": "open",
            "seq": 1,
            "serverseq": 0,
            "position": "PT0S",
            "parameters": {
                "organizationId": ORGANIZATION,
                "conversationId": CONVERSATION,
                "participant": {
                    "id": PARTICIPANT,
                    "ani": "tel:+15550100",
                    "aniName": "",
                    "dnis": "tel:+15550199",
                },
                "media": [EXTERNAL],
                "language": "de-DE",
                "customConfig": {"a": [1]},
                "inputVariables": {"tier": "gold"},
            },
        }
    ]


def test_a_probe_has_null_ids_and_nothing_else() -> None:
    [message] = SessionRun(probe_setup()).sent
    parameters = message["parameters"]
    assert parameters["conversationId"] == parameters["participant"]["id"] == NULL_UUID
    assert parameters["participant"]["ani"] == parameters["participant"]["dnis"] == ""
    assert parameters.keys() == {"organizationId", "conversationId", "participant", "media"}


def test_custom_config_has_its_limit() -> None:
    assert setup_for(custom_config={"a": "x" * 59_992}).custom_config is not None
    with pytest.raises(ValueError, match="^custom_config is over 60000 bytes$"):
        setup_for(custom_config={"a": "x" * 59_993})


def test_variables_and_configuration_are_read() -> None:
    assert parse_variables(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    assert parse_custom_config("") is None
    assert parse_custom_config('{"a":1}') == {"a": 1}
    for pair in ("secret", "=secret"):
        with pytest.raises(ValueError, match="^an input variable is given as NAME=VALUE$"):
            parse_variables([pair])
    for text in ("[]", "{"):
        with pytest.raises(ValueError, match="^the custom configuration is not a JSON object$"):
            parse_custom_config(text)


def test_opened_opens() -> None:
    run = SessionRun()
    run.advance(0.7)
    run.opened()
    session = run.session
    assert (session.state, session.breaches) == (State.OPEN, [])
    assert session.opened_s == T + 0.7
    assert session.media is not None and session.media.channels == ("external",)


def test_a_session_without_media_takes_no_audio() -> None:
    run = SessionRun()
    run.opened(media=[])
    assert run.session.media is None
    assert not run.session.send_audio(FRAME, SILENCE)
    run.feed(FRAME)
    assert_killed(run, 415, "audio of 1600 bytes in a session without media")


def test_opened_must_come_within_five_seconds() -> None:
    run = SessionRun()
    run.advance(4.999)
    assert run.session.state is State.OPENING
    run.advance(0.001)
    assert_killed(run, 408, "Timed out waiting for opened response")
    assert run.session.open_timed_out
    run.opened()  # crossed the close
    assert len(run.session.breaches) == 1
    run.server("closed")
    run.advance(LINGER_S)
    assert run.closed_at == T + 5 + LINGER_S


@pytest.mark.parametrize(
    "media",
    [
        {**EXTERNAL, "channels": ["internal"]},
        {**EXTERNAL, "format": "L16"},
        {**EXTERNAL, "rate": 16000},
        {**EXTERNAL, "channels": ["external", "internal"]},
    ],
)
def test_media_must_be_one_of_the_offered(media: dict[str, Any]) -> None:
    run = SessionRun()
    run.opened(media=[media])
    assert_killed(run, 400, "Selected media not one of the offered")


@pytest.mark.parametrize("name", ["inverted", "internal", "l16", "stereo"])
def test_every_offer_may_be_taken(name: str) -> None:
    run = SessionRun(offer(name))
    run.opened(media=run.sent[0]["parameters"]["media"])
    assert run.session.state is State.OPEN
    run.session.send_audio(b"\x00" * 800, SILENCE[:800])
    run.collect()
    assert run.session.media is not None
    assert len(run.audio()[0]) == 800 * run.session.media.bytes_per_sample
    assert run.session.outbox.position == 800


@pytest.mark.parametrize("kind", ["pong", "closed", "pause", "updated"])
def test_nothing_else_comes_before_opened(kind: str) -> None:
    run = SessionRun()
    run.server(kind)
    assert_killed(run, 409, f"Unexpected '{kind}' message in state opening")


@pytest.mark.parametrize("kind", ["closed", "opened"])
def test_what_may_not_come_while_open(kind: str) -> None:
    run = running()
    run.server(kind, {"media": []} if kind == "opened" else {})
    assert_killed(run, 409, f"Unexpected '{kind}' message in state open")


# --- caller audio ----------------------------------------------------------------------------------------


def test_audio_goes_out_and_moves_the_position() -> None:
    run = running()
    assert run.session.send_audio(FRAME, SILENCE)
    assert not run.session.send_audio(b"", b"")
    run.session.send_dtmf("#")
    run.collect()
    assert run.audio() == [FRAME]
    [dtmf] = run.of("dtmf")
    assert (dtmf["parameters"], dtmf["position"], dtmf["seq"], dtmf["serverseq"]) == ({"digit": "#"}, "PT0.2S", 2, 1)


def test_lost_audio_is_told_and_counted() -> None:
    run = running()
    run.session.send_audio(FRAME, SILENCE)
    run.session.discard_audio(800)
    run.collect()
    [discarded] = run.of("discarded")
    assert (discarded["parameters"], discarded["position"]) == ({"start": "PT0.2S", "discarded": "PT0.1S"}, "PT0.3S")


def test_the_clients_pause_keeps_audio_back_and_tells_the_gap() -> None:
    run = running()
    run.session.pause()
    run.session.pause()
    assert not run.session.send_audio(FRAME, SILENCE)
    run.session.resume()
    run.session.resume()
    run.collect()
    assert (len(run.of("paused")), run.audio()) == (1, [])
    [resumed] = run.of("resumed")
    assert (resumed["parameters"], resumed["position"]) == ({"start": "PT0S", "discarded": "PT0.2S"}, "PT0.2S")


def test_the_servers_pause_is_independent_of_the_clients() -> None:
    run = running()
    run.server("pause")
    assert len(run.of("paused")) == 1
    run.session.send_audio(FRAME, SILENCE)
    run.session.pause()
    run.server("resume")
    run.collect()
    assert (len(run.of("paused")), len(run.of("resumed"))) == (3, 0)
    run.session.resume()
    run.collect()
    assert run.of("resumed")[0]["parameters"] == {"start": "PT0S", "discarded": "PT0.2S"}
    run.server("resume")  # idempotent
    assert len(run.of("resumed")) == 1
    run.session.pause()
    run.server("pause")
    run.session.resume()
    run.collect()
    assert len(run.of("resumed")) == 1
    assert run.session.breaches == []


def test_a_session_may_start_paused() -> None:
    run = SessionRun()
    run.opened(startPaused=True)
    assert not run.session.send_audio(FRAME, SILENCE)
    run.server("resume")
    assert run.of("resumed")[0]["parameters"] == {"start": "PT0S", "discarded": "PT0.2S"}
    assert run.session.send_audio(FRAME, SILENCE)


def test_update_and_error_are_only_told() -> None:
    run = running()
    run.session.send_update("fr-FR")
    run.session.send_error(500, "oops")
    run.collect()
    assert run.of("update")[0]["parameters"] == {"language": "fr-FR"}
    assert run.of("error")[0]["parameters"] == {"code": 500, "message": "oops"}
    run.server("updated")
    assert run.session.breaches == []
    run.server("updated")
    assert run.breaches() == [(409, "Unexpected 'updated' (no outstanding 'update')", False)]


def test_nothing_goes_out_before_opened_or_after_close() -> None:
    run = SessionRun()
    for _ in range(2):
        run.session.send_audio(FRAME, SILENCE)
        run.session.send_dtmf("1")
        run.session.send_update("fr-FR")
        run.session.pause()
        run.session.resume()
        run.session.discard_audio(1)
        run.session.close(run.now)
        run.collect()
    assert [message["type"] for message in run.sent] == ["open", "close"]


# --- the bot's audio -------------------------------------------------------------------------------------


def test_playback_is_reported_when_it_happens() -> None:
    run = running()
    run.advance(0.1)
    run.feed(b"\x00" * 4000)
    assert [message["type"] for message in run.sent[1:]] == ["playback_started"]
    run.advance(0.4999)
    assert run.of("playback_completed") == []
    run.advance(0.0001)
    assert len(run.of("playback_completed")) == 1
    assert run.session.playbacks == [Playback.STARTED, Playback.COMPLETED]
    assert run.session.counts.longest_message_ms == 500.0
    assert run.session.breaches == []


def test_barge_in_drops_what_waits_and_late_audio_of_the_turn_is_counted() -> None:
    run = running()
    run.feed(b"\x00" * 8000)
    run.advance(0.25)
    run.barge_in()
    run.advance(0.2)
    run.feed(b"\x00" * 160)
    run.advance(0.15)
    run.feed(b"\x00" * 320)
    [barge_in] = run.session.barge_ins
    assert (barge_in.at_ms, barge_in.dropped_ms, barge_in.late_bytes) == (250.0, 750.0, 160)
    kinds = [message["type"] for message in run.sent[1:]]
    assert kinds == ["playback_started", "playback_completed"] * 2 + ["playback_started"]


def test_barge_in_without_a_report() -> None:
    run = running(setup_for(completed_after_barge_in=False))
    run.feed(b"\x00" * 8000)
    run.barge_in()
    run.advance(0.9)
    assert run.of("playback_completed") == []


def test_turn_responses_are_kept() -> None:
    run = running()
    run.server("event", {"entities": [{"type": "bot_turn_response", "data": {"disposition": "match"}}]})
    assert run.session.counts.turn_responses == ["match"]
    assert run.session.breaches == []


def test_entities_of_other_products_do_nothing() -> None:
    run = running()
    run.server("event", {"entities": [{"type": "agentassist", "data": {}}]})
    [(code, text, fatal)] = run.breaches()
    assert (code, fatal) == (400, False) and "agentassist" in text
    run.server("reconnect")
    assert run.breaches()[1] == (409, "'reconnect' is not for an Audio Connector", False)
    assert run.session.state is State.OPEN


def test_audio_before_opened() -> None:
    run = SessionRun()
    run.feed(FRAME)
    assert_killed(run, 409, "audio of 1600 bytes before opened")


@pytest.mark.parametrize(("name", "size"), [("l16", 3), ("stereo", 1), ("external", 0)])
def test_audio_in_part_of_a_sample(name: str, size: int) -> None:
    run = SessionRun(offer(name))
    run.opened(media=run.sent[0]["parameters"]["media"])
    run.feed(b"\x00" * size)
    assert_killed(run, 400, f"audio of {size} bytes is not a whole number of samples from 1")


def test_audio_after_disconnect_and_after_closed() -> None:
    run = running()
    run.server("disconnect", {"reason": "completed"})
    run.feed(FRAME)
    run.server("closed")
    run.feed(FRAME)
    assert run.breaches() == [(409, "audio of 1600 bytes after disconnect", False)] * 2
    other = running()
    other.session.close(other.now)
    other.feed(FRAME)  # crossed the close
    assert other.session.breaches == []
    other.server("closed")
    other.feed(FRAME)
    assert other.breaches() == [(409, "audio of 1600 bytes after closed", False)]
    assert other.session.counts.audio_ms == 0


def test_audio_during_the_clients_pause_is_counted_only() -> None:
    run = running()
    run.session.pause()
    run.feed(FRAME)
    assert run.session.counts.messages_while_paused == 1
    assert run.session.breaches == []


# --- limits ----------------------------------------------------------------------------------------------


def test_frames_of_20_ms_are_fatal_and_frames_of_200_ms_are_not() -> None:
    run = running()
    for _ in range(50):
        run.feed(FRAME[:160])
        run.advance(0.020)
        if run.session.killed:
            break
    assert run.session.counts.binary_messages == 28  # 25, and what the bucket gains in 0.56 s
    assert_killed(run, 429, "Rate limit of binary messages exceeded")
    assert run.of("error")[0]["parameters"]["retryAfter"].startswith("PT0.")
    good = running()
    for _ in range(300):
        good.feed(FRAME)
        good.answer_pings(0.2)
    assert good.session.breaches == []
    assert good.session.least_tokens()[0] == pytest.approx(24.0)


def test_text_has_its_own_limit() -> None:
    run = running()
    for _ in range(24):
        run.barge_in()
    assert run.session.breaches == []
    run.barge_in()
    assert_killed(run, 429, "Rate limit of text messages exceeded")
    assert run.of("error")[0]["parameters"]["retryAfter"] == "PT0.2S"
    run.barge_in()  # nobody counts any more
    assert len(run.session.breaches) == 1


def test_pause_and_resume_have_theirs() -> None:
    run = running()
    for kind in ("pause", "resume", "pause", "resume"):
        run.server(kind)
    assert run.session.breaches == []
    run.server("pause")
    assert_killed(run, 429, "Rate limit of pause and resume messages exceeded")
    assert len(run.of("paused")) == 2


@pytest.mark.parametrize("size", [64_000, 64_001])
def test_binary_messages_have_a_size(size: int) -> None:
    run = running()
    run.feed(b"\x00" * size)
    if size > 64_000:
        assert_killed(run, 413, "binary message of 64001 bytes")
    else:
        assert run.session.breaches == []
        assert run.session.counts.audio_ms == 8000.0


def test_text_messages_have_a_size_in_bytes() -> None:
    run = running()
    message = run.message("disconnect", {"reason": "completed", "info": "\u00e4" * 32_000})
    text = json.dumps(message, ensure_ascii=False)
    assert len(text) < 33_000
    run.feed(text)
    assert_killed(run, 413, f"text message of {len(text) + 32_000} bytes")


# --- sequence and form -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [1, 3, 0])
def test_a_sequence_that_is_broken_ends_the_session_once(seq: int) -> None:
    run = running()
    run.server("pause", seq=seq)
    assert_killed(run, 500, f"Invalid seq: expected sequence 2 but received sequence {seq}")
    run.server_seq = seq
    run.server("closed")
    assert run.session.state is State.CLOSED
    assert len(run.session.breaches) == 1


def test_the_first_message_must_be_number_one() -> None:
    run = SessionRun()
    run.server_seq = 1
    run.opened()
    assert_killed(run, 500, "Invalid seq: expected sequence 1 but received sequence 2")


def test_clientseq_must_not_be_of_the_future() -> None:
    run = running()
    run.server("updated", clientseq=9)
    assert_killed(run, 500, "clientseq is 9, the client's last seq is 1")


def test_clientseq_must_not_go_back() -> None:
    run = running()
    run.session.send_update("fr-FR")
    run.server("updated", clientseq=0)
    assert run.breaches() == [(400, "clientseq went back from 1 to 0", False)]


@pytest.mark.parametrize("text", ["", "{", "nonsense", "\x00"])
def test_what_is_no_json(text: str) -> None:
    run = running()
    run.feed(text)
    assert_killed(run, 400, "Message not well-formed JSON")


def test_missing_parameters_end_the_session_and_the_sequence_goes_on() -> None:
    run = running()
    run.session.send_update("fr-FR")
    body = run.message("updated")
    del body["parameters"]
    run.feed(json.dumps(body))
    assert_killed(run, 400, "Message not an AudioHook server message: parameters is missing")
    run.server("closed")
    assert (run.session.state, len(run.session.breaches)) == (State.CLOSED, 1)


def test_an_unexpected_field_is_noted_and_the_message_counts() -> None:
    run = SessionRun()
    run.opened(selectedLanguage="en-US")
    assert run.breaches() == [(400, "opened.parameters has the unexpected field selectedLanguage", False)]
    assert run.session.state is State.OPEN


# --- pings -----------------------------------------------------------------------------------------------


def test_pings_come_in_time_and_tell_the_round_trip() -> None:
    run = running()
    run.advance(1.0)
    [first] = run.of("ping")
    assert first["parameters"] == {}
    run.advance(0.25)
    run.server("pong", clientseq=first["seq"])
    run.advance(0)
    assert run.of("ping")[1]["parameters"] == {"rtt": "PT0.25S"}
    run.server("pong", clientseq=run.of("ping")[1]["seq"])
    run.answer_pings(12.0)
    assert len(run.of("ping")) == 4
    assert run.session.breaches == []


def test_a_pong_must_come_within_five_seconds() -> None:
    run = running()
    run.advance(5.99)
    assert run.session.state is State.OPEN
    run.advance(0.02)
    assert_killed(run, 408, "Timeout waiting for pong")


def test_a_pong_of_another_ping_is_told_and_its_ping_stays_open() -> None:
    run = running()
    run.advance(1.0)
    run.server("pong", clientseq=1)
    text = "The clientseq 1 of the 'pong' does not match the seq 2 of its 'ping'"
    assert run.breaches() == [(400, text, False)]
    assert run.of("error")[0]["parameters"] == {"code": 400, "message": text}
    assert run.session.state is State.OPEN
    run.advance(5.0)
    assert run.breaches()[1] == (408, "Timeout waiting for pong", True)


def test_a_pong_that_nobody_asked_for() -> None:
    run = running()
    run.server("pong")
    assert run.breaches() == [(409, "Unexpected 'pong' (no outstanding 'ping')", False)]
    assert run.session.state is State.OPEN


# --- ends ------------------------------------------------------------------------------------------------


def test_the_caller_hangs_up() -> None:
    run = running()
    run.advance(0.5)
    run.session.close(run.now)
    run.collect()
    assert run.of("close")[0]["parameters"] == {"reason": "end"}
    run.advance(3.0)
    assert run.of("ping") == []
    for kind in ("pause", "updated", "pong"):
        run.server(kind)  # crossed the close
    run.server("closed")
    assert run.closed_at is None
    run.advance(LINGER_S)
    assert run.closed_at == pytest.approx(T + 3.5 + LINGER_S)
    assert (run.session.state, run.session.breaches) == (State.GONE, [])
    run.feed(FRAME)
    run.session.connection_lost(1000, run.now)
    run.session.handle_timer(run.now + 100)
    assert (run.session.breaches, run.session.next_timer()) == ([], float("inf"))


def test_the_server_disconnects_and_hands_its_variables_over() -> None:
    run = running()
    run.advance(0.5)
    run.feed(b"\x00" * 800)
    run.advance(0.05)
    run.server("disconnect", {"reason": "completed", "info": "bye", "outputVariables": {"a": "1"}})
    run.server("closed")
    assert run.of("close")[0]["parameters"] == {"reason": "disconnect"}
    disconnect = run.session.disconnect
    assert disconnect is not None
    assert (disconnect.reason, disconnect.info, disconnect.output_variables) == ("completed", "bye", {"a": "1"})
    assert (disconnect.at_ms, disconnect.unplayed_ms) == (550.0, 50.0)
    assert run.session.breaches == []
    run.advance(1.0)
    assert run.of("playback_completed") == []  # playback ended with the session


def test_an_open_may_be_answered_with_disconnect() -> None:
    run = SessionRun()
    run.server("disconnect", {"reason": "unauthorized"})
    assert run.of("close")[0]["parameters"] == {"reason": "disconnect"}
    run.server("closed")
    run.advance(LINGER_S)
    assert run.closed_at is not None and run.session.breaches == []
    assert run.session.disconnect is not None and run.session.disconnect.unplayed_ms == 0.0


def test_a_second_disconnect_and_anything_after_closed() -> None:
    run = running()
    run.server("disconnect", {"reason": "completed"})
    run.server("disconnect", {"reason": "error"})
    run.server("closed")
    run.server("closed")
    run.server("disconnect", {"reason": "error"})
    assert [text for _, text, _ in run.breaches()] == [
        "disconnect came twice",
        "Unexpected 'closed' message after closed",
        "Unexpected 'disconnect' message after closed",
    ]
    assert run.session.disconnect is not None and run.session.disconnect.reason == "completed"
    assert len(run.of("close")) == 1


def test_closed_must_come_within_ten_seconds() -> None:
    run = running()
    run.session.close(run.now)
    run.advance(9.99)
    assert run.session.state is State.CLOSING
    run.advance(0.02)
    assert run.closed_at == T + 10
    assert run.breaches() == [(408, "Timed out waiting for closed response", True)]
    assert run.of("error")[0]["parameters"] == {"code": 408, "message": "Timed out waiting for closed response"}


@pytest.mark.parametrize("state", ["opening", "open", "closing", "closed"])
def test_only_the_client_closes_the_socket(state: str) -> None:
    run = SessionRun()
    if state != "opening":
        run.opened()
    if state in ("closing", "closed"):
        run.session.close(run.now)
    if state == "closed":
        run.server("closed")
    session: GenesysSession = run.session
    assert session.state.value == state
    run.session.connection_lost(1000, run.now)
    text = f"the socket was closed with 1000 in state {state}, before the client closed it"
    assert run.breaches() == [(0, text, False)]
    assert run.session.state is State.GONE


def test_breaches_are_bounded() -> None:
    run = running(text=Rate(1e9, 10**9))
    for _ in range(MAX_BREACHES + 10):
        run.server("pong")
    assert len(run.session.breaches) == MAX_BREACHES


def test_breaches_have_their_time() -> None:
    run = SessionRun()
    run.advance(0.5)
    run.opened(extra=1)
    assert run.session.breaches[0].at_ms == 500.0


@given(
    st.lists(
        st.binary(max_size=400)
        | st.text(max_size=40)
        | st.sampled_from(['{"type":"opened"}', "[]", '{"seq":1e99}', '{"parameters":{}}']),
        max_size=20,
    ),
    st.booleans(),
)
def test_anything_may_be_fed(messages: list[str | bytes], opened: bool) -> None:
    run = SessionRun()
    if opened:
        run.opened()
    for message in messages:
        run.feed(message)
        run.advance(0.05)
    run.advance(40.0)
    session: GenesysSession = run.session
    assert session.state is State.GONE
    assert run.closed_at is not None
    assert session.playout is None or ULAW_8K.duration_ms(session.playout.played_samples) >= 0
