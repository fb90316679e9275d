"""The Genesys leg: life cycle, ends in every order, and what it lets pass."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import outcome
from bridge.errors import LocalError
from bridge.events import (
    Accept,
    Audio,
    Command,
    Dtmf,
    Ended,
    Event,
    Flush,
    Hangup,
    Mark,
    Offered,
    Paused,
    Play,
    PlaybackReached,
    Reject,
    Resumed,
    SendDtmf,
    Transfer,
)
from bridge.leg import CloseSocket, Outgoing, UpgradeRequest
from bridge.media.format import ALAW_8K, ULAW_8K
from bridge.outcome import EndReason
from bridge.providers.genesys import SPEC
from bridge.providers.genesys_state import State
from tests.kit import genesys
from tests.kit.genesys import INTERNAL, INVERTED, L16, MONO, STEREO, Session, said, spoken

BARGE_IN = ("event", {"entities": [{"type": "barge_in", "data": {}}]})
UNKNOWN = UpgradeRequest("/genesys/agent_1", {}, {"agent_id": "agent_1"})
"""An upgrade without the headers that Genesys sends."""


def disconnect(out: list[Outgoing]) -> dict[str, Any]:
    [(kind, parameters)] = said(out)
    assert kind == "disconnect"
    return parameters


# --- begin ---


def test_open_is_offered_and_opened_when_accepted() -> None:
    session = Session()
    [offer] = session.hear("open", genesys.OPEN)
    assert isinstance(offer, Offered)
    assert offer.media_choices == (ULAW_8K,)
    assert offer.info.agent_id == "agent_1"
    assert offer.info.caller == "+15550100"
    assert session.leg.state is State.OFFERED
    assert session.leg.drain() == []
    session.leg.send(Accept(ULAW_8K), session.now)
    assert session.leg.drain() == [
        '{"version":"2","id":"30b0e395-84d3-4570-ac13-9a62d8f514c0","type":"opened","seq":1,"clientseq":1,"parameters":'
        '{"media":[{"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}]}}'
    ]


@pytest.mark.parametrize(
    ("offers", "chosen"),
    [
        ([STEREO, MONO, INTERNAL], MONO),
        ([INVERTED, INTERNAL, MONO], MONO),
        ([STEREO], STEREO),
        ([INTERNAL], INTERNAL),
        ([L16, MONO], MONO),
    ],
)
def test_one_of_the_offers_comes_back(offers: list[object], chosen: object) -> None:
    session = Session()
    session.hear("open", genesys.OPEN | {"media": offers})
    session.leg.send(Accept(ULAW_8K), session.now)
    assert said(session.leg.drain()) == [("opened", {"media": [chosen]})]


@pytest.mark.parametrize("offers", [[], None, [L16], ["x"]])
def test_without_an_offer_that_can_be_served_the_session_opens_silent_and_ends(offers: object) -> None:
    session = Session()
    ended = session.hear("open", genesys.OPEN | {"media": offers})
    assert ended == [Ended(outcome.UNSUPPORTED_MEDIA, "open: no offer of PCMU at 8000 Hz")]
    opened, goodbye = said(session.leg.drain())
    assert opened == ("opened", {"media": []})
    assert goodbye[1]["reason"] == "error"
    assert goodbye[1]["outputVariables"]["errorType"] == "unsupported_media"
    assert session.leg.lingering()


def test_a_session_is_taken_without_headers_too() -> None:
    session = Session(UNKNOWN).live()
    assert session.leg.state is State.LIVE


def test_the_id_may_be_written_in_capitals() -> None:
    session = Session()
    [offer] = session.hear("open", genesys.OPEN, id=genesys.SESSION_ID.upper())
    assert isinstance(offer, Offered)
    session.leg.send(Accept(ULAW_8K), session.now)
    [opened] = session.leg.drain()
    assert json.loads(str(opened))["id"] == genesys.SESSION_ID.upper()


def test_another_organization_in_the_body_is_not_let_in() -> None:
    session = Session()
    ended = session.hear("open", genesys.OPEN | {"organizationId": genesys.ZERO_ID})
    detail = "open: organizationId is not the one of Audiohook-Organization-Id"
    assert ended == [Ended(outcome.BAD_MESSAGE, detail)]
    assert disconnect(session.leg.drain())["reason"] == "unauthorized"


def test_reserved_variables_are_refused_by_name() -> None:
    session = Session()
    [ended] = session.hear("open", genesys.OPEN | {"inputVariables": {"system__agent_id": "x"}})
    assert isinstance(ended, Ended)
    assert ended.reason is outcome.BAD_VARIABLES
    parameters = disconnect(session.leg.drain())
    assert parameters["reason"] == "error"
    assert "'system__agent_id'" in parameters["info"]
    assert "'system__agent_id'" in parameters["outputVariables"]["errorMessage"]


def test_an_open_that_cannot_be_read_ends_the_session() -> None:
    session = Session()
    ended = session.hear("open", {"organizationId": "x"})
    assert ended == [Ended(outcome.BAD_MESSAGE, "open: Object missing required field `conversationId`")]
    assert disconnect(session.leg.drain())["reason"] == "error"


def test_no_open_in_time() -> None:
    session = Session()
    happened, out = session.wait(5.0)
    assert happened == [Ended(outcome.NO_START, "no open in 5 s")]
    assert disconnect(out)["reason"] == "error"
    session = Session(UNKNOWN)
    happened, out = session.wait(5.0)
    assert happened == [Ended(outcome.NO_START, "no open in 5 s")]
    assert out == [CloseSocket(1000, "no session was opened")]
    assert session.leg.next_timer() == math.inf


# --- the probe ---


def test_a_probe_is_answered_and_no_call() -> None:
    session = Session()
    assert session.hear("open", genesys.PROBE) == []
    assert said(session.leg.drain()) == [("opened", {"media": [MONO]})]
    assert session.hear("ping") == []
    assert said(session.leg.drain()) == [("pong", {})]
    assert session.hear("close", {"reason": "end"}) == [Ended(outcome.PROBE, "close: end")]
    assert said(session.leg.drain()) == [("closed", {})]
    assert session.leg.connection_lost(1005, session.now) == []


def test_a_probe_is_answered_whatever_it_offers_and_names() -> None:
    session = Session()
    assert session.hear("open", genesys.PROBE | {"media": [L16], "inputVariables": {"system__x": ""}}) == []
    assert said(session.leg.drain()) == [("opened", {"media": []})]


def test_a_probe_that_never_closes_is_given_up() -> None:
    session = Session()
    session.hear("open", genesys.PROBE)
    happened, out = session.wait(10.0)
    assert happened == [Ended(outcome.PROBE, "the probe did not close")]
    assert out[-1] == CloseSocket(1000, "the session was not closed in time")
    assert session.leg.state is State.OVER


# --- the caller ---


def test_caller_audio_has_its_position() -> None:
    session = Session().live()
    assert session.leg.receive(b"\x01" * 1600, session.now) == [Audio(b"\x01" * 1600, 0)]
    assert session.leg.receive(b"\x02" * 37, session.now) == [Audio(b"\x02" * 37, 1600)]
    assert session.hear("discarded", {"start": "PT0.204625S", "discarded": "PT0.3S"}) == []
    assert session.leg.receive(b"\x03", session.now) == [Audio(b"\x03", 1637 + 2400)]
    assert session.leg.receive(b"", session.now) == []


def test_the_caller_is_cut_out_of_two_channels() -> None:
    session = Session().live({"media": [INVERTED]})
    assert session.leg.receive(b"xaxbxc", session.now) == [Audio(b"abc", 0)]
    assert session.leg.read_audio(b"xd", session.now) == b"d"
    assert session.leg.position == 4
    session.leg.set_relay("<", ">", range(1, 100))
    assert session.leg.relay(b"xaxb", session.now) is None


def test_audio_passes_by_the_shortest_way() -> None:
    session = Session().live()
    leg = session.leg
    leg.set_relay("<", ">", range(160, 1601, 160))
    session.now += 29
    assert leg.relay(b"\x01" * 160, session.now) == f"<{b64encode(bytes([1]) * 160).decode()}>"
    assert leg.relay(b"\x01" * 161, session.now) is None
    assert leg.relay("x", session.now) is None
    assert (leg.relayed, leg.position) == (1, 160)
    assert leg.read_audio(b"\x01" * 161, session.now) == b"\x01" * 161
    assert leg.position == 321
    assert leg.next_timer() == session.now + 30.0, "audio is a sign of life"
    assert leg.read_audio("x", session.now) is None
    assert leg.audio_message(b"x") is None


def test_audio_at_the_wrong_time_is_dropped_and_counted() -> None:
    session = Session()
    assert session.leg.receive(b"x" * 10, session.now) == []
    session.hear("open", genesys.OPEN)
    assert session.leg.receive(b"x" * 10, session.now) == []
    assert session.leg.oddities.misplaced_audio_bytes == 20
    assert session.leg.position == 0


def test_a_pause_and_its_gap() -> None:
    session = Session().live()
    assert session.hear("paused") == [Paused()]
    assert session.hear("paused") == []
    session.leg.send(Play(b"\x55" * 1600), session.now)
    assert spoken(session.leg.drain()) == []
    assert session.hear("resumed", {"start": "PT0S", "discarded": "PT2S"}) == [Resumed()]
    assert spoken(session.leg.drain()) == [b"\x55" * 1600]
    assert session.leg.position == 16_000
    assert session.hear("resumed", {"start": "PT2S", "discarded": "PT0.5S"}) == []
    assert session.leg.position == 20_000


@pytest.mark.parametrize("parameters", [{}, {"discarded": "PT1M"}, {"discarded": 1}, {"start": "PT1S"}])
def test_a_gap_that_cannot_be_read_is_counted_and_the_stream_goes_on(parameters: dict[str, object]) -> None:
    session = Session().live()
    session.hear("paused")
    assert session.hear("resumed", parameters) == [Resumed()]
    assert session.hear("discarded", parameters) == []
    assert session.leg.oddities.malformed_messages == 2
    assert session.leg.position == 0
    assert session.leg.state is State.LIVE


def test_keys() -> None:
    session = Session().live()
    happened = [event for digit in "0123456789*#Ad" for event in session.hear("dtmf", {"digit": digit})]
    assert happened == [Dtmf(digit) for digit in "0123456789*#AD"]
    assert session.hear("dtmf", {"digit": "12"}) == session.hear("dtmf", {"digit": "x"}) == session.hear("dtmf") == []
    assert session.leg.oddities.malformed_messages == 3


# --- the protocol's small change ---


def test_a_ping_is_answered_at_once_with_its_number() -> None:
    session = Session().live()
    for _ in range(3):
        session.leg.send(Play(b"\x55" * 8000), session.now)
        assert session.hear("ping", {"rtt": "PT0.001393723S"}) == []
        pong = json.loads(str([item for item in session.leg.drain() if isinstance(item, str)][-1]))
        assert (pong["type"], pong["clientseq"], pong["parameters"]) == ("pong", session.seq, {})


def test_opened_is_our_first_word() -> None:
    session = Session()
    assert session.hear("ping") == []
    session.hear("open", genesys.OPEN)
    assert session.hear("ping") == []
    assert session.leg.drain() == []
    session.leg.send(Accept(ULAW_8K), session.now)
    [opened] = session.leg.drain()
    assert (json.loads(str(opened))["seq"], json.loads(str(opened))["clientseq"]) == (1, 3)


def test_an_update_is_confirmed() -> None:
    session = Session().live()
    assert session.hear("update", {"language": "de-DE"}) == []
    assert said(session.leg.drain()) == [("updated", {})]


def test_what_is_not_known_is_let_pass_and_counted() -> None:
    session = Session().live()
    assert session.hear("novelty", {"x": [1]}) == []
    assert session.hear("paused", position="PT1M", version="3", news=True) == [Paused()]
    session.seq = 89
    assert session.hear("ping") == session.hear("ping") == []
    oddities = session.leg.oddities
    assert (oddities.unknown_messages, oddities.seq_gaps, oddities.malformed_messages) == (1, 1, 0)
    pongs = [json.loads(str(item)) for item in session.leg.drain()]
    assert [(pong["seq"], pong["clientseq"]) for pong in pongs] == [(2, 90), (3, 91)]


def test_messages_of_a_session_that_is_not_open_are_let_pass() -> None:
    session = Session()
    assert session.hear("error", {"code": 400, "message": "x"}) == []
    assert session.hear("dtmf", {"digit": "1"}) == []
    assert session.leg.oddities.malformed_messages == 1
    assert isinstance(session.hear("open", genesys.OPEN)[0], Offered)


@pytest.mark.parametrize(
    ("parameters", "wait_s"),
    [
        ({"code": 429, "message": "Rate limit", "retryAfter": "PT2.5S"}, 2.5),
        ({"code": 429, "message": "Rate limit"}, 1.0),
        ({"code": 400, "message": "x"}, 0.0),
        ({"code": 429, "retryAfter": "soon"}, 0.0),
        ({"code": "429"}, 0.0),
    ],
)
def test_an_error_is_survived_and_429_obeyed(parameters: dict[str, object], wait_s: float) -> None:
    session = Session().live()
    assert session.hear("error", parameters) == []
    session.leg.send(Play(b"\x55" * 1600), session.now)
    started = session.now
    out = session.leg.drain()
    while not out:
        session.now = session.leg.next_timer()
        assert session.leg.handle_timer(session.now) == []
        out = session.leg.drain()
    assert session.now - started == wait_s
    assert spoken(out) == [b"\x55" * 1600]


# --- the agent's voice ---


def test_the_agents_audio_is_gathered() -> None:
    session = Session().live()
    out: list[Outgoing] = []
    for number in range(100):
        session.leg.send(Play(bytes([number]) * 160), session.now)
        out += session.leg.drain() + session.wait(0.005)[1]
    out += session.wait(2)[1]
    assert b"".join(spoken(out)) == b"".join(bytes([number]) * 160 for number in range(100))
    assert len(spoken(out)) <= 7
    assert len(spoken(out)[0]) == 800


def test_audio_goes_out_in_both_channels_where_two_were_agreed_on() -> None:
    session = Session().live({"media": [STEREO]})
    session.leg.send(Play(bytes(range(160)) * 10), session.now)
    assert spoken(session.leg.drain()) == [bytes(value for value in range(160) for _ in "ab") * 10]


def test_a_mark_comes_back_when_it_was_played() -> None:
    session = Session().live()
    session.leg.send(Play(b"\x55" * 1600), session.now)
    session.leg.send(Mark("g0:1"), session.now)
    session.now += 0.05
    assert session.hear("playback_started") == []
    session.now += 0.2
    assert session.hear("playback_completed") == [PlaybackReached("g0:1")]
    assert session.hear("playback_completed") == []


def test_a_mark_comes_back_by_the_clock_where_genesys_says_nothing() -> None:
    session = Session().live()
    session.leg.send(Play(b"\x55" * 1600), session.now)
    session.leg.send(Mark("g0:1"), session.now)
    assert session.wait(0.69)[0] == []
    assert session.wait(0.02)[0] == [PlaybackReached("g0:1")]


def test_an_interruption() -> None:
    session = Session().live()
    session.leg.send(Play(b"\x55" * 16_000), session.now)
    session.leg.send(Mark("g0:1"), session.now)
    session.leg.drain()
    session.leg.send(Flush(), session.now)
    assert said(session.leg.drain()) == [BARGE_IN]
    happened, out = session.wait(1.0)
    assert happened == [PlaybackReached("g0:1")]
    assert out == []
    session.leg.send(Flush(), session.now)
    assert session.leg.drain() == []


def test_what_a_leg_cannot_do_is_our_mistake() -> None:
    session = Session()
    with pytest.raises(LocalError, match="^Play in state waiting; Accept comes first$"):
        session.leg.send(Play(b"x"), session.now)
    session.hear("open", genesys.OPEN)
    with pytest.raises(LocalError, match="^Accept\\(alaw_8000\\) in state offered; offered is ulaw_8000$"):
        session.leg.send(Accept(ALAW_8K), session.now)
    session.leg.send(Accept(ULAW_8K), session.now)
    for command in (SendDtmf("1"), Transfer("+1")):
        with pytest.raises(LocalError, match=f"^the Audio Connector cannot carry {type(command).__name__}; its flow"):
            session.leg.send(command, session.now)


# --- ends ---


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end", Ended(outcome.CALLER_HANGUP, "close: end")),
        ("disconnect", Ended(outcome.CALLER_HANGUP, "close: disconnect")),
        ("error", Ended(outcome.CARRIER_LOST, "close: error")),
        ("reconnect", Ended(outcome.CARRIER_LOST, "close: reconnect")),
    ],
)
def test_genesys_closes(reason: str, expected: Ended) -> None:
    session = Session().live()
    session.leg.send(Play(b"\x55" * 160), session.now)
    assert session.hear("close", {"reason": reason}) == [expected]
    [closed] = session.leg.drain()
    assert json.loads(str(closed))["type"] == "closed"
    assert json.loads(str(closed))["clientseq"] == session.seq
    assert session.leg.lingering()
    session.leg.send(Hangup(outcome.CALLER_HANGUP, outputs={"a": "b"}), session.now)
    session.leg.send(Play(b"x"), session.now)
    assert session.hear("close") == session.hear("ping") == session.leg.receive(b"x", session.now) == []
    assert session.wait(9.9) == ([], [])
    assert session.leg.connection_lost(1005, session.now) == []
    assert not session.leg.lingering()
    assert session.leg.next_timer() == math.inf


def test_the_last_error_explains_a_close() -> None:
    session = Session().live()
    session.hear("error", {"code": 408, "message": "Timed out waiting for pong"})
    assert session.hear("close", {"reason": "error"}) == [Ended(outcome.CARRIER_LOST, "close: error after error 408")]


def test_a_close_that_cannot_be_read_is_a_close() -> None:
    session = Session().live()
    assert session.hear("close", {"reason": 1}) == [Ended(outcome.CALLER_HANGUP, "close: end")]
    assert session.leg.oddities.malformed_messages == 1


def test_a_close_before_open_is_answered() -> None:
    session = Session(UNKNOWN)
    assert session.hear("close", {"reason": "error"}) == [Ended(outcome.NO_START, "close: error, before open")]
    [closed] = session.leg.drain()
    assert json.loads(str(closed)) == {
        "version": "2",
        "id": genesys.SESSION_ID,
        "type": "closed",
        "seq": 1,
        "clientseq": 1,
        "parameters": {},
    }


def test_a_genesys_that_does_not_close_its_socket_loses_it() -> None:
    session = Session().live()
    session.hear("close")
    session.leg.drain()
    assert session.wait(10.0) == ([], [CloseSocket(1000, "the session was not closed in time")])
    assert session.leg.state is State.OVER
    assert not session.leg.lingering()


def test_we_hang_up() -> None:
    session = Session().live()
    session.leg.send(Play(b"\x55" * 160), session.now)
    session.leg.send(Hangup(outcome.AGENT_HANGUP, outputs={"intent": "billing"}), session.now)
    assert disconnect(session.leg.drain()) == {
        "reason": "completed",
        "outputVariables": {"end_reason": "agent_hangup", "intent": "billing"},
    }
    assert session.leg.state is State.DISCONNECTING
    session.leg.send(Play(b"x"), session.now)
    session.leg.send(Hangup(outcome.BUG), session.now)
    assert session.leg.receive(b"x" * 1600, session.now) == []
    for crossing in ("playback_completed", "dtmf", "open", "update", "news"):
        assert session.hear(crossing, {"digit": "1"}) == []
    assert session.leg.drain() == []
    assert session.hear("ping") == []
    assert said(session.leg.drain()) == [("pong", {})]
    assert session.leg.receive("{", session.now) == []
    assert session.hear("close", {"reason": "disconnect"}) == []
    assert said(session.leg.drain()) == [("closed", {})]
    assert session.leg.connection_lost(1000, session.now) == []
    assert session.leg.oddities.malformed_messages == 0


def test_a_genesys_that_does_not_answer_disconnect_loses_its_socket() -> None:
    session = Session().live()
    session.leg.send(Hangup(outcome.AGENT_HANGUP), session.now)
    session.leg.drain()
    assert session.wait(10.0) == ([], [CloseSocket(1000, "the session was not closed in time")])


@pytest.mark.parametrize(
    ("reason", "when_full", "word", "overflow"),
    [
        (outcome.CAPACITY, None, "error", None),
        (outcome.CAPACITY, "retry", "error", None),
        (outcome.CAPACITY, "overflow", "completed", "true"),
        (outcome.DRAINING, "overflow", "completed", "true"),
        (outcome.BAD_VARIABLES, "overflow", "error", None),
        (outcome.DIVERTED, "retry", "completed", "true"),
    ],
)
def test_a_call_that_is_refused(reason: EndReason, when_full: str | None, word: str, overflow: str | None) -> None:
    session = Session(carrier={} if when_full is None else {"genesys_when_full": when_full})
    session.hear("open", genesys.OPEN)
    session.leg.send(Reject(reason, "9 calls in progress"), session.now)
    [message] = session.leg.drain()
    assert json.loads(str(message))["seq"] == 1
    parameters = disconnect([message])
    assert parameters["reason"] == word
    assert parameters["outputVariables"]["end_reason"] == reason.reason
    assert parameters["outputVariables"].get("overflow") == overflow


def test_a_caller_who_is_sent_on_before_the_call_began() -> None:
    session = Session()
    session.hear("open", genesys.OPEN)
    session.leg.send(Reject(outcome.DIVERTED, outputs={"transfer_to": "+49731555"}), session.now)
    parameters = disconnect(session.leg.drain())
    assert parameters["outputVariables"] == {
        "end_reason": "diverted",
        "overflow": "true",
        "transfer_to": "+49731555",
    }


def test_a_failure_names_what_failed_in_the_flow() -> None:
    session = Session().live()
    session.leg.send(Hangup(outcome.AGENT_CONFIG, "Missing required dynamic variables: first_name"), session.now)
    parameters = disconnect(session.leg.drain())
    assert parameters["reason"] == "error"
    assert parameters["outputVariables"]["errorType"] == "agent_config"
    assert parameters["outputVariables"]["errorMessage"] == "Missing required dynamic variables: first_name"


def test_results_without_room_are_counted() -> None:
    session = Session().live()
    session.leg.send(Hangup(outcome.AGENT_HANGUP, outputs={"a": "x" * 70_000, "b": "c"}), session.now)
    assert disconnect(session.leg.drain())["outputVariables"] == {"end_reason": "agent_hangup", "b": "c"}
    assert session.leg.oddities.dropped_outputs == 1


@pytest.mark.parametrize("command", [Hangup(outcome.DRAINING), Reject(outcome.CAPACITY)])
def test_an_end_of_ours_before_open(command: Command) -> None:
    session = Session()
    session.leg.send(command, session.now)
    assert disconnect(session.leg.drain())["reason"] == "error"
    assert session.hear("open", genesys.OPEN) == []
    assert session.hear("close", {"reason": "disconnect"}) == []
    assert said(session.leg.drain()) == [("closed", {})]
    session = Session(UNKNOWN)
    session.leg.send(command, session.now)
    assert session.leg.drain() == [CloseSocket(1000, "no session was opened")]
    assert session.hear("open", genesys.OPEN) == []


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        ("{", "not an AudioHook message: Input data was truncated"),
        (genesys.message("ping", id=genesys.ZERO_ID), "'ping': id is not the session's"),
        (genesys.message("ping", id=""), "'ping': id is not the session's"),
        (genesys.opening(), "open a second time"),
    ],
)
def test_what_is_no_session_of_ours_ends_it(message: str, detail: str) -> None:
    session = Session().live()
    assert session.leg.receive(message, session.now) == [Ended(outcome.BAD_MESSAGE, detail)]
    parameters = disconnect(session.leg.drain())
    assert parameters["reason"] == "error"
    assert parameters["info"] == f"bad_message: {detail}"
    assert session.leg.lingering()


def test_a_silent_line_ends() -> None:
    session = Session().live()
    happened, out = session.wait(30.0)
    assert happened == [Ended(outcome.CARRIER_SILENT, "nothing for 30 s")]
    assert disconnect(out)["reason"] == "error"


@pytest.mark.parametrize("code", [1000, 1005, 1006])
def test_a_lost_socket_is_a_failure_at_any_time(code: int) -> None:
    session = Session().live()
    detail = f"close {code} of the socket without a close message"
    assert session.leg.connection_lost(code, session.now) == [Ended(outcome.CARRIER_LOST, detail)]
    assert session.leg.drain() == []
    assert session.leg.connection_lost(code, session.now) == []
    assert session.hear("ping") == []


def test_a_timer_that_comes_too_early_changes_nothing() -> None:
    session = Session().live()
    assert session.leg.handle_timer(session.leg.next_timer() - 0.001) == []
    assert session.leg.drain() == []
    assert session.leg.state is State.LIVE


# --- the card, and anything at all ---


def test_what_genesys_takes_at_most_is_never_exceeded_by_the_card() -> None:
    assert SPEC.takes_results
    assert not SPEC.needs_token
    assert 1000 / SPEC.chunk_ms < 4


KINDS = ["open", "close", "ping", "update", "paused", "resumed", "discarded", "dtmf", "error", "playback_started"]
KINDS += ["playback_completed", "novelty"]
PARAMETERS = st.sampled_from(
    [
        {},
        genesys.OPEN,
        genesys.PROBE,
        genesys.OPEN | {"media": [STEREO]},
        {"reason": "end"},
        {"start": "PT0S", "discarded": "PT1.5S"},
        {"digit": "1"},
        {"code": 429, "message": "", "retryAfter": "PT3S"},
        {"x": None},
    ]
)
HAPPENINGS = st.one_of(
    st.tuples(st.sampled_from(KINDS), PARAMETERS),
    st.tuples(st.sampled_from(KINDS), PARAMETERS),
    st.binary(max_size=40),
    st.text(st.characters(), max_size=20),
    st.sampled_from([Play(b"\x55" * 1600), Play(b"\x55" * 40_000), Mark("m"), Flush(), Hangup(outcome.AGENT_HANGUP)]),
    st.floats(0, 12),
)


@given(st.lists(HAPPENINGS, max_size=30), st.booleans())
@settings(deadline=None)
def test_whatever_happens_the_wire_is_right(happenings: list[object], begun: bool) -> None:
    session = Session().live() if begun else Session()
    out: list[Outgoing] = []
    events: list[Event] = []
    for happening in happenings:
        if isinstance(happening, tuple):
            happened = session.hear(*happening)
            events += happened
            if happened and isinstance(happened[0], Offered):
                session.leg.send(Accept(ULAW_8K), session.now)
        elif isinstance(happening, str | bytes):
            events += session.leg.receive(happening, session.now)
        elif isinstance(happening, float):
            happened, items = session.wait(happening)
            events, out = events + happened, out + items
        elif isinstance(happening, Hangup) or session.leg.state is State.LIVE:
            session.leg.send(happening, session.now)  # type: ignore[arg-type]
        out += session.leg.drain()
    events += session.leg.connection_lost(1006, session.now)
    assert sum(isinstance(event, Ended) for event in events) <= 1
    assert_wire_is_right(out, 1 if begun else 0)


def assert_wire_is_right(out: list[Outgoing], seq: int) -> None:
    """Numbers without gaps, parameters always, nothing before ``opened``, no audio after the end, one ``closed``."""
    over = False
    for item in out:
        if isinstance(item, bytes):
            assert not over
            assert seq
            assert 0 < len(item) <= 64_000
        elif isinstance(item, str):
            body = json.loads(item)
            seq += 1
            assert list(body) == ["version", "id", "type", "seq", "clientseq", "parameters"]
            assert body["seq"] == seq
            assert isinstance(body["parameters"], dict)
            assert seq > 1 or body["type"] in ("opened", "disconnect", "closed")
            over = over or body["type"] in ("disconnect", "closed")
        else:
            assert item is out[-1]
    kinds = [kind for kind, _ in said(out)]
    assert all(kinds.count(kind) <= 1 for kind in ("opened", "disconnect", "closed"))
    assert "closed" not in kinds[:-1]
