"""Server transactions by themselves: what they repeat and when, what matches them, the way back."""

from __future__ import annotations

import pytest

from bridge.errors import LocalError
from bridge.sip.flow import Flow, Outgoing, Transport
from bridge.sip.headers import Headers
from bridge.sip.message import Response, make_response
from bridge.sip.timers import NEVER, Timers
from bridge.sip.transaction_server import InviteServer, NonInviteServer, ServerState, server_key, way_back
from bridge.sip.values import parse_via
from tests.kit.transaction_parts import PEER, TCP, TLS, UDP, answer_to, first_words, make_request, outside

INVITE = make_request("INVITE", via_params=";rport")
BYE = make_request("BYE", via_params=";rport", to_tag="t")


def state(transaction: InviteServer | NonInviteServer) -> ServerState:
    return transaction.state  # through a function, so that mypy forgets what it was


def invite_server(flow: Flow = UDP, now: float = 0.0) -> tuple[InviteServer, list[Outgoing]]:
    out: list[Outgoing] = []
    return InviteServer("key", INVITE, outside(INVITE), flow, Timers(), out, now), out


def bye_server(flow: Flow = UDP, now: float = 0.0) -> tuple[NonInviteServer, list[Outgoing]]:
    out: list[Outgoing] = []
    return NonInviteServer("key", BYE, outside(BYE), flow, Timers(), out, now), out


def sent(response: Response, flow: Flow = UDP) -> Outgoing:
    return Outgoing(response.encode(), flow)


def test_an_invite_that_nobody_answers_gets_100() -> None:
    transaction, out = invite_server(now=10.0)
    assert transaction.wakes_at == 10.2
    assert not transaction.handle_timer(10.1)
    assert out == []
    assert not transaction.handle_timer(10.2)
    trying = sent(make_response(INVITE, 100))
    assert out == [trying]
    assert (state(transaction), transaction.wakes_at) == (ServerState.PROCEEDING, NEVER)
    transaction.repeat()
    assert out == [trying, trying]


@pytest.mark.parametrize("status", [100, 180, 183, 200, 486])
def test_any_response_spares_the_100(status: int) -> None:
    transaction, out = invite_server()
    transaction.respond(answer_to(INVITE, status), 0.1)
    transaction.handle_timer(0.3)
    assert out == [sent(answer_to(INVITE, status))]


def test_a_repeated_invite_brings_the_latest_provisional_response_again() -> None:
    transaction, out = invite_server()
    transaction.repeat()
    assert out == []
    for status in (180, 183):
        transaction.respond(answer_to(INVITE, status), 0.1)
        transaction.repeat()
    assert first_words(out) == ["180", "180", "183", "183"]


def test_a_2xx_is_the_users_to_repeat() -> None:
    transaction, out = invite_server()
    transaction.respond(answer_to(INVITE, 200), 4.0)
    assert state(transaction) is ServerState.ACCEPTED
    transaction.repeat()
    assert first_words(out) == ["200"]
    assert transaction.acknowledge(4.1)
    assert transaction.acknowledge(4.2)  # and so are its ACKs, each
    assert transaction.wakes_at == 36.0
    assert not transaction.handle_timer(36.0)
    assert state(transaction) is ServerState.TERMINATED


def test_a_rejection_over_udp_is_repeated_until_h() -> None:
    transaction, out = invite_server()
    transaction.respond(answer_to(INVITE, 486), 0.0)
    times = []
    while not transaction.handle_timer(now := transaction.wakes_at):
        times.append(now)
    assert times == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert now == 32.0
    assert out == [sent(answer_to(INVITE, 486))] * 11
    assert (state(transaction), transaction.wakes_at) == (ServerState.TERMINATED, NEVER)


def test_a_rejection_is_repeated_until_its_ack() -> None:
    transaction, out = invite_server()
    transaction.respond(answer_to(INVITE, 486), 0.0)
    transaction.repeat()
    assert first_words(out) == ["486", "486"]
    assert not transaction.acknowledge(0.3)
    assert state(transaction) is ServerState.CONFIRMED
    transaction.repeat()
    assert not transaction.acknowledge(0.4)
    assert first_words(out) == ["486", "486"]
    assert transaction.wakes_at == 5.3
    assert not transaction.handle_timer(5.3)
    assert state(transaction) is ServerState.TERMINATED


