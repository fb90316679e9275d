"""Outgoing calls up to their answer, as texts on the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.auth.sip_digest_client import SipAccount
from bridge.errors import LocalError
from bridge.sip.flow import Announced, Flow, Transport
from bridge.sip.sdp import Direction
from bridge.sip.ua_events import (
    CallAnswered,
    CallOver,
    CallRinging,
    EarlyMedia,
    InfoDigit,
    MediaChanged,
    NeedTargets,
    SipEnd,
)
from bridge.sip.ua_options import AgentOptions
from tests.kit.sip_peer import (
    NO_CODEC,
    OFFER,
    PEER_ANSWER,
    TCP_PEER,
    UDP_PEER,
    Rig,
    audio_session,
    body_of,
    header_of,
    headers_of,
    order,
    response_to,
    start_of,
)

SECOND = Flow(Transport.UDP, "192.0.2.8", 5060)
CHALLENGE = 'WWW-Authenticate: Digest realm="trunk", nonce="n1", qop="auth", algorithm=MD5'
INVITE = (
    "INVITE sip:+15550100@192.0.2.9;user=phone SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKid4;rport\r\n"
    "Max-Forwards: 70\r\n"
    "From: <sip:+15550123@198.51.100.1>;tag=id1\r\n"
    "To: <sip:+15550100@192.0.2.9>\r\n"
    "Call-ID: id2\r\n"
    "CSeq: 1 INVITE\r\n"
    "Contact: <sip:bridge@198.51.100.1:5060>\r\n"
    "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, NOTIFY\r\n"
    "Supported: timer\r\n"
    "Session-Expires: 1800\r\n"
    "Min-SE: 90\r\n"
    "User-Agent: bridge/1.0\r\n"
    "Content-Type: application/sdp\r\n"
    "Content-Length: 244\r\n\r\n"
    "v=0\r\no=- 7 7 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n"
    "m=audio 20000 RTP/AVP 0 8 13 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
)


def test_a_whole_call() -> None:
    rig = Rig()
    call = rig.agent.place(order(), rig.now)
    (out,) = rig.take_out()
    invite = out.data.decode()
    assert (invite, out.flow) == (INVITE, UDP_PEER)
    assert call.is_outbound
    assert rig.agent.calls == {call.id: call}
    assert rig.hear(response_to(invite, 100, tag="")) == []
    assert rig.hear(response_to(invite, 180)) == [CallRinging(call, 180)]
    (answered,) = rig.hear(response_to(invite, 200, "OK", body=PEER_ANSWER, headers=("X-Trunk: a",)))
    assert isinstance(answered, CallAnswered)
    assert answered.agreement.remote == ("192.0.2.9", 4000)
    assert call.headers.get("X-Trunk") == "a"
    assert call.to.tag == "pt"
    (ack,) = rig.take()
    assert ack == (
        "ACK sip:callee@192.0.2.9:5060 SIP/2.0\r\n"
        f"{'Via: ' + header_of(ack, 'Via')}\r\n"
        "Max-Forwards: 70\r\n"
        "From: <sip:+15550123@198.51.100.1>;tag=id1\r\n"
        "To: <sip:+15550100@192.0.2.9>;tag=pt\r\n"
        "Call-ID: id2\r\n"
        "CSeq: 1 ACK\r\n"
        "User-Agent: bridge/1.0\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    assert header_of(ack, "Via") != header_of(invite, "Via")
    call.hang_up(rig.now)
    assert rig.settle() == [CallOver(call, SipEnd.LOCAL, 0, "", by_peer=False)]
    (bye,) = rig.take()
    assert start_of(bye) == "BYE sip:callee@192.0.2.9:5060 SIP/2.0"
    assert header_of(bye, "CSeq") == "2 BYE"
    rig.hear(response_to(bye, 200))
    rig.advance(40)
    assert rig.is_clean()


def place(rig: Rig, **changes: object) -> str:
    """Place a call; gives its INVITE."""
    rig.agent.place(order(**changes), rig.now)
    return rig.take()[-1]


def test_a_repeated_200_is_acknowledged_again_and_the_peer_hangs_up() -> None:
    rig = Rig()
    invite = place(rig)
    ok = response_to(invite, 200, body=PEER_ANSWER)
    rig.hear(ok)
    (ack,) = rig.take()
    assert rig.hear(ok) == []
    assert rig.take() == [ack]
    tag = header_of(invite, "From").partition(";tag=")[2]
    bye = (
        "BYE sip:bridge@198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKbye;rport\r\n"
        f"From: <sip:+15550100@192.0.2.9>;tag=pt\r\nTo: <sip:x@y>;tag={tag}\r\nCall-ID: id2\r\nCSeq: 9 BYE\r\n\r\n"
    )
    (over,) = rig.hear(bye)
    assert isinstance(over, CallOver)
    assert (over.how, over.by_peer) == (SipEnd.BYE, True)
    rig.advance(40)
    assert rig.is_clean()


def test_the_invite_goes_as_ordered() -> None:
    rig = Rig()
    invite = place(
        rig,
        from_display='A "quoted" name',
        asserted_identity=True,
        headers=(("X-Campaign", "42"), ("Diversion", "<sip:a@b>")),
    )
    assert header_of(invite, "From").startswith('"A \\"quoted\\" name" <sip:+15550123@198.51.100.1>;tag=')
    assert header_of(invite, "P-Asserted-Identity") == "<sip:+15550123@198.51.100.1>"
    assert (header_of(invite, "X-Campaign"), header_of(invite, "Diversion")) == ("42", "<sip:a@b>")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"headers": (("Via", "x"),)}, "header Via cannot be set: it carries the call"),
        ({"headers": (("f", "x"),)}, "header From cannot be set: it carries the call"),
        ({"headers": (("content-foo", "x"),)}, "header content-foo cannot be set: it carries the call"),
        ({"headers": (("X-A", "1\r\nVia: y"),)}, "header X-A: the value has a line end or another control character"),
        ({"headers": (("X-A", "\ud800"),)}, "header X-A: the value has a line end or another control character"),
        ({"headers": (("X A", "1"),)}, "a custom header's name is no token"),
        ({"headers": (("X-A", "1" * 1025),)}, "header X-A: the value has more than 1024 characters"),
        ({"headers": (("X-A", "1"),) * 33}, "call order: more than 32 headers"),
        ({"flows": ()}, "a call order needs at least one flow"),
        ({"request_uri": "tel:+1"}, "call order: request_uri is no plain SIP URI"),
        ({"request_uri": "sip:a@b?x=y"}, "call order: request_uri is no plain SIP URI"),
        ({"to_uri": "nothing"}, "call order: to_uri is no URI"),
        ({"from_uri": "sip:a b@c"}, "call order: from_uri is no URI"),
        ({"from_display": "a\r\nb"}, "call order: from_display has a control character"),
    ],
)
def test_orders_that_would_make_no_sound_invite(changes: dict[str, object], text: str) -> None:
    with pytest.raises(LocalError) as caught:
        order(**changes)
    assert str(caught.value) == text


def test_commands_of_incoming_calls_are_refused() -> None:
    rig = Rig()
    call = rig.agent.place(order(), rig.now)
    commands: tuple[Callable[[], None], ...] = (
        lambda: call.ring(rig.now),
        lambda: call.trying(rig.now),
        lambda: call.answer(rig.now),
        lambda: call.reject(486, rig.now),
        lambda: call.use_media(audio_session(), rig.now),
    )
    for command in commands:
        with pytest.raises(LocalError, match="outgoing call"):
            command()


def test_early_media_is_told_once_and_the_answer_may_move_it() -> None:
    rig = Rig()
    invite = place(rig)
    early = PEER_ANSWER.replace("audio 4000", "audio 4444")
    (heard,) = rig.hear(response_to(invite, 183, body=early))
    assert isinstance(heard, EarlyMedia)
    assert (heard.agreement.remote, heard.status) == (("192.0.2.9", 4444), 183)
    assert rig.hear(response_to(invite, 183, body=early)) == [CallRinging(heard.call, 183)]
    (answered,) = rig.hear(response_to(invite, 200, body=PEER_ANSWER))
    assert isinstance(answered, CallAnswered)
    assert answered.agreement.remote == ("192.0.2.9", 4000)


def test_the_answer_may_stand_in_the_provisional_response_alone() -> None:
    rig = Rig()
    invite = place(rig)
    rig.hear(response_to(invite, 183, body=PEER_ANSWER))
    (answered,) = rig.hear(response_to(invite, 200))
    assert isinstance(answered, CallAnswered)
    assert answered.agreement.remote == ("192.0.2.9", 4000)


@pytest.mark.parametrize("body", ["", "v=nonsense", NO_CODEC, PEER_ANSWER.replace("audio 4000", "audio 0")])
def test_a_200_without_a_usable_answer_gets_ack_and_bye(body: str) -> None:
    rig = Rig()
    invite = place(rig)
    (over,) = rig.hear(response_to(invite, 200, body=body))
    assert isinstance(over, CallOver)
    assert (over.how, over.reason, over.by_peer) == (SipEnd.NOT_ACCEPTABLE, "No usable answer", False)
    assert rig.starts() == ["ACK sip:callee@192.0.2.9:5060 SIP/2.0", "BYE sip:callee@192.0.2.9:5060 SIP/2.0"]
    rig.advance(100)
    assert rig.is_clean()


@pytest.mark.parametrize(("status", "reason"), [(486, "Busy Here"), (404, "Not Found"), (603, "Decline"), (380, "x")])
def test_a_refused_call(status: int, reason: str) -> None:
    rig = Rig()
    call = rig.agent.place(order(), rig.now)
    (invite,) = rig.take()
    assert rig.hear(response_to(invite, status, reason)) == [
        CallOver(call, SipEnd.FAILED, status, reason, by_peer=True)
    ]
    (ack,) = rig.take()
    assert start_of(ack) == "ACK sip:+15550100@192.0.2.9;user=phone SIP/2.0"
    rig.advance(40)
    assert rig.is_clean()


def test_nobody_there() -> None:
    rig = Rig()
    call = rig.agent.place(order(), rig.now)
    events = rig.advance(33)
    assert events == [CallOver(call, SipEnd.TIMEOUT, 408, "Request Timeout", by_peer=False)]
    assert len(rig.take()) == 7
    assert rig.is_clean()


def test_ringing_too_long_is_cancelled() -> None:
    rig = Rig()
    call = rig.agent.place(order(ring_timeout_s=20), rig.now)
    (invite,) = rig.take()
    rig.hear(response_to(invite, 180))
    events = rig.advance(20.1)
    assert events == [CallOver(call, SipEnd.NO_ANSWER, 487, "Request Terminated", by_peer=False)]
    (cancel,) = rig.take()
    assert start_of(cancel) == "CANCEL sip:+15550100@192.0.2.9;user=phone SIP/2.0"
    assert header_of(cancel, "Via") == header_of(invite, "Via")
    rig.hear(response_to(cancel, 200))
    assert rig.hear(response_to(invite, 487)) == []
    assert rig.starts() == ["ACK sip:+15550100@192.0.2.9;user=phone SIP/2.0"]
    rig.advance(40)
    assert rig.is_clean()


def test_hanging_up_before_any_response_holds_the_cancel() -> None:
    rig = Rig()
    call = rig.agent.place(order(), rig.now)
    (invite,) = rig.take()
    call.hang_up(rig.now, reason_header="SIP;cause=200")
    call.hang_up(rig.now)
    assert rig.settle() == [CallOver(call, SipEnd.LOCAL, 487, "Request Terminated", by_peer=False)]
    assert rig.take() == []
    rig.hear(response_to(invite, 100, tag=""))
    (cancel,) = rig.take()
    assert header_of(cancel, "Reason") == "SIP;cause=200"
    rig.advance(80)
    assert rig.is_clean()


def test_a_200_that_crosses_the_cancel_gets_ack_and_bye() -> None:
    rig = Rig()
    call = rig.agent.place(order(), rig.now)
    (invite,) = rig.take()
    rig.hear(response_to(invite, 180))
    call.hang_up(rig.now)
    rig.settle()
    (cancel,) = rig.take()
    ok = response_to(invite, 200, body=PEER_ANSWER)
    assert rig.hear(ok) == []
    ack, bye = rig.take()
    assert (start_of(ack), start_of(bye)) == (
        "ACK sip:callee@192.0.2.9:5060 SIP/2.0",
        "BYE sip:callee@192.0.2.9:5060 SIP/2.0",
    )
    rig.hear(ok)
    assert rig.take() == [ack]
    rig.hear(response_to(cancel, 481))
    rig.hear(response_to(bye, 200))
    rig.advance(80)
    assert rig.is_clean()


# Forking


def test_the_first_answer_wins_and_the_others_get_ack_and_bye() -> None:
    rig = Rig()
    invite = place(rig)
    assert [type(event) for event in rig.hear(response_to(invite, 180, tag="a"))] == [CallRinging]
    (early,) = rig.hear(response_to(invite, 183, tag="b", body=PEER_ANSWER))
    assert isinstance(early, EarlyMedia)
    assert rig.agent.open_dialogs == 2
    (answered,) = rig.hear(response_to(invite, 200, tag="a", body=PEER_ANSWER.replace("4000", "5000")))
    assert isinstance(answered, CallAnswered)
    assert answered.agreement.remote == ("192.0.2.9", 5000)
    rig.take()
    assert rig.hear(response_to(invite, 200, tag="b", body=PEER_ANSWER, contact="<sip:b@192.0.2.20>")) == []
    ack, bye = rig.take_out()
    assert ack.data.startswith(b"ACK sip:b@192.0.2.20 SIP/2.0")
    assert bye.data.startswith(b"BYE sip:b@192.0.2.20 SIP/2.0")
    assert ack.flow.host == bye.flow.host == "192.0.2.20"
    rig.hear(response_to(bye.data.decode(), 200))
    rig.advance(40)
    assert rig.agent.open_dialogs == 1
    assert len(rig.agent.calls) == 1


def test_forks_are_bounded() -> None:
    rig = Rig()
    invite = place(rig)
    for number in range(30):
        rig.hear(response_to(invite, 180, tag=f"t{number}"))
    assert rig.agent.open_dialogs == 16


def test_a_bye_of_a_callee_that_only_rings_ends_the_call() -> None:
    rig = Rig()
    invite = place(rig)
    rig.hear(response_to(invite, 180))
    rig.take()
    tag = header_of(invite, "From").partition(";tag=")[2]
    bye = (
        "BYE sip:bridge@198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKbye;rport\r\n"
        f"From: <sip:+15550100@192.0.2.9>;tag=pt\r\nTo: <sip:x@y>;tag={tag}\r\nCall-ID: id2\r\nCSeq: 9 BYE\r\n\r\n"
    )
    (over,) = rig.hear(bye)
    assert isinstance(over, CallOver)
    assert over.how is SipEnd.BYE
    assert [start.split()[0] for start in rig.starts()] == ["SIP/2.0", "CANCEL"]


# Routing


def test_record_routes_are_followed_in_reverse() -> None:
    rig = Rig()
    invite = place(rig)
    routes = ("Record-Route: <sip:192.0.2.31;lr>, <sip:192.0.2.32;lr>",)
    rig.hear(response_to(invite, 200, body=PEER_ANSWER, headers=routes))
    (ack,) = rig.take_out()
    assert headers_of(ack.data.decode(), "Route") == ["<sip:192.0.2.32;lr>", "<sip:192.0.2.31;lr>"]
    assert (ack.flow.host, ack.flow.port, ack.flow.transport) == ("192.0.2.32", 5060, Transport.UDP)


def test_a_strict_router_gets_its_own_uri() -> None:
    rig = Rig()
    invite = place(rig)
    routes = ("Record-Route: <sip:192.0.2.31;lr>, <sip:192.0.2.32:5070>",)
    rig.hear(response_to(invite, 200, body=PEER_ANSWER, headers=routes))
    (ack,) = rig.take_out()
    text = ack.data.decode()
    assert start_of(text) == "ACK sip:192.0.2.32:5070 SIP/2.0"
    assert headers_of(text, "Route") == ["<sip:192.0.2.31;lr>", "<sip:callee@192.0.2.9:5060>"]
    assert ack.flow.port == 5070


def test_names_are_looked_up_once_and_the_requests_wait() -> None:
    rig = Rig()
    invite = place(rig)
    contact = "<sip:callee@sbc.example;transport=tcp>"
    need, answered = rig.hear(response_to(invite, 200, body=PEER_ANSWER, contact=contact))
    assert isinstance(need, NeedTargets)
    assert isinstance(answered, CallAnswered)
    assert (need.host, need.port, need.transport, need.is_secure) == ("sbc.example", None, Transport.TCP, False)
    assert rig.take() == []
    rig.agent.targets_found(need.lookup_id, (TCP_PEER,), rig.now)
    (ack,) = rig.take_out()
    assert ack.flow == TCP_PEER
    assert b"Via: SIP/2.0/TCP 198.51.100.1:5060;" in ack.data
    need.call.hang_up(rig.now)
    (bye,) = rig.take_out()
    assert bye.flow == TCP_PEER
    assert rig.agent.targets_found(need.lookup_id, (), rig.now) == [CallOver(need.call, SipEnd.LOCAL, 0, "", False)]


def test_a_name_without_address_falls_back_on_the_way_of_the_invite() -> None:
    rig = Rig()
    invite = place(rig)
    rig.hear(response_to(invite, 200, body=PEER_ANSWER, contact="<sip:callee@sbc.example>"))
    rig.advance(10.1)
    (ack,) = rig.take_out()
    assert ack.flow == UDP_PEER


def test_no_ack_goes_twice_while_a_name_is_looked_up() -> None:
    rig = Rig()
    invite = place(rig)
    ok = response_to(invite, 200, body=PEER_ANSWER, contact="<sip:callee@sbc.example>")
    need, _ = rig.hear(ok)
    assert rig.hear(ok) == []
    assert isinstance(need, NeedTargets)
    rig.agent.targets_found(need.lookup_id, (UDP_PEER,), rig.now)
    assert rig.starts() == ["ACK sip:callee@sbc.example SIP/2.0"]


# Failover, redirection


def test_the_next_way_is_tried_when_the_first_cannot_be_sent_or_is_503() -> None:
    rig = Rig()
    call = rig.agent.place(order(flows=(TCP_PEER, SECOND, UDP_PEER)), rig.now)
    (first,) = rig.take_out()
    assert rig.fail(first) == []
    (second,) = rig.take_out()
    assert second.flow == SECOND
    one, two = first.data.decode(), second.data.decode()
    assert header_of(one, "CSeq") == header_of(two, "CSeq")
    assert header_of(one, "From") == header_of(two, "From")
    assert header_of(one, "Via") != header_of(two, "Via")
    assert "transport=tcp" in header_of(one, "Contact")
    assert rig.hear(response_to(two, 503), SECOND) == []
    ack, third = rig.take_out()
    assert ack.data.startswith(b"ACK")
    assert third.flow == UDP_PEER
    assert rig.hear(response_to(third.data.decode(), 503, "Service Unavailable")) == [
        CallOver(call, SipEnd.FAILED, 503, "Service Unavailable", by_peer=True)
    ]


def test_no_second_phone_is_rung_after_a_503() -> None:
    rig = Rig()
    rig.agent.place(order(flows=(UDP_PEER, SECOND)), rig.now)
    (invite,) = rig.take()
    rig.hear(response_to(invite, 180))
    (over,) = rig.hear(response_to(invite, 503))
    assert isinstance(over, CallOver)


def test_the_next_way_is_tried_when_nobody_answers() -> None:
    rig = Rig()
    rig.agent.place(order(flows=(UDP_PEER, SECOND)), rig.now)
    rig.advance(32.1)
    assert rig.take_out()[-1].flow == SECOND


def test_a_late_200_of_the_first_way_is_taken_and_the_second_try_is_cancelled() -> None:
    rig = Rig()
    rig.agent.place(order(flows=(UDP_PEER, SECOND)), rig.now)
    (invite,) = rig.take()
    rig.advance(32.1)
    second = rig.take()[-1]
    rig.hear(response_to(second, 100, tag=""), SECOND)
    (answered,) = rig.hear(response_to(invite, 200, body=PEER_ANSWER))
    assert isinstance(answered, CallAnswered)
    assert [start.split()[0] for start in rig.starts()] == ["ACK", "CANCEL"]


def test_nothing_can_be_sent() -> None:
    rig = Rig()
    call = rig.agent.place(order(flows=(TCP_PEER,)), rig.now)
    (out,) = rig.take_out()
    assert rig.fail(out) == [CallOver(call, SipEnd.TRANSPORT, 0, "The request could not be sent", by_peer=False)]
    assert rig.is_clean()


def test_a_long_invite_goes_by_tcp_and_falls_back_to_udp() -> None:
    rig = Rig()
    rig.agent.place(order(headers=(("X-Long", "x" * 700),)), rig.now)
    (first,) = rig.take_out()
    assert (first.flow.transport, first.flow.port) == (Transport.TCP, 5060)
    assert b"Via: SIP/2.0/TCP" in first.data
    rig.fail(first)
    (second,) = rig.take_out()
    assert second.flow == UDP_PEER
    assert b"Via: SIP/2.0/UDP" in second.data


def test_a_long_invite_stays_on_udp_where_it_must() -> None:
    rig = Rig()
    rig.agent.place(order(headers=(("X-Long", "x" * 700),), is_transport_fixed=True), rig.now)
    (out,) = rig.take_out()
    assert out.flow == UDP_PEER


def test_redirections_are_followed_twice_within_the_trunk() -> None:
    rig = Rig()
    call = rig.agent.place(order(), rig.now)
    (invite,) = rig.take()
    contact = ("Contact: <sip:x@203.0.113.1>;q=0.9, <sip:second@192.0.2.9:5080?h=v>;q=0.5, <tel:+1>",)
    assert rig.hear(response_to(invite, 302, headers=contact)) == []
    ack, out = rig.take_out()
    again = out.data.decode()
    assert ack.data.startswith(b"ACK")
    assert start_of(again) == "INVITE sip:second@192.0.2.9:5080 SIP/2.0"
    assert (out.flow.port, header_of(again, "CSeq"), header_of(again, "To")) == (
        5080,
        "2 INVITE",
        "<sip:+15550100@192.0.2.9>",
    )
    rig.hear(response_to(again, 302, headers=("Contact: <sip:third@192.0.2.9>",)))
    third = rig.take()[-1]
    (over,) = rig.hear(response_to(third, 301, "Moved", headers=("Contact: <sip:fourth@192.0.2.9>",)))
    assert over == CallOver(call, SipEnd.FAILED, 301, "Moved", by_peer=True)


@pytest.mark.parametrize("contact", ["<sip:x@203.0.113.1>", "<tel:+15550100>", "<sip:+15550100@192.0.2.9;user=phone>"])
def test_redirections_that_are_not_followed(contact: str) -> None:
    rig = Rig()
    invite = place(rig)
    (over,) = rig.hear(response_to(invite, 302, headers=(f"Contact: {contact}",)))
    assert isinstance(over, CallOver)
    assert over.status == 302


def test_redirections_anywhere_where_the_order_permits() -> None:
    rig = Rig()
    invite = place(rig, follow_any=True)
    (need,) = rig.hear(response_to(invite, 302, headers=("Contact: <sip:x@other.example;transport=tcp>",)))
    assert isinstance(need, NeedTargets)
    rig.take()
    rig.agent.targets_found(need.lookup_id, (TCP_PEER,), rig.now)
    (out,) = rig.take_out()
    assert (out.flow, start_of(out.data.decode())) == (TCP_PEER, "INVITE sip:x@other.example;transport=tcp SIP/2.0")


def test_a_redirection_to_a_name_without_address_fails() -> None:
    rig = Rig()
    invite = place(rig, follow_any=True)
    rig.hear(response_to(invite, 302, headers=("Contact: <sip:x@other.example>",)))
    (over,) = rig.advance(10.1)
    assert isinstance(over, CallOver)
    assert over.how is SipEnd.TRANSPORT


def test_hanging_up_while_a_redirection_is_looked_up() -> None:
    rig = Rig()
    invite = place(rig, follow_any=True)
    (need,) = rig.hear(response_to(invite, 302, headers=("Contact: <sip:x@other.example>",)))
    assert isinstance(need, NeedTargets)
    need.call.hang_up(rig.now)
    rig.take()
    rig.agent.targets_found(need.lookup_id, (TCP_PEER,), rig.now)
    assert rig.take() == []
    rig.advance(40)
    assert rig.is_clean()


MOVED = ("Contact: <sip:a@192.0.2.9>;q=0.9, <sip:b@192.0.2.9>;q=0.5",)


def moved(rig: Rig, **changes: object) -> str:
    """The INVITE to the first of two Contacts."""
    rig.hear(response_to(place(rig, **changes), 302, headers=MOVED))
    again = rig.take()[-1]
    assert start_of(again) == "INVITE sip:a@192.0.2.9 SIP/2.0"
    return again


@pytest.mark.parametrize("status", [404, 486, 302])
def test_the_next_contact_is_called_when_the_first_refuses(status: int) -> None:
    rig = Rig()
    again = moved(rig)
    rig.hear(response_to(again, 180))
    assert [event for event in rig.hear(response_to(again, status)) if isinstance(event, CallOver)] == []
    ack, last = rig.take()
    assert (start_of(ack)[:3], start_of(last)) == ("ACK", "INVITE sip:b@192.0.2.9 SIP/2.0")
    (over,) = rig.hear(response_to(last, 480, "Away"))
    assert isinstance(over, CallOver)
    assert (over.how, over.status) == (SipEnd.FAILED, 480)


def test_a_callee_that_declines_everywhere_is_called_nowhere_else() -> None:
    rig = Rig()
    (over,) = rig.hear(response_to(moved(rig), 603, "Decline"))
    assert isinstance(over, CallOver)
    assert over.status == 603


def test_the_next_contact_is_called_when_nobody_answers_at_the_first() -> None:
    rig = Rig()
    moved(rig)
    assert rig.advance(32.1) == []
    assert start_of(rig.take()[-1]) == "INVITE sip:b@192.0.2.9 SIP/2.0"


def test_the_next_contact_is_called_when_the_first_has_no_address() -> None:
    rig = Rig()
    contact = ("Contact: <sip:a@name.example>, <sip:b@192.0.2.9>;q=0.5",)
    (need,) = rig.hear(response_to(place(rig, follow_any=True), 302, headers=contact))
    assert isinstance(need, NeedTargets)
    rig.take()
    assert rig.agent.targets_found(need.lookup_id, (), rig.now) == []
    assert rig.starts() == ["INVITE sip:b@192.0.2.9 SIP/2.0"]


def test_contacts_of_a_redirection_are_bounded() -> None:
    rig = Rig()
    contacts = ", ".join(f"<sip:{number}@192.0.2.9>" for number in range(9))
    rig.hear(response_to(place(rig), 302, headers=(f"Contact: {contacts}",)))
    called = []
    while (latest := rig.take()[-1]).startswith("INVITE "):
        called.append(start_of(latest).split()[1])
        rig.hear(response_to(latest, 404))
    assert called == [f"sip:{number}@192.0.2.9" for number in range(4)]


def test_credentials_do_not_follow_a_redirection_to_another_host() -> None:
    rig = Rig()
    rig.agent.place(order(credentials=SipAccount("bridge", "secret"), follow_any=True), rig.now)
    rig.hear(response_to(rig.take()[0], 401, headers=(CHALLENGE,)))
    known = rig.take()[-1]
    assert "\r\nAuthorization: " in known
    rig.hear(response_to(known, 302, headers=("Contact: <sip:x@203.0.113.66>, <sip:b@192.0.2.9:5080>;q=0.1",)))
    strange = rig.take()[-1]
    assert start_of(strange) == "INVITE sip:x@203.0.113.66 SIP/2.0"
    assert "Authorization" not in strange
    # Its challenge is not answered; the trunk's own host may be told again who calls.
    rig.hear(response_to(strange, 401, headers=(CHALLENGE.replace("n1", "n2"),)))
    home = rig.take()[-1]
    assert start_of(home) == "INVITE sip:b@192.0.2.9:5080 SIP/2.0"
    assert "Authorization" not in home
    rig.hear(response_to(home, 401, headers=(CHALLENGE.replace("n1", "n3"),)))
    assert 'nonce="n3"' in header_of(rig.take()[-1], "Authorization")


def test_credentials_do_not_go_to_another_host_within_the_call() -> None:
    rig = Rig()
    call = rig.agent.place(order(credentials=SipAccount("bridge", "secret"), follow_any=True), rig.now)
    rig.hear(response_to(rig.take()[0], 302, headers=("Contact: <sip:x@203.0.113.66>",)))
    rig.hear(response_to(rig.take()[-1], 200, body=PEER_ANSWER))
    rig.take()
    call.hang_up(rig.now)
    rig.hear(response_to(rig.take()[0], 401, headers=(CHALLENGE,)))
    assert rig.take() == []


# Digest


def test_challenges_are_answered_also_for_the_bye() -> None:
    rig = Rig()
    call = rig.agent.place(order(credentials=SipAccount("bridge", "secret")), rig.now)
    (invite,) = rig.take()
    assert rig.hear(response_to(invite, 401, headers=(CHALLENGE,))) == []
    ack, again = rig.take()
    assert start_of(ack).startswith("ACK")
    assert header_of(again, "CSeq") == "2 INVITE"
    assert header_of(again, "Call-ID") == header_of(invite, "Call-ID")
    credentials = header_of(again, "Authorization")
    assert 'username="bridge", realm="trunk", nonce="n1", uri="sip:+15550100@192.0.2.9;user=phone"' in credentials
    assert "nc=00000001" in credentials
    rig.hear(response_to(again, 200, body=PEER_ANSWER))
    (ack,) = rig.take()
    assert (header_of(ack, "CSeq"), header_of(ack, "Authorization")) == ("2 ACK", credentials)
    call.hang_up(rig.now)
    (bye,) = rig.take()
    assert (header_of(bye, "CSeq"), "nc=00000002" in header_of(bye, "Authorization")) == ("3 BYE", True)
    rig.hear(response_to(bye, 401, headers=(CHALLENGE.replace("n1", "n2") + ", stale=true",)))
    (bye,) = rig.take()
    assert header_of(bye, "CSeq") == "4 BYE"
    assert 'nonce="n2"' in header_of(bye, "Authorization")


def test_a_wrong_password_ends_the_call_after_one_try() -> None:
    rig = Rig()
    rig.agent.place(order(credentials=SipAccount("bridge", "secret")), rig.now)
    (invite,) = rig.take()
    rig.hear(response_to(invite, 407, headers=(CHALLENGE.replace("WWW-Authenticate", "Proxy-Authenticate"),)))
    _, again = rig.take()
    assert "Proxy-Authorization" in again
    (over,) = rig.hear(response_to(again, 407, headers=(CHALLENGE.replace("WWW-Authenticate", "Proxy-Authenticate"),)))
    assert isinstance(over, CallOver)
    assert (over.how, over.status) == (SipEnd.FAILED, 407)


def test_a_challenge_without_credentials_ends_the_call() -> None:
    rig = Rig()
    invite = place(rig)
    (over,) = rig.hear(response_to(invite, 401, headers=(CHALLENGE,)))
    assert isinstance(over, CallOver)
    assert (over.how, over.status) == (SipEnd.FAILED, 401)


def test_an_interval_that_is_too_short_is_made_longer_once() -> None:
    rig = Rig()
    invite = place(rig)
    assert rig.hear(response_to(invite, 422, headers=("Min-SE: 3600",))) == []
    again = rig.take()[-1]
    assert (header_of(again, "Session-Expires"), header_of(again, "Min-SE")) == ("3600", "3600")
    (over,) = rig.hear(response_to(again, 422, headers=("Min-SE: 3600",)))
    assert isinstance(over, CallOver)


# Reliable provisional responses of the peer


def test_a_reliable_response_gets_a_prack_and_its_answer_stands() -> None:
    rig = Rig()
    invite = place(rig)
    reliable = ("Require: 100rel", "RSeq: 77")
    (early,) = rig.hear(response_to(invite, 183, body=PEER_ANSWER, headers=reliable))
    assert isinstance(early, EarlyMedia)
    (prack,) = rig.take()
    assert start_of(prack) == "PRACK sip:callee@192.0.2.9:5060 SIP/2.0"
    assert (header_of(prack, "RAck"), header_of(prack, "CSeq")) == ("77 1 INVITE", "2 PRACK")
    assert [type(one) for one in rig.hear(response_to(invite, 183, body=PEER_ANSWER, headers=reliable))] == [
        CallRinging
    ]
    assert rig.take() == []
    rig.hear(response_to(invite, 180, headers=("Require: 100rel", "RSeq: 79")))
    assert rig.take() == []
    rig.hear(response_to(invite, 180, headers=("Require: 100rel", "RSeq: 78")))
    assert header_of(rig.take()[0], "RAck") == "78 1 INVITE"
    rig.hear(response_to(invite, 180, headers=("Require: 100rel", "RSeq: x")))
    assert rig.take() == []
    (answered,) = rig.hear(response_to(invite, 200, body=PEER_ANSWER.replace("4000", "5000")))
    assert isinstance(answered, CallAnswered)
    assert answered.agreement.remote == ("192.0.2.9", 4000)


def test_updates_before_the_answer() -> None:
    rig = Rig()
    invite = place(rig)
    tag = header_of(invite, "From").partition(";tag=")[2]

    def update(cseq: int) -> str:
        return (
            f"UPDATE sip:bridge@198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKu{cseq};rport\r\n"
            f"From: <sip:+15550100@192.0.2.9>;tag=pt\r\nTo: <sip:x@y>;tag={tag}\r\nCall-ID: id2\r\n"
            f"CSeq: {cseq} UPDATE\r\nContact: <sip:callee@192.0.2.9>\r\n"
            f"Content-Type: application/sdp\r\n\r\n{OFFER.replace('4000', '4100')}"
        )

    rig.hear(response_to(invite, 183, body=PEER_ANSWER))
    rig.take()
    rig.hear(update(1))
    assert rig.starts() == ["SIP/2.0 491 Request Pending"]
    rig.hear(response_to(invite, 183, body=PEER_ANSWER, headers=("Require: 100rel", "RSeq: 1")))
    rig.take()
    rig.hear(update(2))
    (ok,) = rig.take()
    assert start_of(ok) == "SIP/2.0 200 OK"
    assert "m=audio 20000" in body_of(ok)
    (answered,) = rig.hear(response_to(invite, 200))
    assert isinstance(answered, CallAnswered)
    assert answered.agreement.remote == ("192.0.2.9", 4100)
    assert not [event for event in rig.events if isinstance(event, MediaChanged)]


# Corners


def peer_request(invite: str, method: str, *, cseq: int = 5, tag: str = "pt", body: str = "") -> str:
    """A request of the callee within a dialog of our INVITE."""
    ours = header_of(invite, "From").partition(";tag=")[2]
    kind = "Content-Type: application/sdp\r\n" if body else ""
    return (
        f"{method} sip:bridge@198.51.100.1 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK{method}{cseq}{tag};rport\r\n"
        f"From: <sip:+15550100@192.0.2.9>;tag={tag}\r\nTo: <sip:x@y>;tag={ours}\r\nCall-ID: id2\r\n"
        f"CSeq: {cseq} {method}\r\nContact: <sip:callee@192.0.2.9>\r\nRAck: 1 1 INVITE\r\n{kind}\r\n{body}"
    )


def test_requests_of_a_callee_that_only_rings() -> None:
    rig = Rig()
    invite = place(rig)
    rig.hear(response_to(invite, 180))
    rig.hear(peer_request(invite, "INVITE", body=OFFER))
    rig.hear(peer_request(invite, "PRACK", cseq=6))
    assert rig.starts() == ["SIP/2.0 491 Request Pending", "SIP/2.0 481 Call/Transaction Does Not Exist"]


def test_a_bye_of_another_phone_than_the_one_that_answered_ends_nothing() -> None:
    rig = Rig()
    invite = place(rig)
    rig.hear(response_to(invite, 180, tag="other"))
    rig.hear(response_to(invite, 200, body=PEER_ANSWER))
    rig.take()
    assert rig.hear(peer_request(invite, "BYE", tag="other")) == []
    assert rig.starts() == ["SIP/2.0 200 OK"]
    assert not rig.last(CallAnswered).call.is_over


def test_the_end_of_a_second_try_does_not_end_the_call_that_was_answered() -> None:
    rig = Rig()
    rig.agent.place(order(flows=(UDP_PEER, SECOND)), rig.now)
    (invite,) = rig.take()
    rig.advance(32.1)
    second = rig.take()[-1]
    rig.hear(response_to(second, 100, tag=""), SECOND)
    rig.hear(response_to(invite, 200, body=PEER_ANSWER))
    assert rig.hear(response_to(second, 487), SECOND) == []
    assert not rig.last(CallAnswered).call.is_over


def test_progress_below_180_and_broken_early_media_tell_nothing_of_media() -> None:
    rig = Rig()
    invite = place(rig)
    assert rig.hear(response_to(invite, 150)) == []
    (ringing,) = rig.hear(response_to(invite, 183, body="v=nonsense"))
    assert isinstance(ringing, CallRinging)
    assert rig.hear(response_to(invite, 180, tag="")) == [CallRinging(ringing.call, 180)]


def test_a_redirection_to_another_transport_of_the_same_host() -> None:
    rig = Rig()
    invite = place(rig)
    rig.hear(response_to(invite, 302, headers=("Contact: <sip:b@192.0.2.9;transport=tcp>;q=1x",)))
    out = rig.take_out()[-1]
    assert out.flow == Flow(Transport.TCP, "192.0.2.9", 5060)


def test_a_redirection_within_the_same_name_uses_the_same_ways() -> None:
    rig = Rig()
    invite = place(rig, request_uri="sip:a@trunk.example")
    rig.hear(response_to(invite, 302, headers=("Contact: <sip:b@trunk.example>;q=x",)))
    out = rig.take_out()[-1]
    assert (out.flow, start_of(out.data.decode())) == (UDP_PEER, "INVITE sip:b@trunk.example SIP/2.0")


def test_no_way_is_served() -> None:
    rig = Rig(AgentOptions({Transport.UDP: Announced("198.51.100.1", 5060)}))
    rig.agent.place(order(flows=(TCP_PEER,)), rig.now)
    (over,) = rig.settle()
    assert isinstance(over, CallOver)
    assert (over.how, over.reason) == (SipEnd.TRANSPORT, "No way to the callee")
    assert rig.is_clean()


def test_without_tcp_a_long_invite_goes_by_udp() -> None:
    rig = Rig(AgentOptions({Transport.UDP: Announced("198.51.100.1", 5060)}))
    rig.agent.place(order(headers=(("X-Long", "x" * 1000),) * 2), rig.now)
    (out,) = rig.take_out()
    assert out.flow == UDP_PEER


def test_commands_after_the_end_do_nothing() -> None:
    rig = Rig()
    call = rig.agent.place(order(), rig.now)
    rig.hear(response_to(rig.take()[0], 486))
    rig.take()
    call.hang_up(rig.now)
    call.refer("sip:a@b", rig.now)
    call.send_info("application/dtmf", b"1", rig.now)
    call.send_offer(Direction.SENDRECV, rig.now)
    assert (rig.take(), rig.settle()) == ([], [])


def test_requests_that_fail_after_the_end_of_the_call_tell_nothing() -> None:
    rig = Rig()
    invite = place(rig)
    rig.hear(response_to(invite, 200, body=PEER_ANSWER))
    call = rig.last(CallAnswered).call
    call.send_info("application/dtmf", b"1", rig.now)
    call.hang_up(rig.now)
    rig.settle()
    assert rig.advance(40) == []
    assert rig.is_clean()


def test_looked_up_ways_that_are_not_served_count_as_none() -> None:
    rig = Rig(AgentOptions({Transport.UDP: Announced("198.51.100.1", 5060)}))
    invite = place(rig)
    need, _ = rig.hear(response_to(invite, 200, body=PEER_ANSWER, contact="<sip:callee@sbc.example>"))
    assert isinstance(need, NeedTargets)
    rig.agent.targets_found(need.lookup_id, (TCP_PEER,), rig.now)
    (ack,) = rig.take_out()
    assert ack.flow == UDP_PEER


def test_a_callee_that_moves_again_and_again_costs_no_memory() -> None:
    rig = Rig()
    invite = place(rig)
    rig.hear(response_to(invite, 200, body=PEER_ANSWER))
    call = rig.last(CallAnswered).call
    for number in range(30):
        moved = peer_request(invite, "UPDATE", cseq=10 + number).replace("callee@192.0.2.9>", f"c@h{number}.example>")
        rig.hear(moved)
        call.send_info("application/dtmf", b"1", rig.now)
        (need,) = rig.settle()
        assert isinstance(need, NeedTargets)
        assert need.host == f"h{number}.example"
        rig.agent.targets_found(need.lookup_id, (UDP_PEER,), rig.now)
        rig.hear(response_to(rig.take()[-1], 200))
    assert len(call._ways) <= 8


def test_orders_and_digits_are_not_shown() -> None:
    rig = Rig()
    call = rig.agent.place(order(), rig.now)
    assert "5550123" not in repr(order())
    assert "'7'" not in repr(InfoDigit(call, "7", 100))


def test_a_connection_of_the_peer_keeps_the_name_of_the_invite() -> None:
    rig = Rig()
    there = Flow(Transport.TLS, "192.0.2.9", 5061, server_name="trunk.example")
    rig.agent.place(order(flows=(there,)), rig.now)
    (invite,) = rig.take()
    rig.hear(response_to(invite, 200, body=PEER_ANSWER, contact="<sip:c@192.0.2.9:5061;transport=tls>"), there)
    here = Flow(Transport.TLS, "192.0.2.9", 50123, connection=3)
    rig.hear(peer_request(invite, "INFO"), here)
    rig.take()
    rig.last(CallAnswered).call.hang_up(rig.now)
    (bye,) = rig.take_out()
    assert (bye.flow.connection, bye.flow.server_name) == (3, "trunk.example")
    rig.fail(bye)
    (again,) = rig.take_out()
    assert again.flow == there


# Late, early and repeated


def from_callee(invite: str, method: str, *, tag: str = "pt", body: str = "") -> str:
    """A request of the callee within the dialog that an INVITE of ours begins."""
    lines = [
        f"{method} sip:bridge@198.51.100.1:5060 SIP/2.0",
        f"Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKcallee{method};rport",
        "Max-Forwards: 70",
        f"From: {header_of(invite, 'To')};tag={tag}",
        f"To: {header_of(invite, 'From')}",
        f"Call-ID: {header_of(invite, 'Call-ID')}",
        f"CSeq: 1 {method}",
        "Contact: <sip:callee@192.0.2.9:5060>",
        *(["Content-Type: application/sdp"] if body else []),
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines) + "\r\n\r\n" + body


def test_a_200_after_a_rejection_gets_ack_and_bye() -> None:
    rig = Rig()
    call = rig.agent.place(order(), rig.now)
    (invite,) = rig.take()
    rig.hear(response_to(invite, 486, "Busy Here"))
    assert call.is_over
    rig.take()
    rig.advance(31)
    assert rig.hear(response_to(invite, 200, body=PEER_ANSWER, tag="other")) == []
    ack, bye = rig.take()
    assert (ack.split()[0], bye.split()[0]) == ("ACK", "BYE")
    assert header_of(bye, "To").endswith(";tag=other")
    rig.hear(response_to(bye, 200))
    rig.advance(2)
    rig.hear(response_to(invite, 200, body=PEER_ANSWER, tag="third"))
    assert rig.take() == []
    rig.advance(100)
    assert rig.is_clean()
    assert not rig.agent._core.placed


def test_a_200_after_the_487_of_a_cancel_gets_ack_and_bye() -> None:
    rig = Rig()
    call = rig.agent.place(order(), rig.now)
    (invite,) = rig.take()
    rig.hear(response_to(invite, 180))
    call.hang_up(rig.now)
    rig.hear(response_to(invite, 487))
    rig.take()
    rig.hear(response_to(invite, 200, body=PEER_ANSWER))
    assert [start.split()[0] for start in rig.starts()] == ["ACK", "BYE"]
    rig.advance(100)
    assert rig.is_clean()
    assert not rig.agent._core.placed


def test_the_ack_of_a_repeated_200_takes_the_next_way_in_turn() -> None:
    rig = Rig()
    way = Flow(Transport.TCP, "192.0.2.9", 5060)
    invite = place(rig, flows=(way,))
    ok = response_to(invite, 200, body=PEER_ANSWER, contact="<sip:callee@192.0.2.9:5070;transport=tcp>")
    connected = Flow(Transport.TCP, "192.0.2.9", 5060, connection=3)
    for _ in range(3):
        rig.hear(ok, connected)
    first, second, third = rig.take_out()
    assert first.data.startswith(b"ACK ")
    assert (first.flow, second.flow) == (way, Flow(Transport.TCP, "192.0.2.9", 5070))
    assert (third.flow, third.data) == (first.flow, first.data)
    one, two = first.data.decode(), second.data.decode()
    assert header_of(one, "CSeq") == header_of(two, "CSeq")
    assert header_of(one, "Via") != header_of(two, "Via")


def test_a_request_that_overtakes_its_200_is_left_to_be_repeated() -> None:
    rig = Rig()
    invite = place(rig)
    early = from_callee(invite, "INVITE", body=OFFER)
    assert rig.hear(early) == []
    assert rig.take() == []
    rig.hear(response_to(invite, 200, body=PEER_ANSWER))
    assert [start.split()[0] for start in rig.starts()] == ["ACK"]
    rig.hear(early)
    assert rig.starts() == ["SIP/2.0 200 OK"]


def test_a_re_invite_of_another_phone_than_the_one_that_answered_is_481() -> None:
    rig = Rig()
    invite = place(rig)
    rig.hear(response_to(invite, 180, tag="a"))
    rig.hear(response_to(invite, 200, tag="b", body=PEER_ANSWER))
    rig.take()
    assert rig.hear(from_callee(invite, "INVITE", tag="a", body=OFFER)) == []
    assert rig.starts() == ["SIP/2.0 481 Call/Transaction Does Not Exist"]


def test_a_request_of_a_dialog_that_a_refused_call_never_had_is_481() -> None:
    rig = Rig()
    invite = place(rig)
    rig.hear(response_to(invite, 486))
    rig.take()
    rig.hear(from_callee(invite, "BYE"))
    assert rig.starts() == ["SIP/2.0 481 Call/Transaction Does Not Exist"]
