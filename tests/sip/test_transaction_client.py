"""Client transactions by themselves: when they repeat, what they pass on, ACK and CANCEL."""

from __future__ import annotations

import pytest

from bridge.errors import LocalError
from bridge.sip.flow import Flow, Outgoing
from bridge.sip.message import Request
from bridge.sip.timers import NEVER, Timers
from bridge.sip.transaction_client import (
    ClientState,
    InviteClient,
    NonInviteClient,
    client_key,
    make_ack,
    make_cancel,
    own_key,
)
from tests.kit.transaction_parts import TCP, UDP, answer_to, make_request, outside

INVITE = make_request("INVITE", ("Route", "<sip:r1;lr>"), ("Route", "<sip:r2;lr>"), ("Require", "x"), number=7)
BYE = make_request("BYE", number=8, to_tag="t")


def state(transaction: InviteClient | NonInviteClient) -> ClientState:
    return transaction.state  # through a function, so that mypy forgets what it was


def invite_client(flow: Flow = UDP, now: float = 0.0) -> tuple[InviteClient, list[Outgoing]]:
    out: list[Outgoing] = []
    return InviteClient("key", INVITE, flow, Timers(), out, now), out


def bye_client(flow: Flow = UDP, now: float = 0.0) -> tuple[NonInviteClient, list[Outgoing]]:
    out: list[Outgoing] = []
    return NonInviteClient("key", BYE, flow, Timers(), out, now), out


def sending_times(transaction: InviteClient | NonInviteClient, out: list[Outgoing], until: float) -> list[float]:
    """When something is sent from now on; whatever was sent before is forgotten."""
    out.clear()
    times = []
    while (now := transaction.wakes_at) <= until:
        transaction.handle_timer(now)
        times += [now] * len(out)
        out.clear()
    return times


def test_an_invite_over_udp_is_repeated_ever_more_rarely_and_given_up() -> None:
    transaction, out = invite_client(now=100.0)
    assert out == [Outgoing(INVITE.encode(), UDP, "key")]
    assert sending_times(transaction, out, 131.9) == [100.5, 101.5, 103.5, 107.5, 115.5, 131.5]
    assert state(transaction) is ClientState.CALLING
    transaction.handle_timer(132.0)
    assert (state(transaction), transaction.has_timed_out) == (ClientState.TERMINATED, True)
    assert (out, transaction.wakes_at) == ([], NEVER)


def test_repeats_are_the_same_bytes_with_the_same_key() -> None:
    transaction, out = invite_client()
    transaction.handle_timer(0.5)
    assert out == [Outgoing(INVITE.encode(), UDP, "key")] * 2


def test_nothing_is_repeated_over_a_stream() -> None:
    for transaction, out in (invite_client(TCP), bye_client(TCP)):
        assert sending_times(transaction, out, 31.9) == []
        transaction.handle_timer(32.0)
        assert transaction.has_timed_out


def test_a_bye_is_repeated_at_most_every_t2() -> None:
    transaction, out = bye_client()
    assert sending_times(transaction, out, 31.9) == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    transaction.handle_timer(32.0)
    assert (state(transaction), transaction.has_timed_out) == (ClientState.TERMINATED, True)


