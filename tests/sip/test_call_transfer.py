"""Blind transfers: REFER, and what NOTIFYs say."""

from __future__ import annotations

import pytest

from bridge.errors import LocalError
from bridge.sip.ua_events import CallOffered, CallOver, InfoAnswered, SipEnd, TransferProgress
from tests.kit.sip_peer import Caller, Rig, answered_call, header_of, response_to, start_of

TARGET = "sip:+15550177@192.0.2.9"


def referring() -> tuple[Rig, Caller, str]:
    """A call with an open REFER, and that REFER."""
    rig = Rig()
    caller = Caller(rig)
    answered_call(rig, caller)
    rig.last(CallOffered).call.refer(TARGET, rig.now, referred_by="sip:+15550100@198.51.100.1")
    (refer,) = rig.take()
    return rig, caller, refer


def notify(caller: Caller, fragment: str, state: str = "active;expires=60", event: str = "refer") -> list[object]:
    events = caller.send(
        "NOTIFY",
        headers=(f"Event: {event}", f"Subscription-State: {state}"),
        body=fragment,
        content_type="message/sipfrag;version=2.0",
    )
    return list(events)


def test_a_transfer_that_works() -> None:
    rig, caller, refer = referring()
    call = rig.last(CallOffered).call
    assert start_of(refer) == "REFER sip:peer@192.0.2.9:5060 SIP/2.0"
    assert header_of(refer, "Refer-To") == f"<{TARGET}>"
    assert header_of(refer, "Referred-By") == "<sip:+15550100@198.51.100.1>"
    assert header_of(refer, "Contact") == "<sip:bridge@198.51.100.1:5060>"
    assert rig.hear(response_to(refer, 202)) == [TransferProgress(call, 202, "Accepted", is_final=False)]
    assert notify(caller, "SIP/2.0 100 Trying\r\n") == [TransferProgress(call, 100, "Trying", is_final=False)]
    assert notify(caller, "SIP/2.0 180\r\n", event="refer;id=1") == [TransferProgress(call, 180, "Ringing", False)]
    assert notify(caller, "SIP/2.0 200 OK", "terminated;reason=noresource") == [
        TransferProgress(call, 200, "OK", is_final=True)
    ]
    assert rig.starts() == ["SIP/2.0 200 OK"] * 3
    assert notify(caller, "SIP/2.0 200 OK") == []
    assert rig.starts() == ["SIP/2.0 481 Subscription Does Not Exist"]
    rig.advance(100)
    assert rig.take() == []
    call.refer(TARGET, rig.now)  # another one may follow
    assert rig.starts() == ["REFER sip:peer@192.0.2.9:5060 SIP/2.0"]


@pytest.mark.parametrize(("status", "reason"), [(403, "Forbidden"), (603, "Decline"), (405, "Method Not Allowed")])
def test_a_transfer_that_is_refused_leaves_the_call(status: int, reason: str) -> None:
    rig, _, refer = referring()
    call = rig.last(CallOffered).call
    assert rig.hear(response_to(refer, status, reason)) == [TransferProgress(call, status, reason, is_final=True)]
    assert not call.is_over


def test_the_transferred_call_fails() -> None:
    rig, caller, refer = referring()
    call = rig.last(CallOffered).call
    rig.hear(response_to(refer, 202))
    assert notify(caller, "SIP/2.0 486 Busy Here") == [TransferProgress(call, 486, "Busy Here", is_final=True)]


def test_a_peer_that_sends_no_notify() -> None:
    rig, _, refer = referring()
    call = rig.last(CallOffered).call
    rig.hear(response_to(refer, 202))
    assert rig.advance(9.9) == []
    assert rig.advance(0.2) == [TransferProgress(call, 202, "No news of the transfer", is_final=True)]


@pytest.mark.parametrize(("fragment", "status"), [("SIP/2.0 180 Ringing", 180), ("", 202)])
def test_a_peer_that_has_sent_a_notify_is_waited_for_longer(fragment: str, status: int) -> None:
    rig, caller, refer = referring()
    call = rig.last(CallOffered).call
    rig.hear(response_to(refer, 202))
    rig.advance(9.9)
    notify(caller, fragment)
    assert rig.advance(59.9) == []
    assert rig.advance(0.2) == [TransferProgress(call, status, "No news of the transfer", is_final=True)]


def test_a_notify_that_overtakes_the_202_counts_as_one() -> None:
    rig, caller, refer = referring()
    notify(caller, "SIP/2.0 100 Trying")
    rig.hear(response_to(refer, 202))
    assert rig.advance(59.9) == []
    assert len(rig.advance(0.2)) == 1


