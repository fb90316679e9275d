"""What a peer asks within a call: re-INVITE, UPDATE, INFO, OPTIONS, NOTIFY and the rest."""

from __future__ import annotations

import pytest

from bridge.sip.sdp import Direction
from bridge.sip.ua_events import CallOffered, CallOver, InfoDigit, MediaChanged, SipEnd
from tests.kit.sip_peer import (
    HOLD,
    NO_CODEC,
    OFFER,
    PEER_ANSWER,
    RESUME,
    TCP_PEER,
    Caller,
    Rig,
    answered_call,
    body_of,
    header_of,
    start_of,
)


def calling() -> tuple[Rig, Caller]:
    rig = Rig()
    caller = Caller(rig)
    answered_call(rig, caller)
    return rig, caller


def test_hold_and_resume() -> None:
    rig, caller = calling()
    call = rig.last(CallOffered).call
    (held,) = caller.send("INVITE", body=HOLD)
    assert isinstance(held, MediaChanged)
    assert held.agreement.direction is Direction.RECVONLY
    assert held.agreement.is_held_by_peer
    (ok,) = rig.take()
    assert "a=recvonly\r\n" in body_of(ok)
    assert header_of(ok, "Contact") == "<sip:bridge@198.51.100.1:5060>"
    assert caller.ack() == []
    (resumed,) = caller.send("INVITE", body=RESUME)
    assert isinstance(resumed, MediaChanged)
    assert resumed.agreement.direction is Direction.SENDRECV
    caller.ack()
    rig.take()
    rig.advance(60)
    assert rig.take() == []
    assert not call.is_over


def test_hold_as_of_rfc_2543() -> None:
    rig, caller = calling()
    (held,) = caller.send("INVITE", body=OFFER.replace("c=IN IP4 192.0.2.9", "c=IN IP4 0.0.0.0"))
    assert isinstance(held, MediaChanged)
    assert held.agreement.remote is None
    assert not held.agreement.may_send


def test_a_re_invite_that_changes_nothing_is_answered_and_not_told() -> None:
    rig, caller = calling()
    assert caller.send("INVITE", body=OFFER) == []
    (ok,) = rig.take()
    assert "o=- 7 7 IN IP4" in body_of(ok)


def test_a_re_invite_without_offer_gets_ours() -> None:
    rig, caller = calling()
    assert caller.send("INVITE") == []
    (ok,) = rig.take()
    assert "m=audio 20000 RTP/AVP 0 8 13 101" in body_of(ok)
    (changed,) = caller.ack(PEER_ANSWER.replace("audio 4000", "audio 4010"))
    assert isinstance(changed, MediaChanged)
    assert changed.agreement.remote == ("192.0.2.9", 4010)


def test_a_re_invite_without_offer_whose_ack_has_none_either_changes_nothing() -> None:
    rig, caller = calling()
    caller.send("INVITE")
    assert caller.ack() == []
    caller.send("INVITE", body=HOLD)
    assert rig.starts()[-1] == "SIP/2.0 200 OK"


def test_a_broken_answer_in_the_ack_of_a_re_invite_ends_the_call() -> None:
    rig, caller = calling()
    call = rig.last(CallOffered).call
    caller.send("INVITE")
    rig.take()
    assert caller.ack("v=nonsense") == [
        CallOver(call, SipEnd.NOT_ACCEPTABLE, 0, "No usable answer in ACK", by_peer=False)
    ]
    assert rig.starts() == ["BYE sip:peer@192.0.2.9:5060 SIP/2.0"]


def test_a_refused_offer_keeps_what_was() -> None:
    rig, caller = calling()
    call = rig.last(CallOffered).call
    before = call.agreement
    assert caller.send("INVITE", body=NO_CODEC) == []
    assert rig.starts() == ["SIP/2.0 488 Not Acceptable Here"]
    assert caller.send("UPDATE", body=NO_CODEC) == []
    assert rig.starts() == ["SIP/2.0 488 Not Acceptable Here"]
    assert (call.agreement, call.is_over) == (before, False)