def test_a_bye_that_is_being_worked_on_is_repeated_every_t2() -> None:
    transaction, out = bye_client()
    assert transaction.receive(answer_to(BYE, 100), 0.1)
    assert state(transaction) is ClientState.PROCEEDING
    assert sending_times(transaction, out, 31.9) == [0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
    assert transaction.receive(answer_to(BYE, 100), 31.9)
    transaction.handle_timer(32.0)
    assert transaction.has_timed_out


def test_a_late_clock_brings_one_repeat() -> None:
    transaction, out = invite_client()
    out.clear()
    transaction.handle_timer(20.0)
    assert len(out) == 1
    assert transaction.wakes_at == 21.0
    transaction.handle_timer(20.5)  # early
    assert len(out) == 1


def test_a_ringing_invite_is_neither_repeated_nor_given_up() -> None:
    transaction, out = invite_client()
    assert transaction.receive(answer_to(INVITE, 100), 0.1)
    assert transaction.receive(answer_to(INVITE, 180), 0.2)
    assert transaction.receive(answer_to(INVITE, 180), 0.3)  # again: the user may want to know
    assert transaction.wakes_at == NEVER
    assert len(out) == 1


def test_every_2xx_is_passed_on_until_m() -> None:
    transaction, out = invite_client()
    assert transaction.receive(answer_to(INVITE, 200), 3.0)
    assert state(transaction) is ClientState.ACCEPTED
    assert transaction.receive(answer_to(INVITE, 200), 3.5)
    assert transaction.receive(answer_to(INVITE, 200, "fork"), 3.6)
    for status in (100, 180, 302, 486, 603):
        assert not transaction.receive(answer_to(INVITE, status), 4.0)
    assert len(out) == 1  # the ACKs are the user's
    assert transaction.wakes_at == 35.0
    transaction.handle_timer(35.0)
    assert (state(transaction), transaction.has_timed_out) == (ClientState.TERMINATED, False)


ACK_486 = (
    b"ACK sip:agent@bridge.example SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKb1\r\n"
    b"Max-Forwards: 69\r\n"
    b"Route: <sip:r1;lr>\r\n"
    b"Route: <sip:r2;lr>\r\n"
    b"From: <sip:caller@peer.example>;tag=f\r\n"
    b"Call-ID: c@x\r\n"
    b"CSeq: 7 ACK\r\n"
    b"To: <sip:agent@bridge.example>;tag=t\r\n"
    b"Content-Length: 0\r\n"
    b"\r\n"
)


def test_a_rejection_is_acknowledged_each_time_and_passed_on_once() -> None:
    transaction, out = invite_client()
    transaction.receive(answer_to(INVITE, 180), 0.5)
    out.clear()
    busy = answer_to(INVITE, 486)
    assert transaction.receive(busy, 1.0)
    assert state(transaction) is ClientState.COMPLETED
    assert out == [Outgoing(ACK_486, UDP)]
    assert not transaction.receive(busy, 1.5)
    assert out == [Outgoing(ACK_486, UDP)] * 2
    assert not transaction.receive(answer_to(INVITE, 180), 1.6)
    assert not transaction.receive(answer_to(INVITE, 200), 1.6)
    assert len(out) == 2
    assert transaction.wakes_at == 33.0
    transaction.handle_timer(33.0)
    assert (state(transaction), transaction.has_timed_out) == (ClientState.TERMINATED, False)


def test_a_rejection_over_a_stream_is_acknowledged_and_over() -> None:
    transaction, out = invite_client(TCP)
    assert transaction.receive(answer_to(INVITE, 300), 1.0)
    assert out[1:] == [Outgoing(ACK_486, TCP)]
    assert (state(transaction), transaction.wakes_at) == (ClientState.TERMINATED, NEVER)


def test_the_response_to_a_bye_is_passed_on_once() -> None:
    transaction, out = bye_client()
    assert transaction.receive(answer_to(BYE, 481), 1.0)
    assert state(transaction) is ClientState.COMPLETED
    assert not transaction.receive(answer_to(BYE, 481), 1.5)
    assert not transaction.receive(answer_to(BYE, 100), 1.5)
    assert len(out) == 1
    assert transaction.wakes_at == 6.0
    transaction.handle_timer(6.0)
    assert (state(transaction), transaction.has_timed_out) == (ClientState.TERMINATED, False)


def test_the_response_to_a_bye_over_a_stream_ends_it() -> None:
    transaction, _ = bye_client(TCP)
    assert transaction.receive(answer_to(BYE, 200), 1.0)
    assert state(transaction) is ClientState.TERMINATED


def test_a_cancel_waits_for_a_provisional_response() -> None:
    transaction, _ = invite_client()
    transaction.cancel(1.0, [("Reason", "SIP;cause=200")])
    assert (transaction.wants_cancel, transaction.wakes_at) == (
        False,
        0.5,
    )  # it is still repeated, and given up as ever
    assert transaction.receive(answer_to(INVITE, 100), 2.0)
    assert transaction.wants_cancel
    assert transaction.cancel_fields == (("Reason", "SIP;cause=200"),)
    assert transaction.wakes_at == 34.0
    transaction.wants_cancel = False
    transaction.receive(answer_to(INVITE, 180), 3.0)
    transaction.cancel(3.0, [])
    assert not transaction.wants_cancel  # once is enough
    transaction.handle_timer(34.0)
    assert transaction.has_timed_out


def test_a_cancel_after_a_provisional_response_goes_at_once() -> None:
    transaction, _ = invite_client()
    transaction.receive(answer_to(INVITE, 180), 1.0)
    transaction.cancel(50.0, [])
    assert transaction.wants_cancel
    assert transaction.wakes_at == 82.0
    assert transaction.receive(answer_to(INVITE, 487), 50.1)
    assert state(transaction) is ClientState.COMPLETED


@pytest.mark.parametrize("status", [200, 486])
def test_a_final_response_that_came_first_makes_a_cancel_void(status: int) -> None:
    transaction, _ = invite_client()
    transaction.receive(answer_to(INVITE, status), 1.0)
    transaction.cancel(1.0, [])
    assert not transaction.wants_cancel
    held, _ = invite_client()
    held.cancel(0.5, [])
    held.receive(answer_to(INVITE, status), 1.0)
    assert not held.wants_cancel


def test_a_failure_to_send_counts_as_long_as_nothing_came() -> None:
    transaction, _ = invite_client()
    assert transaction.fail()
    assert (state(transaction), transaction.wakes_at) == (ClientState.TERMINATED, NEVER)
    for status in (180, 200, 486):
        transaction, _ = invite_client()
        transaction.receive(answer_to(INVITE, status), 0.1)
        assert not transaction.fail()
        assert state(transaction) is not ClientState.TERMINATED


def test_ack_and_cancel_by_the_letter() -> None:
    assert make_ack(INVITE, answer_to(INVITE, 486)).encode() == ACK_486
    cancel = make_cancel(INVITE, [("Reason", "SIP;cause=200")])
    assert cancel.encode() == (
        ACK_486.replace(b"ACK", b"CANCEL")
        .replace(b";tag=t\r\n", b"\r\n")
        .replace(b"Content-Length", b"Reason: SIP;cause=200\r\nContent-Length")
    )
    assert own_key(cancel) == "z9hG4bKb1 CANCEL"


def test_an_ack_of_little() -> None:
    ack = make_ack(
        Request("INVITE", "sip:a", make_request(number=3).headers.without("Max-Forwards")), answer_to(BYE, 400)
    )
    assert ack.headers.get("Max-Forwards") == "70"
    assert ack.headers.get("CSeq") == "3 ACK"


def test_a_response_finds_its_request_by_branch_and_method() -> None:
    response = outside(answer_to(INVITE, 200))
    assert own_key(INVITE) == client_key(response.via, response.cseq.method) == "z9hG4bKb1 INVITE"


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (Request("INVITE", "sip:a", INVITE.headers.without("Via")), "one Via and a CSeq"),
        (Request("INVITE", "sip:a", INVITE.headers.adding(("Via", "SIP/2.0/UDP x"))), "one Via and a CSeq"),
        (Request("INVITE", "sip:a", INVITE.headers.replacing_first("Via", "x")), "one Via and a CSeq"),
        (Request("INVITE", "sip:a", INVITE.headers.without("CSeq")), "one Via and a CSeq"),
        (Request("BYE", "sip:a", INVITE.headers), "a branch with the magic cookie and a fitting CSeq, and is no ACK"),
        (make_request(branch="1"), "a branch with the magic cookie and a fitting CSeq, and is no ACK"),
        (make_request("ACK"), "a branch with the magic cookie and a fitting CSeq, and is no ACK"),
    ],
)
def test_requests_that_are_not_fit_to_be_sent(request_: Request, problem: str) -> None:
    with pytest.raises(LocalError, match=f"^a request needs {problem}$"):
        own_key(request_)