def test_the_second_transfer_of_a_call_is_waited_for_as_the_first() -> None:
    rig, caller, refer = referring()
    call = rig.last(CallOffered).call
    rig.hear(response_to(refer, 202))
    notify(caller, "SIP/2.0 486 Busy Here", "terminated")
    rig.take()
    call.refer(TARGET, rig.now)
    rig.hear(response_to(rig.take()[0], 202))
    assert rig.advance(10.1) == [TransferProgress(call, 202, "No news of the transfer", is_final=True)]


def test_a_peer_that_says_it_sends_no_notify() -> None:
    rig, _, refer = referring()
    call = rig.last(CallOffered).call
    progress = TransferProgress(call, 202, "Accepted", is_final=True)
    assert rig.hear(response_to(refer, 200, headers=("Refer-Sub: false",))) == [progress]


def test_a_notify_that_overtakes_the_202() -> None:
    rig, caller, refer = referring()
    call = rig.last(CallOffered).call
    assert notify(caller, "SIP/2.0 200 OK") == [TransferProgress(call, 200, "OK", is_final=True)]
    assert rig.hear(response_to(refer, 202)) == []


@pytest.mark.parametrize(
    ("fragment", "state", "events"),
    [
        ("", "active", []),
        ("", "terminated;reason=timeout", [(202, "Subscription terminated", True)]),
        ("SIP/2.0 183 Progress", "terminated", [(183, "Progress", True)]),
        ("garbage", "active", []),
    ],
)
def test_odd_notifies(fragment: str, state: str, events: list[tuple[int, str, bool]]) -> None:
    rig, caller, refer = referring()
    call = rig.last(CallOffered).call
    rig.hear(response_to(refer, 202))
    assert notify(caller, fragment, state) == [TransferProgress(call, *parts) for parts in events]


@pytest.mark.parametrize("event", ["refer;id=77", "refer;;"])
def test_a_notify_of_another_subscription(event: str) -> None:
    rig, caller, _ = referring()
    assert notify(caller, "SIP/2.0 200 OK", event=event) == []
    assert rig.starts() == ["SIP/2.0 481 Subscription Does Not Exist"]


def test_no_response_to_a_refer_ends_transfer_and_call() -> None:
    rig, _, _ = referring()
    call = rig.last(CallOffered).call
    assert rig.advance(33) == [
        TransferProgress(call, 408, "Request Timeout", is_final=True),
        CallOver(call, SipEnd.TIMEOUT, 408, "Request Timeout", by_peer=False),
    ]


def test_a_call_that_ends_tells_nothing_more_of_its_transfer() -> None:
    rig, caller, refer = referring()
    rig.hear(response_to(refer, 202))
    caller.send("BYE")
    assert rig.advance(100) == []
    assert rig.is_clean()


def test_misuse() -> None:
    rig, _, _ = referring()
    call = rig.last(CallOffered).call
    with pytest.raises(LocalError, match="under way"):
        call.refer(TARGET, rig.now)
    rig = Rig()
    answered_call(rig, Caller(rig))
    with pytest.raises(LocalError, match="needs URIs"):
        rig.last(CallOffered).call.refer("sip:a b", rig.now)
    rig.last(CallOffered).call.hang_up(rig.now)
    rig.last(CallOffered).call.refer(TARGET, rig.now)  # too late, and no matter


# Other requests of ours


def test_an_info_of_ours() -> None:
    rig = Rig()
    answered_call(rig, Caller(rig))
    call = rig.last(CallOffered).call
    call.send_info("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", rig.now)
    (info,) = rig.take()
    assert start_of(info) == "INFO sip:peer@192.0.2.9:5060 SIP/2.0"
    assert header_of(info, "Content-Type") == "application/dtmf-relay"
    assert info.endswith("\r\n\r\nSignal=5\r\nDuration=160\r\n")
    assert rig.hear(response_to(info, 415)) == [InfoAnswered(call, 415)]
    assert not call.is_over


def test_an_info_that_finds_no_dialog_ends_the_call() -> None:
    rig = Rig()
    answered_call(rig, Caller(rig))
    call = rig.last(CallOffered).call
    call.send_info("application/dtmf", b"5", rig.now)
    (info,) = rig.take()
    assert rig.hear(response_to(info, 481, "Gone")) == [
        InfoAnswered(call, 481),
        CallOver(call, SipEnd.TIMEOUT, 481, "Gone", by_peer=False),
    ]
    assert rig.starts() == ["BYE sip:peer@192.0.2.9:5060 SIP/2.0"]
    call.send_info("application/dtmf", b"5", rig.now)
    assert rig.take() == []


def test_an_info_that_cannot_be_sent_ends_the_call() -> None:
    rig = Rig()
    answered_call(rig, Caller(rig))
    call = rig.last(CallOffered).call
    call.send_info("application/dtmf", b"5", rig.now)
    (out,) = rig.take_out()
    events = rig.fail(out)
    assert events == [
        InfoAnswered(call, 408),
        CallOver(call, SipEnd.TRANSPORT, 408, "Request Timeout", by_peer=False),
    ]