def test_an_offer_while_ours_waits_for_its_answer_is_491() -> None:
    rig, caller = calling()
    caller.send("INVITE")
    rig.take()
    caller.send("INVITE", body=OFFER)
    caller.send("UPDATE", body=OFFER)
    assert rig.starts() == ["SIP/2.0 491 Request Pending"] * 2


def test_a_re_invite_without_ack_ends_the_call() -> None:
    rig, caller = calling()
    call = rig.last(CallOffered).call
    caller.send("INVITE", body=OFFER)
    assert rig.advance(32.1) == [CallOver(call, SipEnd.NO_ACK, 408, "No ACK", by_peer=False)]
    assert rig.starts()[-1] == "BYE sip:peer@192.0.2.9:5060 SIP/2.0"


def test_update_with_and_without_an_offer() -> None:
    rig, caller = calling()
    (held,) = caller.send("UPDATE", body=HOLD)
    assert isinstance(held, MediaChanged)
    (ok,) = rig.take()
    assert "a=recvonly" in body_of(ok)
    assert header_of(ok, "Contact") == "<sip:bridge@198.51.100.1:5060>"
    assert caller.send("UPDATE") == []
    (ok,) = rig.take()
    assert (start_of(ok), body_of(ok)) == ("SIP/2.0 200 OK", "")


def test_the_target_moves_with_re_invites_and_updates() -> None:
    rig, caller = calling()
    caller.send("UPDATE", contact="<sip:new@192.0.2.10:5070>")
    call = rig.last(CallOffered).call
    rig.take()
    call.hang_up(rig.now)
    (out,) = rig.take_out()
    assert out.data.startswith(b"BYE sip:new@192.0.2.10:5070 SIP/2.0")
    assert (out.flow.host, out.flow.port) == ("192.0.2.10", 5070)


def test_a_refused_update_leaves_the_target() -> None:
    rig, caller = calling()
    caller.send("UPDATE", body=NO_CODEC, contact="<sip:new@192.0.2.10:5070>")
    rig.take()
    rig.last(CallOffered).call.hang_up(rig.now)
    assert rig.starts() == ["BYE sip:peer@192.0.2.9:5060 SIP/2.0"]


@pytest.mark.parametrize(
    ("content_type", "body", "digit"),
    [
        ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", ("5", 160)),
        ("application/dtmf", "#", ("#", 250)),
        ("Application/DTMF-Relay; charset=utf-8", "Signal= *\r\n", ("*", 250)),
    ],
)
def test_keys_in_info(content_type: str, body: str, digit: tuple[str, int]) -> None:
    rig, caller = calling()
    call = rig.last(CallOffered).call
    assert caller.send("INFO", body=body, content_type=content_type) == [InfoDigit(call, *digit)]
    assert rig.starts() == ["SIP/2.0 200 OK"]


@pytest.mark.parametrize(
    ("headers", "content_type", "body", "start"),
    [
        ((), "application/dtmf-relay", "Signal=nokey", "SIP/2.0 400 Malformed INFO"),
        ((), "text/plain", "hello", "SIP/2.0 415 Unsupported Media Type"),
        ((), "application/media_control+xml", "<x/>", "SIP/2.0 200 OK"),
        ((), "", "", "SIP/2.0 200 OK"),
        (("Info-Package: foo",), "text/plain", "hello", "SIP/2.0 469 Bad Info Package"),
    ],
)
def test_other_infos(headers: tuple[str, ...], content_type: str, body: str, start: str) -> None:
    rig, caller = calling()
    assert caller.send("INFO", body=body, content_type=content_type, headers=headers) == []
    assert rig.starts() == [start]


