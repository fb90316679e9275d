"""Session timers and re-INVITEs of ours, glare included."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.auth.sip_digest_client import SipAccount
from bridge.errors import LocalError
from bridge.sip.sdp import Direction
from bridge.sip.timers import Timers
from bridge.sip.ua_events import CallAnswered, CallOffered, CallOver, MediaChanged, SipEnd
from tests.kit.sip_peer import (
    HOLD,
    NO_CODEC,
    OFFER,
    OPTIONS,
    PEER_ANSWER,
    Caller,
    Rig,
    answered_call,
    audio_session,
    body_of,
    header_of,
    headers_of,
    order,
    response_to,
    start_of,
)


def incoming(*headers: str) -> tuple[Rig, Caller, str]:
    """An answered call whose INVITE had these headers, and our 200."""
    rig = Rig()
    caller = Caller(rig)
    caller.invite(headers=headers)
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    (ok,) = rig.take()
    caller.learn_tag([ok])
    caller.ack()
    return rig, caller, ok


def outgoing(*headers: str) -> tuple[Rig, str]:
    """An answered call of ours whose 200 had these headers, and the INVITE."""
    rig = Rig()
    rig.agent.place(order(), rig.now)
    (invite,) = rig.take()
    rig.hear(response_to(invite, 200, body=PEER_ANSWER, headers=headers))
    rig.take()
    return rig, invite


def test_a_caller_without_session_timers_gets_none() -> None:
    rig, _, ok = incoming("Supported: timer")
    assert headers_of(ok, "Session-Expires") == []
    rig.advance(10_000)
    assert not rig.last(CallOffered).call.is_over


def test_the_caller_refreshes_where_it_can_and_a_call_without_refresh_ends() -> None:
    rig, caller, ok = incoming("Supported: timer", "Session-Expires: 300")
    assert header_of(ok, "Session-Expires") == "300;refresher=uac"
    assert header_of(ok, "Require") == "timer"
    rig.advance(250)
    caller.send("UPDATE", headers=("Supported: timer", "Session-Expires: 300;refresher=uac"))
    (ok,) = rig.take()
    assert header_of(ok, "Session-Expires") == "300;refresher=uac"
    assert rig.advance(267) == []
    events = rig.advance(1.1)
    call = rig.last(CallOffered).call
    assert events == [CallOver(call, SipEnd.TIMEOUT, 408, "Session expired", by_peer=False)]
    assert rig.starts() == ["BYE sip:peer@192.0.2.9:5060 SIP/2.0"]


def test_we_refresh_by_update_where_that_is_allowed() -> None:
    rig, _, ok = incoming("Supported: timer", "Session-Expires: 90;refresher=uas", "Allow: INVITE, UPDATE")
    assert header_of(ok, "Session-Expires") == "90;refresher=uas"
    assert headers_of(ok, "Require") == []
    assert rig.advance(45.1) == []
    (update,) = rig.take()
    assert start_of(update) == "UPDATE sip:peer@192.0.2.9:5060 SIP/2.0"
    assert header_of(update, "Session-Expires") == "90;refresher=uac"
    assert body_of(update) == ""
    rig.hear(response_to(update, 200, headers=("Session-Expires: 90;refresher=uac",)))
    rig.advance(45.1)
    assert len(rig.take()) == 1


def test_an_update_that_is_not_taken_becomes_a_re_invite() -> None:
    rig, _, _ = incoming("Session-Expires: 1800", "Allow: UPDATE")
    rig.advance(900.1)
    (update,) = rig.take()
    rig.hear(response_to(update, 405))
    (invite,) = rig.take()
    assert start_of(invite).startswith("INVITE ")
    assert header_of(invite, "Session-Expires") == "1800;refresher=uac"


def test_we_refresh_by_re_invite_and_keep_the_direction() -> None:
    rig, caller, _ = incoming("Session-Expires: 1800")
    caller.send("INVITE", body=HOLD, headers=("Session-Expires: 1800",))
    caller.ack()
    rig.take()
    rig.advance(900.1)
    (invite,) = rig.take()
    assert "a=recvonly" in body_of(invite)
    events = rig.hear(
        response_to(invite, 200, body=PEER_ANSWER + "a=sendonly\r\n", headers=("Session-Expires: 1800;refresher=uac",))
    )
    assert [type(event) for event in events] in ([], [MediaChanged])
    assert rig.starts() == ["ACK sip:callee@192.0.2.9:5060 SIP/2.0"]
    rig.advance(900.1)
    assert start_of(rig.take()[0]).startswith("INVITE ")


def test_a_refresh_without_response_ends_the_call() -> None:
    rig, _, _ = incoming("Session-Expires: 1800", "Allow: UPDATE")
    rig.advance(900.1)
    events = rig.advance(32)
    assert [type(event) for event in events] == [CallOver]


def test_short_intervals_of_proxies_are_lifted() -> None:
    rig, _, ok = incoming("Session-Expires: 30")
    assert header_of(ok, "Session-Expires") == "90;refresher=uas"


@pytest.mark.parametrize("value", ["x", "300;refresher=uas;;"])
def test_nonsense_is_ignored(value: str) -> None:
    rig, caller, _ = incoming(f"Session-Expires: {value}")
    assert not rig.last(CallOffered).call.is_over


def test_a_422_within_the_call() -> None:
    rig, caller, _ = incoming()
    caller.send("UPDATE", headers=("Supported: timer", "Session-Expires: 20"))
    caller.send("INVITE", body=OFFER, headers=("Supported: timer", "Session-Expires: 20"))
    first, second = rig.take()
    assert start_of(first) == start_of(second) == "SIP/2.0 422 Session Interval Too Small"
    assert header_of(first, "Min-SE") == "90"


def test_our_calls_are_refreshed_by_whom_the_callee_names() -> None:
    rig, invite = outgoing("Session-Expires: 600;refresher=uac", "Require: timer", "Allow: UPDATE")
    assert header_of(invite, "Session-Expires") == "1800"
    rig.advance(300.1)
    (update,) = rig.take()
    assert start_of(update).startswith("UPDATE ")
    rig.hear(response_to(update, 200))  # without Session-Expires: no timer any more
    rig.advance(10_000)
    assert rig.take() == []

    rig, _ = outgoing("Session-Expires: 600;refresher=uas")
    rig.advance(567)
    assert rig.take() == []
    rig.advance(1.1)
    assert start_of(rig.take()[0]).startswith("BYE ")


def test_an_expired_session_ends_even_if_we_were_to_refresh() -> None:
    rig, _ = outgoing("Session-Expires: 600;refresher=uac")
    rig.advance(300.1)
    (invite,) = rig.take()
    rig.hear(response_to(invite, 500))
    rig.take()
    events = rig.advance(300)
    assert [type(event) for event in events] == [CallOver]


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("headers", [("Supported: timer", "Session-Expires: 300"), ("Session-Expires: 300",)])
def test_a_request_without_session_expires_ends_the_timer_whoever_refreshes(
    method: str, headers: tuple[str, ...]
) -> None:
    rig, caller, _ = incoming(*headers)
    rig.advance(60)
    caller.send(method, body=HOLD, headers=("Supported: timer",))
    (ok,) = rig.take()
    assert headers_of(ok, "Session-Expires") == []
    caller.ack()
    rig.advance(10_000)
    assert rig.take() == []
    assert not rig.last(CallOffered).call.is_over
    caller.send("UPDATE", headers=("Supported: timer", "Session-Expires: 300"))
    assert header_of(rig.take()[0], "Session-Expires") == "300;refresher=uac"
    rig.advance(301)
    assert rig.last(CallOffered).call.is_over


def test_an_update_before_the_answer_starts_no_timer() -> None:
    rig = Rig()
    call = rig.agent.place(order(ring_timeout_s=300), rig.now)
    (invite,) = rig.take()
    rig.hear(response_to(invite, 180))
    update = "\r\n".join(
        [
            "UPDATE sip:bridge@198.51.100.1:5060 SIP/2.0",
            "Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKearly;rport",
            "Max-Forwards: 70",
            f"From: {header_of(invite, 'To')};tag=pt",
            f"To: {header_of(invite, 'From')}",
            f"Call-ID: {header_of(invite, 'Call-ID')}",
            "CSeq: 7 UPDATE",
            "Contact: <sip:callee@192.0.2.9:5060>",
            "Session-Expires: 90",
            "Content-Length: 0",
        ]
    )
    rig.hear(f"{update}\r\n\r\n")
    (ok,) = rig.take()
    assert start_of(ok) == "SIP/2.0 200 OK"
    assert headers_of(ok, "Session-Expires") == []
    rig.advance(200)
    assert rig.take() == []
    assert not call.is_over


# Re-INVITEs of ours


def test_an_offer_of_ours() -> None:
    rig, _ = outgoing()
    call = rig.last(CallAnswered).call
    call.send_offer(Direction.SENDONLY, rig.now)
    (invite,) = rig.take()
    assert start_of(invite) == "INVITE sip:callee@192.0.2.9:5060 SIP/2.0"
    assert "a=sendonly" in body_of(invite)
    with pytest.raises(LocalError, match="open already"):
        call.send_offer(Direction.SENDRECV, rig.now)
    ok = response_to(invite, 200, body=PEER_ANSWER + "a=recvonly\r\n", contact="<sip:moved@192.0.2.9>")
    (changed,) = rig.hear(ok)
    assert isinstance(changed, MediaChanged)
    assert changed.agreement.direction is Direction.SENDONLY
    assert rig.starts() == ["ACK sip:moved@192.0.2.9 SIP/2.0"]
    assert rig.hear(ok) == []
    assert rig.starts() == ["ACK sip:moved@192.0.2.9 SIP/2.0"]


@pytest.mark.parametrize("status", [488, 500])
def test_a_refused_offer_of_ours_changes_nothing(status: int) -> None:
    rig, _ = outgoing()
    call = rig.last(CallAnswered).call
    before = call.agreement
    call.send_offer(Direction.SENDONLY, rig.now)
    assert rig.hear(response_to(rig.take()[0], status)) == []
    assert call.agreement == before
    call.send_offer(Direction.SENDRECV, rig.now)


@pytest.mark.parametrize("body", ["", NO_CODEC])
def test_an_offer_of_ours_that_is_badly_answered_ends_the_call(body: str) -> None:
    rig, _ = outgoing()
    call = rig.last(CallAnswered).call
    call.send_offer(Direction.SENDONLY, rig.now)
    (over,) = rig.hear(response_to(rig.take()[0], 200, body=body))
    assert over == CallOver(call, SipEnd.NOT_ACCEPTABLE, 0, "No usable answer", by_peer=False)
    assert [start.split()[0] for start in rig.starts()] == ["ACK", "BYE"]


def test_glare_backs_off_and_tries_again() -> None:
    rig, _ = outgoing()
    call = rig.last(CallAnswered).call
    call.send_offer(Direction.SENDONLY, rig.now)
    for _ in range(5):
        rig.hear(response_to(rig.take()[0], 491))
        assert start_of(rig.take()[0]).startswith("ACK ")
        rig.advance(2.05)
        assert rig.take() == []
        rig.advance(1.96)
        assert len({out.data for out in rig.sent}) == 1
    rig.hear(response_to(rig.take()[0], 491))
    rig.take()
    rig.advance(30)
    assert rig.take() == []


def test_glare_of_a_call_that_we_did_not_begin_is_shorter() -> None:
    rig = Rig()
    answered_call(rig, Caller(rig))
    call = rig.last(CallOffered).call
    call.send_offer(Direction.SENDONLY, rig.now)
    rig.hear(response_to(rig.take()[0], 491))
    rig.take()
    rig.advance(2.0)
    assert len(set(rig.take())) == 1


def test_an_offer_of_the_peer_while_ours_is_open_is_491() -> None:
    rig = Rig()
    caller = Caller(rig)
    answered_call(rig, caller)
    call = rig.last(CallOffered).call
    call.send_offer(Direction.SENDONLY, rig.now)
    (invite,) = rig.take()
    caller.send("INVITE", body=HOLD)
    caller.send("UPDATE", body=HOLD)
    assert rig.starts() == ["SIP/2.0 491 Request Pending"] * 2
    rig.hear(response_to(invite, 200, body=PEER_ANSWER))
    caller.send("INVITE", body=HOLD)
    assert rig.starts()[-1] == "SIP/2.0 200 OK"


def test_hanging_up_while_an_offer_is_open_or_planned() -> None:
    rig = Rig()
    answered_call(rig, Caller(rig))
    call = rig.last(CallOffered).call
    call.send_offer(Direction.SENDONLY, rig.now)
    (invite,) = rig.take()
    call.hang_up(rig.now)
    rig.take()
    assert [type(event) for event in rig.hear(response_to(invite, 200, body=PEER_ANSWER))] == [CallOver]
    assert rig.starts() == ["ACK sip:callee@192.0.2.9:5060 SIP/2.0"]
    rig.advance(100)
    assert rig.is_clean()

    rig = Rig()
    answered_call(rig, Caller(rig))
    call = rig.last(CallOffered).call
    call.send_offer(Direction.SENDONLY, rig.now)
    rig.hear(response_to(rig.take()[0], 491))
    call.hang_up(rig.now)
    rig.take()
    rig.advance(3)
    assert {text.split()[0] for text in rig.take()} == {"BYE"}


# Corners


def test_a_refresh_that_fails_is_tried_again() -> None:
    rig, _ = outgoing("Session-Expires: 600;refresher=uac", "Allow: UPDATE")
    rig.advance(300.1)
    rig.hear(response_to(rig.take()[0], 500))
    rig.advance(9.8)
    assert rig.take() == []
    rig.advance(0.2)
    (update,) = rig.take()
    rig.hear(response_to(update, 422, headers=("Min-SE: 900",)))
    rig.advance(10)
    (update,) = rig.take()
    assert header_of(update, "Session-Expires") == "900;refresher=uac"
    rig.hear(response_to(update, 200, headers=("Session-Expires: 900;refresher=uac",)))
    rig.advance(440)
    assert rig.take() == []


def test_a_refresh_by_re_invite_that_is_too_short_is_made_longer() -> None:
    rig, _ = outgoing("Session-Expires: 600;refresher=uac")
    rig.advance(300.1)
    rig.hear(response_to(rig.take()[0], 422, headers=("Min-SE: 700",)))
    rig.take()
    rig.advance(10)
    assert header_of(rig.take()[0], "Session-Expires") == "700;refresher=uac"


def test_a_refresh_waits_while_an_offer_is_open() -> None:
    rig, _ = outgoing("Session-Expires: 600;refresher=uac")
    call = rig.last(CallAnswered).call
    rig.advance(295)
    call.send_offer(Direction.SENDONLY, rig.now)
    (invite,) = rig.take()
    rig.hear(response_to(invite, 100, tag=""))
    rig.advance(6)
    assert rig.take() == []
    rig.hear(response_to(invite, 488))
    rig.take()
    rig.advance(10)
    assert start_of(rig.take()[0]).startswith("INVITE ")


@pytest.mark.parametrize("body", ["", HOLD])
def test_a_refresh_waits_for_an_ack_that_is_late(body: str) -> None:
    rig = Rig(replace(OPTIONS, timers=Timers(t1_s=1.0)))
    caller = Caller(rig)
    answered_call(rig, caller)
    caller.send("INVITE", body=body, headers=("Session-Expires: 90",))
    rig.advance(50)
    assert {start_of(text) for text in rig.take()} == {"SIP/2.0 200 OK"}
    caller.ack("" if body else PEER_ANSWER)
    rig.advance(5.1)
    assert start_of(rig.take()[0]).startswith("INVITE ")


def test_no_offer_of_ours_goes_before_the_ack_of_the_peers() -> None:
    rig = Rig()
    caller = Caller(rig)
    caller.invite()
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    caller.learn_tag(rig.take())
    with pytest.raises(LocalError, match="ACK"):
        call.send_offer(Direction.SENDRECV, rig.now)
    caller.ack()
    caller.send("INVITE", body=HOLD)
    with pytest.raises(LocalError, match="ACK"):
        call.send_offer(Direction.SENDRECV, rig.now)
    caller.ack()
    rig.take()
    call.send_offer(Direction.SENDRECV, rig.now)
    assert start_of(rig.take()[0]).startswith("INVITE ")
    assert not call.is_over


def test_a_re_invite_that_only_gets_provisional_responses_is_cancelled() -> None:
    rig, _ = outgoing()
    call = rig.last(CallAnswered).call
    call.send_offer(Direction.SENDONLY, rig.now)
    (invite,) = rig.take()
    rig.hear(response_to(invite, 100, tag=""))
    rig.hear(response_to(invite, 180))
    rig.advance(31.9)
    assert rig.take() == []
    rig.advance(0.2)
    assert start_of(rig.take()[0]).startswith("CANCEL ")
    rig.hear(response_to(invite, 487))
    assert not call.is_over
    call.send_offer(Direction.SENDONLY, rig.now)
    call.hang_up(rig.now)
    rig.advance(100)
    assert rig.is_clean()


def test_a_challenged_re_invite_goes_again() -> None:
    rig = Rig()
    rig.agent.place(order(credentials=SipAccount("bridge", "secret")), rig.now)
    rig.hear(response_to(rig.take()[0], 200, body=PEER_ANSWER))
    rig.take()
    rig.last(CallAnswered).call.send_offer(Direction.SENDONLY, rig.now)
    (invite,) = rig.take()
    rig.hear(response_to(invite, 100, tag=""))
    rig.hear(response_to(invite, 407, headers=('Proxy-Authenticate: Digest realm="t", nonce="n", qop="auth"',)))
    ack, again = rig.take()
    assert (start_of(ack)[:3], header_of(again, "CSeq")) == ("ACK", "3 INVITE")
    assert "Proxy-Authorization" in again
    (changed,) = rig.hear(response_to(again, 200, body=PEER_ANSWER + "a=recvonly\r\n"))
    assert isinstance(changed, MediaChanged)
    assert header_of(rig.take()[0], "Proxy-Authorization") == header_of(again, "Proxy-Authorization")


@pytest.mark.parametrize("body", ["", HOLD])
def test_a_planned_offer_waits_for_the_ack_of_the_peers(body: str) -> None:
    rig = Rig()
    caller = Caller(rig)
    answered_call(rig, caller)
    call = rig.last(CallOffered).call
    call.send_offer(Direction.SENDONLY, rig.now)
    rig.hear(response_to(rig.take()[0], 491))
    rig.take()
    caller.send("INVITE", body=body)
    rig.take()
    rig.advance(20)
    assert {start_of(text) for text in rig.take()} == {"SIP/2.0 200 OK"}
    caller.ack("" if body else PEER_ANSWER)
    rig.advance(2.0)
    assert {text.split()[0] for text in rig.take()} == {"INVITE"}
