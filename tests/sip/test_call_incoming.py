"""Incoming calls up to their answer, as texts on the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.auth.sip_digest_client import SipAccount
from bridge.errors import LocalError
from bridge.sip.ua_events import CallAnswered, CallConfirmed, CallOffered, CallOver, MediaChanged, SipEnd
from tests.kit.sip_peer import (
    NO_CODEC,
    OFFER,
    PEER_ANSWER,
    TCP_PEER,
    TRUNK,
    Caller,
    Rig,
    answered_call,
    audio_session,
    body_of,
    header_of,
    headers_of,
    response_to,
    start_of,
)

ANSWER = (
    "v=0\r\no=- 7 7 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n"
    "m=audio 20000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
    "a=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
)


def test_a_whole_call() -> None:
    rig = Rig()
    caller = Caller(rig)
    (offered,) = caller.invite(headers=("X-Call-Id: abc", "Record-Route: <sip:proxy.example;lr>"))
    assert isinstance(offered, CallOffered)
    call = offered.call
    assert (call.is_outbound, call.trunk, call.call_id, call.peer.host) == (False, TRUNK, "call-1", "192.0.2.9")
    assert call.request_uri == "sip:+15550100@198.51.100.1"
    assert str(call.from_.uri) == "sip:+15550199@192.0.2.9"
    assert call.headers.get("x-call-id") == "abc"
    assert rig.agent.calls == {call.id: call}

    call.use_media(audio_session(), rig.now)
    call.ring(rig.now)
    (ringing,) = rig.take()
    assert ringing == (
        "SIP/2.0 180 Ringing\r\n"
        "Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKcall-11;rport=5060;received=192.0.2.9\r\n"
        "From: <sip:+15550199@192.0.2.9>;tag=ft\r\n"
        "To: <sip:+15550100@198.51.100.1>;tag=id1\r\n"
        "Call-ID: call-1\r\n"
        "CSeq: 1 INVITE\r\n"
        "Record-Route: <sip:proxy.example;lr>\r\n"
        "Contact: <sip:bridge@198.51.100.1:5060>\r\n"
        "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, NOTIFY\r\n"
        "Server: bridge/1.0\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    call.answer(rig.now)
    (ok,) = rig.take()
    assert ok == (
        "SIP/2.0 200 OK\r\n"
        "Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKcall-11;rport=5060;received=192.0.2.9\r\n"
        "From: <sip:+15550199@192.0.2.9>;tag=ft\r\n"
        "To: <sip:+15550100@198.51.100.1>;tag=id1\r\n"
        "Call-ID: call-1\r\n"
        "CSeq: 1 INVITE\r\n"
        "Record-Route: <sip:proxy.example;lr>\r\n"
        "Contact: <sip:bridge@198.51.100.1:5060>\r\n"
        "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, NOTIFY\r\n"
        "Supported: 100rel, timer\r\n"
        "Server: bridge/1.0\r\n"
        "Content-Type: application/sdp\r\n"
        f"Content-Length: {len(ANSWER)}\r\n\r\n{ANSWER}"
    )
    (answered,) = rig.settle()
    assert isinstance(answered, CallAnswered)
    assert answered.agreement.remote == ("192.0.2.9", 4000)
    assert call.is_answered
    assert call.agreement == answered.agreement

    caller.to_tag = "id1"
    assert caller.ack() == [CallConfirmed(call)]
    assert caller.ack() == []  # a repeat
    assert caller.send("BYE", headers=('Reason: Q.850;cause=16;text="Normal"',)) == [
        CallOver(call, SipEnd.BYE, 0, 'Q.850;cause=16;text="Normal"', by_peer=True)
    ]
    (bye_ok,) = rig.take()
    assert start_of(bye_ok) == "SIP/2.0 200 OK"
    assert header_of(bye_ok, "CSeq") == "2 BYE"
    assert call.is_over
    rig.advance(60)
    assert rig.is_clean()
    assert rig.take() == []


def test_a_call_over_tcp_names_its_transport() -> None:
    rig = Rig()
    caller = Caller(rig, TCP_PEER)
    caller.invite()
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    (out,) = rig.take_out()
    assert out.flow == TCP_PEER
    assert header_of(out.data.decode(), "Contact") == "<sip:bridge@198.51.100.1:5060;transport=tcp>"


def test_trying_comes_after_200_ms_and_only_if_nothing_else_did() -> None:
    rig = Rig()
    Caller(rig).invite()
    rig.advance(0.19)
    assert rig.starts() == []
    rig.advance(0.02)
    assert rig.starts() == ["SIP/2.0 100 Trying"]
    rig.last(CallOffered).call.ring(rig.now)
    assert rig.starts() == ["SIP/2.0 180 Ringing"]


def test_trying_can_be_sent_at_once() -> None:
    rig = Rig()
    Caller(rig).invite()
    call = rig.last(CallOffered).call
    call.trying(rig.now)
    (trying,) = rig.take()
    assert trying.startswith("SIP/2.0 100 Trying\r\n")
    assert ";tag=" not in header_of(trying, "To")
    rig.advance(1.0)
    assert rig.starts() == [], "it is not sent twice"
    call.ring(rig.now)
    call.trying(rig.now)
    assert rig.starts() == ["SIP/2.0 180 Ringing"], "whoever rings is past that"
    call.reject(486, rig.now)
    call.trying(rig.now)
    assert rig.starts() == ["SIP/2.0 486 Busy Here"]


def test_a_repeated_invite_is_offered_once_and_gets_the_last_response_again() -> None:
    rig = Rig()
    caller = Caller(rig)
    text = caller.request("INVITE", body=OFFER)
    assert len(rig.hear(text)) == 1
    rig.last(CallOffered).call.ring(rig.now)
    rig.take()
    assert rig.hear(text) == []
    assert rig.starts() == ["SIP/2.0 180 Ringing"]
    assert rig.gate.judged == ["INVITE"]


@pytest.mark.parametrize("flow", [None, TCP_PEER])
def test_the_200_is_repeated_on_every_transport_until_the_ack(flow: object) -> None:
    rig = Rig()
    caller = Caller(rig, TCP_PEER) if flow else Caller(rig)
    caller.invite()
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    (first,) = rig.take()
    caller.learn_tag([first])
    times = []
    for _ in range(90):
        rig.advance(0.1)
        times += [round(rig.now - 1000.25, 1) for text in rig.take() if text == first]
    assert times == [0.5, 1.5, 3.5, 7.5]
    caller.ack()
    rig.advance(60)
    assert rig.take() == []
    assert not call.is_over


def test_without_an_ack_the_call_ends_after_64_t1_with_a_bye() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite()
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    rig.advance(31.9)
    assert not call.is_over
    rig.take()
    events = rig.advance(0.2)
    assert events == [CallOver(call, SipEnd.NO_ACK, 408, "No ACK", by_peer=False)]
    (bye,) = rig.take()
    assert start_of(bye) == "BYE sip:peer@192.0.2.9:5060 SIP/2.0"
    assert header_of(bye, "From") == "<sip:+15550100@198.51.100.1>;tag=id1"
    assert header_of(bye, "To") == "<sip:+15550199@192.0.2.9>;tag=ft"
    assert header_of(bye, "CSeq") == "1 BYE"
    rig.advance(40)
    assert rig.is_clean()


def test_a_lost_bye_response_makes_the_bye_repeat_and_then_all_is_forgotten() -> None:
    rig = Rig()
    caller = Caller(rig)
    answered_call(rig, caller)
    call = rig.last(CallOffered).call
    call.hang_up(rig.now, reason_header="Q.850;cause=16")
    call.hang_up(rig.now)
    assert rig.settle() == [CallOver(call, SipEnd.LOCAL, 0, "", by_peer=False)]
    (bye,) = rig.take()
    assert header_of(bye, "Reason") == "Q.850;cause=16"
    rig.advance(1.6)
    assert rig.take() == [bye, bye]
    assert rig.agent.open_dialogs == 1
    rig.advance(40)
    assert rig.is_clean()


def test_byes_that_cross_are_both_answered() -> None:
    rig = Rig()
    caller = Caller(rig)
    answered_call(rig, caller)
    rig.last(CallOffered).call.hang_up(rig.now)
    rig.settle()
    rig.take()
    assert caller.send("BYE") == []
    assert rig.starts() == ["SIP/2.0 200 OK"]


def test_hanging_up_before_the_ack_waits_for_it() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite()
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    caller.learn_tag(rig.take())
    call.hang_up(rig.now)
    assert [type(event) for event in rig.settle()] == [CallAnswered, CallOver]
    assert rig.take() == []
    rig.advance(0.6)
    assert rig.starts() == ["SIP/2.0 200 OK"]
    assert caller.ack() == []
    assert rig.starts() == ["BYE sip:peer@192.0.2.9:5060 SIP/2.0"]


def test_hanging_up_without_any_ack_sends_the_bye_in_the_end() -> None:
    rig = Rig()
    Caller(rig).invite()
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    call.hang_up(rig.now, reason_header="SIP;cause=200")
    rig.take()
    rig.advance(32.1)
    texts = rig.take()
    assert header_of(texts[-1], "Reason") == "SIP;cause=200"
    rig.advance(40)
    assert rig.is_clean()


def test_a_cancelled_call_is_answered_487() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite()
    call = rig.last(CallOffered).call
    call.ring(rig.now)
    rig.take()
    assert caller.cancel() == [CallOver(call, SipEnd.CANCELLED, 487, "Request Terminated", by_peer=True)]
    ok, terminated = rig.take()
    assert (start_of(ok), header_of(ok, "CSeq")) == ("SIP/2.0 200 OK", "1 CANCEL")
    assert (start_of(terminated), header_of(terminated, "CSeq")) == ("SIP/2.0 487 Request Terminated", "1 INVITE")
    assert header_of(terminated, "To") == "<sip:+15550100@198.51.100.1>;tag=id1"
    call.ring(rig.now)
    call.answer(rig.now)
    call.reject(486, rig.now)
    call.use_media(audio_session(), rig.now)
    call.hang_up(rig.now)
    assert (rig.settle(), rig.take()) == ([], [])
    rig.advance(70)
    assert rig.is_clean()


def test_a_cancel_after_the_200_changes_nothing() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite()
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    caller.learn_tag(rig.take())
    rig.settle()
    assert caller.cancel() == []
    assert rig.starts() == ["SIP/2.0 200 OK"]
    assert caller.ack() == [CallConfirmed(call)]


def test_a_cancel_of_nothing_is_481() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite_branch = "z9hG4bKnone"
    assert caller.cancel() == []
    assert rig.starts() == ["SIP/2.0 481 Call/Transaction Does Not Exist"]


def test_a_bye_in_an_early_dialog_ends_it() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite()
    call = rig.last(CallOffered).call
    call.ring(rig.now)
    caller.learn_tag(rig.take())
    assert caller.send("BYE") == [CallOver(call, SipEnd.CANCELLED, 487, "Request Terminated", by_peer=True)]
    assert rig.starts() == ["SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"]


def test_a_bye_before_the_ack_stops_the_200() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite()
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    caller.learn_tag(rig.take())
    rig.settle()
    assert caller.send("BYE") == [CallOver(call, SipEnd.BYE, 0, "", by_peer=True)]
    rig.take()
    rig.advance(100)
    assert rig.take() == []
    assert rig.is_clean()


def test_rejecting() -> None:
    rig = Rig()
    Caller(rig).invite()
    call = rig.last(CallOffered).call
    call.reject(503, rig.now, retry_after_s=7, headers=(("Reason", "Q.850;cause=34"),))
    (text,) = rig.take()
    assert start_of(text) == "SIP/2.0 503 Service Unavailable"
    assert (header_of(text, "Retry-After"), header_of(text, "Reason")) == ("7", "Q.850;cause=34")
    assert rig.settle() == [CallOver(call, SipEnd.REJECTED, 503, "Service Unavailable", by_peer=False)]
    rig.advance(70)
    assert rig.is_clean()


def test_rejecting_with_words_of_our_own() -> None:
    rig = Rig()
    Caller(rig).invite()
    rig.last(CallOffered).call.reject(699, rig.now, reason="Not Today")
    assert rig.starts() == ["SIP/2.0 699 Not Today"]


def test_hanging_up_before_the_answer_is_480() -> None:
    rig = Rig()
    Caller(rig).invite()
    call = rig.last(CallOffered).call
    call.hang_up(rig.now)
    assert rig.starts() == ["SIP/2.0 480 Temporarily Unavailable"]
    assert rig.settle() == [CallOver(call, SipEnd.REJECTED, 480, "Temporarily Unavailable", by_peer=False)]


@pytest.mark.parametrize(
    ("body", "start"),
    [(NO_CODEC, "SIP/2.0 488 Not Acceptable Here"), ("v=nonsense", "SIP/2.0 400 Malformed Session Description")],
)
def test_an_offer_that_cannot_be_met_is_refused(body: str, start: str) -> None:
    rig = Rig()
    Caller(rig).invite(body)
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    (text,) = rig.take()
    assert start_of(text) == start
    (over,) = rig.settle()
    assert isinstance(over, CallOver)
    assert (over.how, over.status) == (SipEnd.NOT_ACCEPTABLE, int(start.split()[1]))
    rig.advance(70)
    assert rig.is_clean()


def test_an_unacceptable_offer_is_explained() -> None:
    rig = Rig()
    Caller(rig).invite(NO_CODEC)
    rig.last(CallOffered).call.use_media(audio_session(), rig.now)
    (text,) = rig.take()
    assert header_of(text, "Warning") == '399 bridge "SDP: no audio that we can take is offered"'


def test_a_delayed_offer() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite("")
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.ring(rig.now, 183)
    call.answer(rig.now)
    ringing, ok = rig.take()
    assert body_of(ringing) == ""
    assert "m=audio 20000 RTP/AVP 0 8 13 101" in body_of(ok)
    assert rig.settle() == []
    caller.learn_tag([ok])
    answered, confirmed = caller.ack(PEER_ANSWER)
    assert isinstance(answered, CallAnswered)
    assert answered.agreement.remote == ("192.0.2.9", 4000)
    assert confirmed == CallConfirmed(call)


@pytest.mark.parametrize("body", ["", "v=nonsense", PEER_ANSWER.replace("audio 4000", "audio 0")])
def test_a_delayed_offer_without_a_usable_answer_ends_with_bye(body: str) -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite("")
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    caller.learn_tag(rig.take())
    (over,) = caller.ack(body)
    assert over == CallOver(call, SipEnd.NOT_ACCEPTABLE, 0, "No usable answer in ACK", by_peer=False)
    assert rig.starts() == ["BYE sip:peer@192.0.2.9:5060 SIP/2.0"]


def test_early_media_carries_the_same_answer_as_the_200() -> None:
    rig = Rig()
    Caller(rig).invite()
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.ring(rig.now, 183)
    call.answer(rig.now)
    progress, ok = rig.take()
    assert start_of(progress) == "SIP/2.0 183 Session Progress"
    assert body_of(progress) == body_of(ok) == ANSWER


def test_ringing_is_repeated_every_minute_and_ends_some_time() -> None:
    rig = Rig()
    Caller(rig).invite()
    call = rig.last(CallOffered).call
    call.ring(rig.now)
    rig.take()
    rig.advance(121)
    assert rig.starts() == ["SIP/2.0 180 Ringing"] * 2
    events = rig.advance(180)
    assert events == [CallOver(call, SipEnd.TIMEOUT, 480, "Temporarily Unavailable", by_peer=False)]
    assert rig.starts()[-1] != "SIP/2.0 180 Ringing"
    rig.advance(70)
    assert rig.is_clean()


def test_what_can_never_be_right_is_refused() -> None:
    rig = Rig()
    Caller(rig).invite()
    call = rig.last(CallOffered).call
    commands: tuple[Callable[[], None], ...] = (
        lambda: call.answer(rig.now),
        lambda: call.ring(rig.now, 100),
        lambda: call.reject(200, rig.now),
        lambda: call.refer("sip:a@b", rig.now),
        lambda: call.send_info("text/plain", b"x", rig.now),
    )
    for command in commands:
        with pytest.raises(LocalError):
            command()
    call.use_media(audio_session(), rig.now)
    with pytest.raises(LocalError):
        call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    with pytest.raises(LocalError):
        call.reject(486, rig.now)


def test_answering_twice_or_ringing_late_does_nothing() -> None:
    rig = Rig()
    Caller(rig).invite()
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    call.answer(rig.now)
    call.ring(rig.now)
    assert rig.starts() == ["SIP/2.0 200 OK"]


def test_multipart_bodies_are_read() -> None:
    rig = Rig()
    body = (
        "--b1\r\nContent-Type: application/isup\r\n\r\nxx\r\n"
        f"--b1\r\nContent-Type: application/sdp\r\n\r\n{OFFER}\r\n--b1--\r\n"
    )
    Caller(rig).invite(body, content_type='multipart/mixed;boundary="b1"')
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    assert body_of(rig.take()[0]) == ANSWER
    assert call.agreement is not None


# Reliable provisional responses


def rack(ringing: str) -> str:
    return f"RAck: {header_of(ringing, 'RSeq')} 1 INVITE"


def test_a_caller_that_only_supports_100rel_gets_plain_responses() -> None:
    rig = Rig()
    Caller(rig).invite(headers=("Supported: 100rel",))
    rig.last(CallOffered).call.ring(rig.now)
    (text,) = rig.take()
    assert headers_of(text, "RSeq") == headers_of(text, "Require") == []


def test_reliable_ringing_is_repeated_until_its_prack_and_the_200_waits() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite(headers=("Require: 100rel",))
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.ring(rig.now)
    (ringing,) = rig.take()
    assert header_of(ringing, "Require") == "100rel"
    call.answer(rig.now)
    rig.advance(1.6)
    assert rig.take() == [ringing, ringing]
    caller.learn_tag([ringing])
    assert [type(event) for event in caller.send("PRACK", headers=(rack(ringing),))] == [CallAnswered]
    prack_ok, ok = rig.take()
    assert header_of(prack_ok, "CSeq") == "2 PRACK"
    assert (start_of(ok), header_of(ok, "CSeq"), body_of(ok)) == ("SIP/2.0 200 OK", "1 INVITE", ANSWER)
    caller.cseq = 1
    caller.ack()
    caller.cseq = 2
    caller.send("BYE")
    rig.advance(70)
    assert rig.is_clean()


def test_rings_are_sent_one_after_the_other() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite(headers=("Require: 100rel",))
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.ring(rig.now)
    call.ring(rig.now, 181)
    call.ring(rig.now, 183)
    (ringing,) = rig.take()
    caller.learn_tag([ringing])
    caller.send("PRACK", headers=(rack(ringing),))
    _, progress = rig.take()
    assert start_of(progress) == "SIP/2.0 183 Session Progress"
    assert int(header_of(progress, "RSeq")) == int(header_of(ringing, "RSeq")) + 1
    assert body_of(progress) == ANSWER
    caller.send("PRACK", headers=(rack(progress),))
    call.answer(rig.now)
    assert body_of(rig.take()[-1]) == ""  # the caller has our answer


@pytest.mark.parametrize("header", ["RAck: 1 1 INVITE", "RAck: x y z", "RAck: 1", "X-None: 1"])
def test_a_prack_for_nothing_is_481(header: str) -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite(headers=("Require: 100rel",))
    call = rig.last(CallOffered).call
    call.ring(rig.now)
    caller.learn_tag(rig.take())
    caller.send("PRACK", headers=(header,))
    assert rig.starts() == ["SIP/2.0 481 Call/Transaction Does Not Exist"]


def test_a_prack_that_nobody_asked_for_is_481() -> None:
    rig = Rig()
    caller = Caller(rig)
    answered_call(rig, caller)
    caller.send("PRACK", headers=("RAck: 1 1 INVITE",))
    assert rig.starts() == ["SIP/2.0 481 Call/Transaction Does Not Exist"]


def test_without_a_prack_the_call_is_refused_504() -> None:
    rig = Rig()
    Caller(rig).invite(headers=("Require: 100rel",))
    call = rig.last(CallOffered).call
    call.ring(rig.now)
    events = rig.advance(32.1)
    assert events == [CallOver(call, SipEnd.TIMEOUT, 504, "Server Time-out", by_peer=False)]
    assert rig.starts()[-1] == "SIP/2.0 504 Server Time-out"
    rig.advance(70)
    assert rig.is_clean()


def test_a_delayed_offer_goes_in_the_first_reliable_response_and_its_answer_in_the_prack() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite("", headers=("Require: 100rel",))
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.ring(rig.now)
    (ringing,) = rig.take()
    assert "m=audio 20000" in body_of(ringing)
    caller.learn_tag([ringing])
    caller.send("PRACK", headers=(rack(ringing),), body=PEER_ANSWER)
    call.answer(rig.now)
    _, ok = rig.take()
    assert body_of(ok) == ""
    assert [type(event) for event in rig.settle()] == [CallAnswered]


def test_a_delayed_offer_that_the_prack_does_not_answer_ends_the_call() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite("", headers=("Require: 100rel",))
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.ring(rig.now)
    (ringing,) = rig.take()
    caller.learn_tag([ringing])
    (over,) = caller.send("PRACK", headers=(rack(ringing),))
    assert isinstance(over, CallOver)
    assert (over.how, over.status) == (SipEnd.NOT_ACCEPTABLE, 488)
    assert rig.starts() == ["SIP/2.0 488 Not Acceptable Here"] * 2


def test_a_new_offer_in_a_prack_and_in_an_early_update() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite(headers=("Require: 100rel",))
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.ring(rig.now, 183)
    (ringing,) = rig.take()
    caller.learn_tag([ringing])
    moved = OFFER.replace("audio 4000", "audio 4002")
    events = caller.send("PRACK", headers=(rack(ringing),), body=moved)
    assert isinstance(events[0], MediaChanged)
    assert events[0].agreement.remote == ("192.0.2.9", 4002)
    assert "m=audio 20000" in body_of(rig.take()[0])
    (changed,) = caller.send("UPDATE", body=OFFER)
    assert isinstance(changed, MediaChanged)
    assert changed.agreement.remote == ("192.0.2.9", 4000)


def test_an_offer_in_an_update_before_our_answer_is_500() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite()
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.ring(rig.now)
    caller.learn_tag(rig.take())
    caller.send("UPDATE", body=OFFER)
    (text,) = rig.take()
    assert start_of(text) == "SIP/2.0 500 Server Internal Error"
    assert 0 <= int(header_of(text, "Retry-After")) <= 10
    caller.send("INVITE", body=OFFER)
    assert start_of(rig.take()[0]) == "SIP/2.0 500 Server Internal Error"


def test_a_prack_without_media_and_one_whose_new_offer_is_refused() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite(headers=("Require: 100rel",))
    call = rig.last(CallOffered).call
    call.ring(rig.now)
    (ringing,) = rig.take()
    caller.learn_tag([ringing])
    caller.send("PRACK", headers=(rack(ringing),))
    assert rig.starts() == ["SIP/2.0 200 OK"]
    call.use_media(audio_session(), rig.now)
    call.ring(rig.now, 183)
    (progress,) = rig.take()
    caller.send("PRACK", headers=(rack(progress),), body=NO_CODEC)
    assert rig.starts() == ["SIP/2.0 488 Not Acceptable Here"]
    assert not call.is_over


def test_a_call_whose_dialog_is_gone_before_the_ack_repeats_nothing() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite()
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    rig.take()
    call.send_info("application/dtmf", b"1", rig.now)
    (info,) = rig.take()
    rig.hear(response_to(info, 481))
    assert rig.starts() == ["BYE sip:peer@192.0.2.9:5060 SIP/2.0"]
    rig.advance(5)
    assert {start_of(text).split()[0] for text in rig.take()} == {"BYE"}
    rig.advance(60)
    assert rig.is_clean()


def test_challenges_to_requests_in_an_incoming_call() -> None:
    rig = Rig()
    answered_call(rig, Caller(rig))
    call = rig.last(CallOffered).call
    call.use_credentials(SipAccount("bridge", "secret"))
    call.hang_up(rig.now)
    (bye,) = rig.take()
    rig.hear(response_to(bye, 401, headers=('WWW-Authenticate: Digest realm="t", nonce="n", qop="auth"',)))
    (again,) = rig.take()
    assert 'username="bridge"' in header_of(again, "Authorization")
    rig.hear(response_to(again, 401, headers=('WWW-Authenticate: Digest realm="t", nonce="n2", qop="auth"',)))
    assert rig.take() == []
    rig.advance(40)
    assert rig.is_clean()


def test_an_invite_expires() -> None:
    rig = Rig()
    Caller(rig).invite(headers=("Expires: 30",))
    call = rig.last(CallOffered).call
    call.ring(rig.now)
    rig.advance(29.9)
    rig.take()
    assert rig.advance(0.2) == [CallOver(call, SipEnd.CANCELLED, 487, "Request Terminated", by_peer=True)]
    assert rig.starts() == ["SIP/2.0 487 Request Terminated"]


def test_an_answered_invite_expires_no_more() -> None:
    rig = Rig()
    answered_call(rig, Caller(rig), headers=("Expires: 30",))
    assert rig.advance(100) == []


def test_a_long_request_in_a_call_goes_by_tcp_unless_the_contact_says_udp() -> None:
    for contact, transports in (("<sip:a@192.0.2.9>", ["TCP", "UDP"]), ("<sip:a@192.0.2.9;transport=udp>", ["UDP"])):
        rig = Rig()
        answered_call(rig, Caller(rig), contact=contact)
        rig.last(CallOffered).call.send_info("text/plain", b"x" * 1300, rig.now)
        seen = []
        while out := rig.take_out():
            seen.append(out[0].flow.transport.value)
            rig.fail(out[0])
        assert seen[: len(transports)] == transports