@pytest.mark.parametrize(
    ("method", "headers", "start"),
    [
        ("OPTIONS", (), "SIP/2.0 200 OK"),
        ("REFER", ("Refer-To: <sip:x@y>",), "SIP/2.0 603 Decline"),
        ("MESSAGE", (), "SIP/2.0 405 Method Not Allowed"),
        ("SUBSCRIBE", (), "SIP/2.0 405 Method Not Allowed"),
        ("FROBNICATE", (), "SIP/2.0 501 Not Implemented"),
        ("INFO", ("Require: nothing",), "SIP/2.0 420 Bad Extension"),
        ("NOTIFY", ("Event: refer",), "SIP/2.0 481 Subscription Does Not Exist"),
        ("NOTIFY", ("Event: presence",), "SIP/2.0 489 Bad Event"),
        ("NOTIFY", (), "SIP/2.0 489 Bad Event"),
    ],
)
def test_other_requests(method: str, headers: tuple[str, ...], start: str) -> None:
    rig, caller = calling()
    assert caller.send(method, headers=headers) == []
    assert rig.starts() == [start]
    assert not rig.last(CallOffered).call.is_over


def test_options_in_a_dialog_names_abilities() -> None:
    rig, caller = calling()
    caller.send("OPTIONS")
    (ok,) = rig.take()
    assert header_of(ok, "Allow") == "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, NOTIFY"
    assert header_of(ok, "Accept") == "application/sdp, multipart/mixed"


def test_a_request_out_of_order_is_500() -> None:
    rig, caller = calling()
    caller.send("INFO")
    rig.take()
    caller.send("INFO", cseq=1)
    assert rig.starts() == ["SIP/2.0 500 CSeq Out of Order"]


def test_requests_without_a_dialog_are_481_and_acks_are_ignored() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.to_tag = "gone"
    for method in ("BYE", "INVITE", "UPDATE", "INFO", "NOTIFY", "OPTIONS"):
        assert caller.send(method) == []
    assert rig.starts() == ["SIP/2.0 481 Call/Transaction Does Not Exist"] * 6
    caller.ack()
    assert rig.take() == []
    rig.advance(40)
    rig.take()
    rig.gate.answers_strangers = False
    caller.send("BYE")
    rig.advance(40)
    assert rig.take() == []
    assert rig.is_clean()


def test_a_request_after_the_end_of_a_call_whose_bye_is_open() -> None:
    rig, caller = calling()
    rig.last(CallOffered).call.hang_up(rig.now)
    rig.settle()
    rig.take()
    assert caller.send("INVITE", body=HOLD) == []
    assert caller.send("UPDATE", body=HOLD) == []
    assert caller.send("INFO", body="5", content_type="application/dtmf") == []
    assert [start.split()[1] for start in rig.starts()] == ["481", "481", "200"]


def test_requests_come_on_other_connections() -> None:
    rig = Rig()
    caller = Caller(rig, TCP_PEER)
    answered_call(rig, caller)
    call = rig.last(CallOffered).call
    other = type(TCP_PEER)(TCP_PEER.transport, TCP_PEER.host, 40002, connection=8)
    caller.flow = other
    caller.send("UPDATE", contact="<sip:peer@192.0.2.9:5060;transport=tcp>")
    (out,) = rig.take_out()
    assert out.flow.connection == 8
    call.hang_up(rig.now)
    (bye,) = rig.take_out()
    assert bye.flow.connection == 8
    rig.fail(bye)
    (again,) = rig.take_out()
    assert (again.flow.port, again.flow.connection) == (5060, 0)
    assert again.data.startswith(b"BYE sip:peer@192.0.2.9:5060;transport=tcp SIP/2.0")


def test_hanging_up_before_the_ack_of_a_re_invite_stops_the_200() -> None:
    rig, caller = calling()
    caller.send("INVITE", body=HOLD)
    rig.last(CallOffered).call.hang_up(rig.now)
    rig.take()
    rig.advance(8)
    assert {start_of(text).split()[0] for text in rig.take()} == {"BYE"}