def test_a_rejection_over_a_stream_waits_for_its_ack_only() -> None:
    transaction, out = invite_server(TCP)
    transaction.respond(answer_to(INVITE, 486), 0.0)
    assert transaction.wakes_at == 32.0
    assert not transaction.acknowledge(0.1)
    assert state(transaction) is ServerState.TERMINATED
    assert len(out) == 1
    unacknowledged, _ = invite_server(TCP)
    unacknowledged.respond(answer_to(INVITE, 486), 0.0)
    assert unacknowledged.handle_timer(32.0)


def test_an_ack_before_a_response_is_nothing() -> None:
    transaction, out = invite_server()
    assert not transaction.acknowledge(0.1)
    assert state(transaction) is ServerState.PROCEEDING
    assert out == []


@pytest.mark.parametrize("first", [200, 300, 486, 603])
@pytest.mark.parametrize("second", [100, 180, 200, 500])
def test_nothing_may_follow_a_final_response(first: int, second: int) -> None:
    for request, (transaction, out) in ((INVITE, invite_server()), (BYE, bye_server())):
        transaction.respond(answer_to(request, first), 0.0)
        with pytest.raises(LocalError, match="^a response after the final one$"):
            transaction.respond(answer_to(request, second), 0.1)
        assert len(out) == 1


def test_a_repeated_bye_brings_its_response_again() -> None:
    transaction, out = bye_server()
    transaction.repeat()
    assert out == []
    transaction.respond(answer_to(BYE, 100), 1.0)
    transaction.repeat()
    transaction.respond(answer_to(BYE, 200), 2.0)
    transaction.repeat()
    assert first_words(out) == ["100", "100", "200", "200"]
    assert transaction.wakes_at == 34.0
    assert not transaction.handle_timer(33.9)
    assert state(transaction) is ServerState.COMPLETED
    assert not transaction.handle_timer(34.0)
    assert state(transaction) is ServerState.TERMINATED


def test_over_a_stream_the_response_to_a_bye_is_the_end() -> None:
    transaction, _ = bye_server(TCP)
    transaction.respond(answer_to(BYE, 200), 0.0)
    assert (state(transaction), transaction.wakes_at) == (ServerState.TERMINATED, NEVER)


@pytest.mark.parametrize("flow", [UDP, TCP])
def test_an_unanswered_bye_is_forgotten_when_the_peer_has_given_up(flow: Flow) -> None:
    transaction, out = bye_server(flow, now=5.0)
    assert transaction.wakes_at == 37.0
    assert not transaction.handle_timer(37.0)
    assert state(transaction) is ServerState.TERMINATED
    assert out == []


def test_a_forgotten_request_is_over_without_an_answer() -> None:
    for transaction, out in (invite_server(), bye_server()):
        assert transaction.forget()
        assert (state(transaction), transaction.wakes_at) == (ServerState.TERMINATED, NEVER)
        assert out == []


def test_a_request_that_was_answered_cannot_be_forgotten() -> None:
    for request, (transaction, out) in ((INVITE, invite_server()), (BYE, bye_server())):
        transaction.respond(answer_to(request, 486), 0.0)
        assert not transaction.forget()
        transaction.repeat()
        assert first_words(out) == ["486", "486"]


def test_only_the_first_cancel_in_time_counts() -> None:
    transaction, _ = invite_server()
    assert transaction.cancel()
    assert not transaction.cancel()
    for status in (200, 486):
        answered, _ = invite_server()
        answered.respond(answer_to(INVITE, status), 0.0)
        assert not answered.cancel()


def test_the_tag_of_the_latest_response() -> None:
    transaction, _ = invite_server()
    assert transaction.local_tag == ""
    transaction.handle_timer(0.2)
    assert transaction.local_tag == ""
    transaction.respond(answer_to(INVITE, 180, "mine"), 1.0)
    assert transaction.local_tag == "mine"
    odd, _ = invite_server()
    odd.respond(Response(180, "Ringing", Headers()), 0.0)
    assert odd.local_tag == ""


