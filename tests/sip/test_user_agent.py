"""The user agent as strangers meet it: OPTIONS, the gate, limits, malformed messages."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import LocalError
from bridge.sip.errors import NotSip, Rejection
from bridge.sip.flow import Announced, Flow, Transport
from bridge.sip.framing import parse_datagram
from bridge.sip.message import Request
from bridge.sip.ua_events import CallOffered
from bridge.sip.ua_options import AgentOptions, Deny, Drop
from bridge.sip.user_agent import UserAgent
from tests.kit.sip_peer import (
    ANNOUNCED,
    OFFER,
    OPTIONS,
    TCP_PEER,
    UDP_PEER,
    Caller,
    OpenGate,
    Rig,
    counted_ids,
    header_of,
    headers_of,
    start_of,
)


def test_options_names_abilities() -> None:
    rig = Rig()
    assert Caller(rig).send("OPTIONS") == []
    (text,) = rig.take()
    assert start_of(text) == "SIP/2.0 200 OK"
    assert header_of(text, "Allow") == "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, NOTIFY"
    assert header_of(text, "Accept") == "application/sdp, multipart/mixed"
    assert header_of(text, "Supported") == "100rel, timer"
    assert header_of(text, "Contact") == "<sip:bridge@198.51.100.1:5060>"
    assert header_of(text, "To") == "<sip:+15550100@198.51.100.1>;tag=id1"
    assert rig.gate.judged == ["OPTIONS"]


@pytest.mark.parametrize("what", ["draining", "full"])
def test_options_of_an_agent_that_takes_no_calls(what: str) -> None:
    rig = Rig()
    setattr(rig.agent, what, True)
    Caller(rig).send("OPTIONS")
    (text,) = rig.take()
    assert start_of(text) == "SIP/2.0 503 Service Unavailable"
    assert header_of(text, "Retry-After") == "10"


def test_calls_while_draining_are_503_and_those_that_are_there_go_on() -> None:
    rig = Rig()
    first = Caller(rig)
    first.invite()
    rig.agent.draining = True
    assert Caller(rig, call_id="call-2").invite() == []
    (text,) = [text for text in rig.take() if start_of(text) != "SIP/2.0 100 Trying"]
    assert start_of(text) == "SIP/2.0 503 Service Unavailable"
    assert header_of(text, "Retry-After") == "10"
    rig.last(CallOffered).call.ring(rig.now)
    assert rig.starts() == ["SIP/2.0 180 Ringing"]


def test_a_full_agent_offers_calls_all_the_same_up_to_its_bound() -> None:
    rig = Rig(replace(OPTIONS, max_calls=1))
    rig.agent.full = True
    assert len(Caller(rig).invite()) == 1
    assert Caller(rig, call_id="call-2").invite() == []
    assert rig.starts() == ["SIP/2.0 503 Service Unavailable"]


def test_what_the_gate_denies() -> None:
    rejection = Rejection(401, "Unauthorized", (("WWW-Authenticate", 'Digest realm="x"'),))
    rig = Rig(gate=OpenGate(Deny(rejection)))
    assert Caller(rig).invite() == []
    (text,) = rig.take()
    assert start_of(text) == "SIP/2.0 401 Unauthorized"
    assert header_of(text, "WWW-Authenticate") == 'Digest realm="x"'


def test_what_the_gate_drops_is_never_answered_and_judged_each_time() -> None:
    rig = Rig(gate=OpenGate(Drop()))
    text = Caller(rig).request("INVITE", body=OFFER)
    for _ in range(2):
        assert rig.hear(text) == []
        rig.advance(1)
    assert rig.gate.judged == ["INVITE", "INVITE"]
    rig.advance(70)
    assert rig.take() == []
    assert rig.is_clean()


@pytest.mark.parametrize(
    ("method", "headers", "start"),
    [
        ("REGISTER", (), "SIP/2.0 405 Method Not Allowed"),
        ("MESSAGE", (), "SIP/2.0 405 Method Not Allowed"),
        ("REFER", (), "SIP/2.0 405 Method Not Allowed"),
        ("FROBNICATE", (), "SIP/2.0 501 Not Implemented"),
        ("BYE", (), "SIP/2.0 481 Call/Transaction Does Not Exist"),
        ("UPDATE", (), "SIP/2.0 481 Call/Transaction Does Not Exist"),
        ("NOTIFY", (), "SIP/2.0 481 Call/Transaction Does Not Exist"),
        ("INVITE", ("Require: precondition",), "SIP/2.0 420 Bad Extension"),
        ("INVITE", ("Accept: text/plain",), "SIP/2.0 406 Not Acceptable"),
        ("INVITE", ("Session-Expires: 30", "Supported: timer"), "SIP/2.0 422 Session Interval Too Small"),
    ],
)
def test_what_is_not_done_outside_of_calls(method: str, headers: tuple[str, ...], start: str) -> None:
    rig = Rig()
    assert Caller(rig).send(method, headers=headers) == []
    assert rig.starts() == [start]
    assert not rig.agent.calls


def test_an_unknown_body_is_415() -> None:
    rig = Rig()
    Caller(rig).invite("hello", content_type="text/plain")
    (text,) = rig.take()
    assert start_of(text) == "SIP/2.0 415 Unsupported Media Type"


@pytest.mark.parametrize(
    ("contact", "headers", "start"),
    [
        (None, (), "SIP/2.0 400 Missing Contact"),
        ("<tel:+15550100>", (), "SIP/2.0 400 Contact Is No SIP URI"),
        ("<sip:a@b>", ("Record-Route: <tel:+1>",), "SIP/2.0 400 Record-Route Is No SIP URI"),
    ],
)
def test_an_invite_that_leads_to_no_dialog(contact: str | None, headers: tuple[str, ...], start: str) -> None:
    rig = Rig()
    assert Caller(rig).invite(contact=contact, headers=headers) == []
    assert rig.starts() == [start]


def test_malformed_requests_are_answered_if_the_gate_lets() -> None:
    rig = Rig()
    text = Caller(rig).request("OPTIONS").replace("CSeq: 2 OPTIONS", "CSeq: x").replace("CSeq: 1 OPTIONS", "CSeq: x")
    assert rig.hear(text) == []
    (answer,) = rig.take()
    assert start_of(answer).startswith("SIP/2.0 400 ")
    assert header_of(answer, "To").endswith(";tag=id1")
    rig.gate.answers_strangers = False
    rig.hear(text)
    rig.gate.answers_strangers = True
    rig.hear(text.replace("OPTIONS", "ACK"))
    assert rig.take() == []
    assert rig.gate.judged == []


@pytest.mark.parametrize(
    ("is_answered", "starts"), [(True, ["SIP/2.0 481 Call/Transaction Does Not Exist"]), (False, [])]
)
def test_a_cancel_of_nothing_is_answered_if_the_gate_lets(is_answered: bool, starts: list[str]) -> None:
    rig = Rig(gate=OpenGate(answers_strangers=is_answered))
    rig.hear(Caller(rig).request("CANCEL"))
    assert rig.starts() == starts


def test_an_ack_outside_of_everything_is_ignored() -> None:
    rig = Rig()
    assert Caller(rig).ack() == []
    assert rig.take() == []


def test_responses_to_nothing_are_ignored() -> None:
    rig = Rig()
    caller = Caller(rig)
    text = caller.request("INVITE").split("\r\n", 1)[1]
    assert rig.hear(f"SIP/2.0 200 OK\r\n{text}") == []
    assert rig.hear("SIP/2.0 200 OK\r\nVia: x\r\n\r\n") == []
    assert rig.take() == []


def test_transports_that_are_not_served_are_deaf() -> None:
    rig = Rig(AgentOptions({Transport.UDP: Announced("198.51.100.1", 5060)}))
    caller = Caller(rig, TCP_PEER)
    assert caller.invite() == []
    assert rig.take() == []


def test_a_request_over_tls_gets_a_contact_for_it() -> None:
    rig = Rig()
    caller = Caller(rig, Flow(Transport.TLS, "192.0.2.9", 40001, connection=3))
    caller.send("OPTIONS")
    assert headers_of(rig.take()[0], "Contact") == ["<sip:bridge@198.51.100.1:5061;transport=tls>"]


def test_sips_callers_get_a_sips_contact() -> None:
    rig = Rig()
    caller = Caller(rig, Flow(Transport.TLS, "192.0.2.9", 40001, connection=3))
    caller.invite(uri="sips:+15550100@198.51.100.1")
    rig.last(CallOffered).call.ring(rig.now)
    assert headers_of(rig.take()[-1], "Contact") == ["<sips:bridge@198.51.100.1:5061>"]


def test_an_idle_agent_has_no_timer() -> None:
    agent = UserAgent(AgentOptions(ANNOUNCED), OpenGate(), counted_ids())
    assert agent.next_timer() == math.inf
    assert agent.send_failed("nothing", 1.0) == agent.targets_found("nothing", (), 1.0) == []


def test_it_serves_what_it_can_be_reached_over() -> None:
    agent = UserAgent(AgentOptions({Transport.UDP: ANNOUNCED[Transport.UDP]}), OpenGate(), counted_ids())
    assert [agent.serves(transport) for transport in (Transport.UDP, Transport.TLS)] == [True, False]


def test_an_agent_needs_a_transport() -> None:
    with pytest.raises(LocalError, match="at least one transport"):
        AgentOptions({})


TORTURE = sorted((Path(__file__).parents[1] / "vectors/sip/rfc4475").glob("*.dat"))


@pytest.mark.parametrize("path", TORTURE, ids=lambda path: path.stem)
@pytest.mark.parametrize("flow", [UDP_PEER, TCP_PEER], ids=["udp", "tcp"])
def test_the_torture_messages_of_rfc_4475_leave_nothing_behind(path: Path, flow: Flow) -> None:
    rig = Rig()
    try:
        message = parse_datagram(path.read_bytes())
    except NotSip:
        return  # the transport drops it
    assert message is not None
    if isinstance(message, Request):
        message = message.stamped(flow.host, flow.port)
    rig.agent.receive(message, flow, rig.now)
    for call in list(rig.agent.calls.values()):
        call.hang_up(rig.now)
    answers = [text for text in rig.take() if not text.startswith("SIP/2.0 100")]
    assert len(answers) == isinstance(message, Request)
    rig.advance(100)
    assert rig.is_clean()