def test_its_size_is_that_of_headers_and_body() -> None:
    request = make_request("INVITE", ("X-Long", "x" * 1000))
    transaction = InviteServer("k", request, outside(request), UDP, Timers(), [], 0.0)
    assert 1000 < transaction.size_bytes < 1300


# What belongs together


def key(method: str = "INVITE", as_: str = "", **changes: object) -> str:
    request = make_request(method, **changes)  # type: ignore[arg-type]
    return server_key(outside(request), as_ or method)


def test_a_unique_branch_identifies() -> None:
    assert key() == key(uri="sip:other@x", from_tag="g", number=2, to_tag="t", via_params=";rport=1;received=192.0.2.9")
    assert key() == key("ACK", "INVITE", to_tag="t") == key("CANCEL", "INVITE")
    others = [key("BYE"), key("CANCEL"), key(branch="z9hG4bKb2"), key(sent_by="192.0.2.7"), key(call_id="d@x")]
    assert len({key(), *others}) == 1 + len(others)


@pytest.mark.parametrize("branch", ["", "1", "z9hG4bK"])
def test_without_a_unique_branch_everything_counts(branch: str) -> None:
    def old(method: str = "INVITE", **changes: object) -> str:
        return key(method, "INVITE" if method in ("ACK", "CANCEL") else "", **{"branch": branch, **changes})

    assert old() == old("ACK", to_tag="t") == old("CANCEL") == old(via_params=";received=192.0.2.9")
    others = [
        old("BYE"), old(uri="sip:other@x"), old(from_tag="g"), old(from_tag=""), old(number=2), old(call_id="d@x"),
        old(sent_by="192.0.2.8"), old(branch="2"), old(transport="TCP"), key(),
    ]  # fmt: skip
    assert len({old(), *others}) == 1 + len(others)


def test_without_a_unique_branch_the_tag_tells_whose_ack_it_is() -> None:
    invite = make_request(branch="1")
    transaction = InviteServer("k", invite, outside(invite), UDP, Timers(), [], 0.0)
    transaction.respond(answer_to(invite, 486, "mine"), 0.0)
    assert transaction.owns_ack(outside(make_request("ACK", branch="1", to_tag="mine")))
    assert not transaction.owns_ack(outside(make_request("ACK", branch="1", to_tag="other")))
    assert transaction.owns_ack(outside(make_request("ACK", to_tag="other")))


# The way back


def back(via: str, flow: Flow) -> Outgoing:
    return way_back(b"x", parse_via(f"SIP/2.0/{via}"), flow)


@pytest.mark.parametrize(
    ("via", "port"),
    [
        ("UDP 10.0.0.1:5070;rport=5062;received=192.0.2.7", 5062),
        ("UDP 10.0.0.1:5070;received=192.0.2.7", 5070),
        ("UDP 10.0.0.1", 5060),
        ("UDP 192.0.2.7:5070;maddr=224.0.1.75", 5070),
    ],
)
def test_a_datagram_goes_to_the_address_that_it_came_from(via: str, port: int) -> None:
    assert back(via, UDP) == Outgoing(b"x", Flow(Transport.UDP, PEER, port))


def test_on_a_stream_it_goes_back_on_it_or_on_a_new_one() -> None:
    fallback = Flow(Transport.TCP, PEER, 5070)
    assert back("TCP 192.0.2.7:5070;rport", TCP) == Outgoing(b"x", TCP, fallback=fallback)
    assert back("TLS sbc.example", TLS) == Outgoing(
        b"x", TLS, fallback=Flow(Transport.TLS, PEER, 5061, server_name="sbc.example")
    )
    v6 = Flow(Transport.TLS, "2001:db8::1", 40_000, connection=9)
    assert back("TLS [2001:db8::1]", v6).fallback == Flow(Transport.TLS, "2001:db8::1", 5061)
