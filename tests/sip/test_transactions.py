"""The transaction layer: what reaches its user, what it does by itself, and that nothing stays."""

from __future__ import annotations

import dataclasses
import math

import pytest

from bridge.errors import LocalError
from bridge.sip.flow import Flow, Outgoing, Transport
from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response, make_response
from bridge.sip.timers import Timers
from bridge.sip.transactions import (
    MAX_SERVER_BYTES,
    MAX_SERVER_TRANSACTIONS,
    Cancelled,
    Gone,
    NewRequest,
    NewResponse,
    SendFailed,
    TimedOut,
    TransactionEvent,
    TransactionLayer,
)
from tests.kit.transaction_parts import TCP, UDP, answer_to, first_words, make_request, outside, read_sent

INVITE = make_request("INVITE", via_params=";rport")
OPTIONS = make_request("OPTIONS", via_params=";rport")
OTHER_FLOW = Flow(Transport.UDP, "198.51.100.9", 5060)


def take(layer: TransactionLayer, request: Request, now: float = 0.0, flow: Flow = UDP) -> list[TransactionEvent]:
    return layer.receive_request(request, outside(request), flow, now)


def answer(layer: TransactionLayer, response: Response, now: float = 0.0, flow: Flow = UDP) -> list[TransactionEvent]:
    return layer.receive_response(response, outside(response), flow, now)


def opened(layer: TransactionLayer, request: Request, now: float = 0.0, flow: Flow = UDP) -> str:
    """The key of a request that reaches the user."""
    events = take(layer, request, now, flow)
    assert [type(event) for event in events] == [NewRequest]
    assert isinstance(event := events[0], NewRequest)
    assert event.key
    return event.key


def words(layer: TransactionLayer) -> list[str]:
    return first_words(layer.drain())


def sent_response(layer: TransactionLayer) -> Response:
    (outgoing,) = layer.drain()
    response = read_sent(outgoing)
    assert isinstance(response, Response)
    return response


def run_out(layer: TransactionLayer) -> list[TransactionEvent]:
    """Let every timer fire; nothing may be left of anything."""
    events: list[TransactionEvent] = []
    while (now := layer.next_timer()) < math.inf:
        events += layer.handle_timer(now)
    assert len(layer) == 0
    assert layer._server_bytes == 0
    assert not layer._mergeable
    assert len(layer._timer_list) == 0
    return events


# Requests of peers


def test_a_request_comes_once_with_all_that_belongs_to_it() -> None:
    layer = TransactionLayer()
    envelope = outside(INVITE)
    (event,) = layer.receive_request(INVITE, envelope, UDP, 0.0)
    assert isinstance(event, NewRequest)
    assert event == NewRequest(event.key, INVITE, envelope, UDP)
    assert take(layer, INVITE, 0.1) == []
    assert len(layer) == 1
    layer.respond(event.key, answer_to(INVITE, 180), 0.15)
    assert take(layer, INVITE, 0.5) == []
    assert words(layer) == ["180", "180"]


def test_the_100_comes_in_time_and_only_for_an_invite() -> None:
    layer = TransactionLayer()
    opened(layer, INVITE, 5.0)
    opened(layer, OPTIONS, 5.0)
    assert layer.next_timer() == 5.2
    assert layer.handle_timer(5.2) == []
    assert layer.drain() == [Outgoing(make_response(INVITE, 100).encode(), UDP)]
    assert layer.next_timer() == 37.0
    assert layer.handle_timer(37.0) == []
    assert len(layer) == 1


def test_responses_go_back_the_way_they_should() -> None:
    layer = TransactionLayer()
    no_rport = make_request("OPTIONS", sent_by="192.0.2.7:5099")
    layer.respond(opened(layer, no_rport), answer_to(no_rport, 200), 0.0)
    over_tcp = make_request("INVITE", transport="TCP", sent_by="192.0.2.7:5099")
    layer.respond(opened(layer, over_tcp, flow=TCP), answer_to(over_tcp, 180), 0.0)
    first, second = layer.drain()
    assert first.flow == dataclasses.replace(UDP, port=5099)
    assert (second.flow, second.fallback) == (TCP, Flow(Transport.TCP, "192.0.2.7", 5099))
    assert (first.key, second.key) == ("", "")


def test_a_repeat_from_elsewhere_is_answered_where_the_first_came_from() -> None:
    layer = TransactionLayer()
    layer.respond(opened(layer, OPTIONS), answer_to(OPTIONS, 200), 0.0)
    layer.drain()
    assert take(layer, OPTIONS, 0.5, OTHER_FLOW) == []
    assert [outgoing.flow for outgoing in layer.drain()] == [UDP]


def test_a_second_final_response_is_our_mistake_but_an_unknown_key_is_not() -> None:
    layer = TransactionLayer()
    key = opened(layer, INVITE)
    layer.respond(key, answer_to(INVITE, 200), 0.0)
    with pytest.raises(LocalError, match="^a response after the final one$"):
        layer.respond(key, answer_to(INVITE, 200), 0.1)
    layer.forget(key)  # too late to be silent
    assert take(layer, make_request("INVITE", branch="z9hG4bKo")) == []
    layer.drain()
    run_out(layer)
    layer.respond(key, answer_to(INVITE, 200), 99.0)
    layer.respond("", answer_to(INVITE, 200), 99.0)
    layer.forget(key)
    assert layer.drain() == []


def test_the_ack_of_a_rejection_is_absorbed() -> None:
    layer = TransactionLayer()
    layer.respond(opened(layer, INVITE), answer_to(INVITE, 486), 0.0)
    ack = make_request("ACK", to_tag="t")
    assert take(layer, ack, 0.1) == []
    assert take(layer, ack, 0.2) == []
    assert words(layer) == ["486"]
    assert layer.next_timer() == 5.1
    assert run_out(layer) == []


def test_the_ack_of_a_rejection_may_have_a_branch_of_its_own() -> None:
    layer = TransactionLayer()
    layer.respond(opened(layer, make_request("INVITE")), answer_to(make_request("INVITE"), 401), 0.0)
    layer.drain()
    other = make_request("ACK", branch="z9hG4bK-other", to_tag="another")
    assert take(layer, other, 0.1) == [NewRequest("", other, outside(other), UDP)], "of another response"
    assert take(layer, make_request("ACK", branch="z9hG4bK-other", to_tag="t"), 0.1) == []
    assert layer.handle_timer(1.0) == []
    assert words(layer) == [], "acknowledged, so not repeated"
    run_out(layer)
    ack = make_request("ACK", branch="z9hG4bK-other", to_tag="t")
    assert take(layer, ack, 200.0) == [NewRequest("", ack, outside(ack), UDP)], "nothing is kept"


def test_a_rejection_whose_ack_never_comes_times_out() -> None:
    layer = TransactionLayer()
    key = opened(layer, INVITE)
    layer.respond(key, answer_to(INVITE, 486), 0.0)
    assert run_out(layer) == [TimedOut(key)]
    assert words(layer) == ["486"] * 11


@pytest.mark.parametrize("branch", ["z9hG4bKb1", "z9hG4bKother"])  # the first is wrong and not rare
def test_the_acks_of_a_2xx_are_for_the_user(branch: str) -> None:
    layer = TransactionLayer()
    layer.respond(opened(layer, INVITE), answer_to(INVITE, 200), 0.0)
    ack = make_request("ACK", branch=branch, to_tag="t")
    for _ in range(2):
        assert take(layer, ack, 0.1) == [NewRequest("", ack, outside(ack), UDP)]
    assert take(layer, INVITE, 0.5) == []
    assert words(layer) == ["200"]
    assert len(layer) == 1
    assert run_out(layer) == []


def test_an_ack_of_nothing_is_for_the_user() -> None:
    layer = TransactionLayer()
    ack = make_request("ACK", to_tag="t")
    assert take(layer, ack) == [NewRequest("", ack, outside(ack), UDP)]
    assert (len(layer), layer.drain()) == (0, [])


def test_without_a_unique_branch_the_tag_of_an_ack_counts() -> None:
    layer = TransactionLayer()
    invite = make_request("INVITE", branch="")
    layer.respond(opened(layer, invite), answer_to(invite, 486, "mine"), 0.0)
    stray = make_request("ACK", branch="", to_tag="other")
    assert take(layer, stray, 0.1) == [NewRequest("", stray, outside(stray), UDP)]
    assert take(layer, make_request("ACK", branch="", to_tag="mine"), 0.2) == []
    assert layer.next_timer() == 5.2


# CANCEL


def test_a_cancel_is_answered_and_reported_once() -> None:
    layer = TransactionLayer()
    key = opened(layer, INVITE)
    layer.respond(key, answer_to(INVITE, 180, "mine"), 0.0)
    layer.drain()
    cancel = make_request("CANCEL", ("Reason", "Q.850;cause=16"), via_params=";rport")
    assert take(layer, cancel, 1.0) == [Cancelled(key, cancel)]
    ok = sent_response(layer)
    assert (ok.status, outside(ok).cseq.method) == (200, "CANCEL")
    assert outside(ok).to.tag == "mine"  # that of the INVITE's responses (RFC 3261 section 9.2)
    assert take(layer, cancel, 1.1) == []
    assert words(layer) == ["200"]
    layer.respond(key, answer_to(INVITE, 487, "mine"), 1.2)
    assert take(layer, make_request("ACK", to_tag="mine"), 1.3) == []
    assert words(layer) == ["487"]
    assert run_out(layer) == []


def test_two_different_cancels_cancel_once() -> None:
    layer = TransactionLayer(max_server_transactions=1)  # there is no room for those of the CANCELs
    key = opened(layer, INVITE)
    cancel = make_request("CANCEL")
    assert take(layer, cancel, 0.1) == [Cancelled(key, cancel)]
    assert take(layer, cancel, 0.2) == []
    assert words(layer) == ["200", "200"]


def test_a_cancel_before_any_response_gets_a_tag_that_stays() -> None:
    layer = TransactionLayer()
    opened(layer, INVITE)
    cancel = make_request("CANCEL")
    take(layer, cancel, 0.1)
    tag = outside(sent_response(layer)).to.tag
    assert len(tag) == 16
    take(layer, cancel, 0.6)
    assert outside(sent_response(layer)).to.tag == tag


@pytest.mark.parametrize("status", [200, 302, 486])
def test_a_cancel_that_crosses_a_final_response_changes_nothing(status: int) -> None:
    layer = TransactionLayer()
    layer.respond(opened(layer, INVITE), answer_to(INVITE, status), 0.0)
    layer.drain()
    assert take(layer, make_request("CANCEL"), 0.1) == []
    assert words(layer) == ["200"]


def test_a_cancel_of_nothing_is_answered_481() -> None:
    layer = TransactionLayer()
    opened(layer, INVITE)
    for cancel in (make_request("CANCEL", branch="z9hG4bKz"), make_request("CANCEL", call_id="other")):
        assert take(layer, cancel) == []
        response = sent_response(layer)
        assert (response.status, response.reason) == (481, "Call/Transaction Does Not Exist")
        assert outside(response).to.tag
        assert take(layer, cancel, 0.5) == []
        assert words(layer) == ["481"]


def test_a_cancel_without_a_unique_branch_finds_its_invite() -> None:
    layer = TransactionLayer()
    key = opened(layer, make_request("INVITE", branch="1"))
    cancel = make_request("CANCEL", branch="1")
    assert take(layer, cancel, 0.1) == [Cancelled(key, cancel)]


# Merged requests, floods, silence


def test_a_merged_request_is_refused() -> None:
    layer = TransactionLayer()
    key = opened(layer, INVITE)
    assert take(layer, make_request("INVITE", branch="z9hG4bKother", uri="sip:elsewhere@x")) == []
    response = sent_response(layer)
    assert (response.status, response.reason) == (482, "Merged Request")
    assert outside(response).to.tag
    layer.respond(key, answer_to(INVITE, 200), 0.1)  # it is still under way, in a way (RFC 6026)
    assert take(layer, make_request("INVITE", branch="z9hG4bKother")) == []
    assert words(layer) == ["200", "482"]
    run_out(layer)
    opened(layer, make_request("INVITE", branch="z9hG4bKother"))


@pytest.mark.parametrize(
    "other",
    [
        make_request("INVITE", branch="z9hG4bKo", number=2),
        make_request("INVITE", branch="z9hG4bKo", from_tag="g"),
        make_request("INVITE", branch="z9hG4bKo", call_id="d@x"),
        make_request("INVITE", branch="z9hG4bKo", to_tag="t"),
        make_request("OPTIONS", branch="z9hG4bKo"),
    ],
)
def test_other_requests_are_not_merged(other: Request) -> None:
    layer = TransactionLayer()
    opened(layer, INVITE)
    opened(layer, other)


@pytest.mark.parametrize("status", [302, 401, 407, 486, 503])
def test_a_rejected_request_may_come_again_with_another_branch(status: int) -> None:
    layer = TransactionLayer()
    for branch in ("z9hG4bKo1", "z9hG4bKo2", "z9hG4bKo3"):
        request = make_request("INVITE", branch=branch)
        layer.respond(opened(layer, request), answer_to(request, status), 0.0)
    run_out(layer)


def test_a_flood_is_refused_but_calls_can_be_hung_up() -> None:
    layer = TransactionLayer(max_server_transactions=10)
    for number in range(8):
        opened(layer, make_request("OPTIONS", branch=f"z9hG4bK{number}", call_id=f"{number}"))
    assert take(layer, INVITE) == []
    response = sent_response(layer)
    assert (response.status, response.headers.get("Retry-After")) == (503, "5")
    assert outside(response).to.tag
    for number in range(2):
        opened(layer, make_request("BYE", branch=f"z9hG4bKb{number}", to_tag="t"))
    assert take(layer, make_request("BYE", branch="z9hG4bKlast", to_tag="t")) == []
    assert take(layer, make_request("CANCEL", branch="z9hG4bK-c")) == []
    assert words(layer) == ["503", "481"]
    assert len(layer) == 10
    run_out(layer)
    opened(layer, INVITE)


def test_few_large_requests_are_a_flood_too() -> None:
    layer = TransactionLayer(max_server_bytes=10_000)
    large = make_request("OPTIONS", ("X-Large", "x" * 9000))
    opened(layer, large)
    assert take(layer, INVITE) == []
    assert words(layer) == ["503"]
    opened(layer, make_request("BYE", ("X-Large", "x" * 1000), to_tag="t"))
    run_out(layer)
    opened(layer, large)


def test_strangers_get_no_refusals_where_they_shall_not() -> None:
    asked: list[tuple[Flow, float]] = []

    def may_answer(flow: Flow, now: float) -> bool:
        asked.append((flow, now))
        return flow == OTHER_FLOW

    layer = TransactionLayer(may_answer=may_answer, max_server_transactions=1)
    answered: list[str] = []
    stray = make_request("CANCEL", branch="z9hG4bKz")
    key = opened(layer, INVITE)
    for request in (stray, make_request("INVITE", branch="z9hG4bKo"), make_request("INVITE", call_id="other")):
        assert take(layer, request, 1.0) == []
        assert layer.drain() == []
        assert take(layer, request, 2.0, OTHER_FLOW) == []
        answered += words(layer)
    assert answered == ["481", "482", "503"]
    assert asked == [(UDP, 1.0), (OTHER_FLOW, 2.0)] * 3
    cancel = make_request("CANCEL")
    assert take(layer, cancel, 3.0) == [Cancelled(key, cancel)]  # what belongs here is answered
    assert words(layer) == ["200"]
    assert len(asked) == 6


def test_the_limits_leave_room_for_a_busy_trunk() -> None:
    assert MAX_SERVER_TRANSACTIONS * 4 // 5 >= 100 * 32 * 2
    assert MAX_SERVER_BYTES * 4 // 5 >= 100 * 32 * 2 * 4096


def test_a_forgotten_request_gets_nothing_at_all() -> None:
    layer = TransactionLayer()
    for _ in range(3):
        key = opened(layer, INVITE)  # each time anew
        layer.forget(key)
        layer.forget(key)
        layer.respond(key, answer_to(INVITE, 403), 0.1)
        assert len(layer) == 0
    assert run_out(layer) == []
    assert layer.drain() == []


# Requests of ours


def test_a_call_of_ours() -> None:
    layer = TransactionLayer()
    key = layer.request(INVITE, UDP, 0.0)
    assert layer.drain() == [Outgoing(INVITE.encode(), UDP, key)]
    for status in (100, 180, 200, 200):
        response = answer_to(INVITE, status)
        expected = [NewResponse(key, response, outside(response), OTHER_FLOW)]
        assert answer(layer, response, 1.0, OTHER_FLOW) == expected
    assert answer(layer, answer_to(INVITE, 180), 2.0) == []
    assert layer.drain() == []
    assert run_out(layer) == [Gone(key)]
    late = answer_to(INVITE, 200)
    assert answer(layer, late, 99.0) == [NewResponse("", late, outside(late), UDP)]


def test_a_rejected_call_of_ours() -> None:
    layer = TransactionLayer()
    key = layer.request(INVITE, UDP, 0.0)
    busy = answer_to(INVITE, 486)
    assert answer(layer, busy, 1.0) == [NewResponse(key, busy, outside(busy), UDP)]
    assert answer(layer, busy, 1.5) == []
    crossing = answer_to(INVITE, 200, "fork")  # whoever sends it believes that there is a call
    assert answer(layer, crossing, 1.6) == [NewResponse("", crossing, outside(crossing), UDP)]
    assert words(layer) == ["INVITE", "ACK", "ACK"]
    assert run_out(layer) == [Gone(key)]


def test_over_a_stream_a_final_response_is_the_end_at_once() -> None:
    layer = TransactionLayer()
    for request, status in ((INVITE, 486), (OPTIONS, 200)):
        key = layer.request(request, TCP, 0.0)
        response = answer_to(request, status)
        assert answer(layer, response, 1.0, TCP) == [NewResponse(key, response, outside(response), TCP), Gone(key)]
        assert len(layer) == 0
    run_out(layer)


@pytest.mark.parametrize("flow", [UDP, TCP])
@pytest.mark.parametrize("request_", [INVITE, OPTIONS])
def test_a_request_without_a_response_times_out(request_: Request, flow: Flow) -> None:
    layer = TransactionLayer(Timers(t1_s=0.1))
    key = layer.request(request_, flow, 10.0)
    events: list[TransactionEvent] = []
    while not events:
        events = layer.handle_timer(now := layer.next_timer())
    assert events == [TimedOut(key)]
    assert now == pytest.approx(16.4)
    run_out(layer)


def test_responses_to_nothing_are_ignored() -> None:
    layer = TransactionLayer()
    layer.request(OPTIONS, UDP, 0.0)
    for response in (answer_to(INVITE, 180), answer_to(INVITE, 486), answer_to(make_request("BYE"), 200)):
        assert answer(layer, response) == []
    assert words(layer) == ["OPTIONS"]


def test_a_branch_serves_once() -> None:
    layer = TransactionLayer()
    layer.request(INVITE, UDP, 0.0)
    with pytest.raises(LocalError, match="^a branch was used before$"):
        layer.request(INVITE, UDP, 1.0)
    with pytest.raises(LocalError, match="^a request needs one Via and a CSeq$"):
        layer.request(Request("INVITE", "sip:a"), UDP, 1.0)
    assert words(layer) == ["INVITE"]


def test_what_cannot_be_sent_is_reported() -> None:
    layer = TransactionLayer()
    key = layer.request(INVITE, TCP, 0.0)
    assert layer.send_failed(key, 0.1) == [SendFailed(key)]
    assert layer.send_failed(key, 0.2) == []
    assert layer.send_failed("", 0.2) == []
    assert len(layer) == 0
    key = layer.request(INVITE, TCP, 1.0)
    answer(layer, answer_to(INVITE, 180), 1.1)
    assert layer.send_failed(key, 1.2) == []  # something came: it was sent
    assert len(layer) == 1


def test_cancelling_a_call_of_ours() -> None:
    layer = TransactionLayer()
    key = layer.request(INVITE, UDP, 0.0)
    layer.cancel(key, 0.1, [("Reason", 'SIP;cause=200;text="Call completed elsewhere"')])
    assert words(layer) == ["INVITE"]
    answer(layer, answer_to(INVITE, 180), 1.0)
    (outgoing,) = layer.drain()
    cancel = read_sent(outgoing)
    assert isinstance(cancel, Request)
    assert (cancel.method, cancel.headers.get("Via")) == ("CANCEL", INVITE.headers.get("Via"))
    assert cancel.headers.get("Reason") == 'SIP;cause=200;text="Call completed elsewhere"'
    assert outgoing.flow == UDP
    layer.handle_timer(1.5)
    assert words(layer) == ["CANCEL"]  # it is repeated like any request
    assert answer(layer, answer_to(cancel, 200), 1.6) == []
    gone = answer_to(INVITE, 487)
    assert answer(layer, gone, 1.7) == [NewResponse(key, gone, outside(gone), UDP)]
    assert words(layer) == ["ACK"]
    assert run_out(layer) == [Gone(key)]
    assert layer.drain() == []


def test_a_cancel_that_a_2xx_crosses() -> None:
    layer = TransactionLayer()
    key = layer.request(INVITE, UDP, 0.0)
    answer(layer, answer_to(INVITE, 180), 1.0)
    layer.cancel(key, 2.0)
    layer.cancel(key, 2.0)
    ok = answer_to(INVITE, 200)
    assert answer(layer, ok, 2.1) == [NewResponse(key, ok, outside(ok), UDP)]
    layer.cancel(key, 2.2)
    assert words(layer) == ["INVITE", "CANCEL"]
    assert run_out(layer) == [Gone(key)]


def test_a_cancelled_call_that_nobody_ends_times_out() -> None:
    layer = TransactionLayer()
    key = layer.request(INVITE, UDP, 0.0)
    answer(layer, answer_to(INVITE, 180), 1.0)
    layer.cancel(key, 100.0)
    cancel = make_request("CANCEL")
    answer(layer, answer_to(cancel, 481), 100.1)
    assert layer.handle_timer(131.9) == []
    assert layer.handle_timer(132.0) == [TimedOut(key)]
    run_out(layer)


def test_a_cancel_that_cannot_be_sent_is_nobodys_business() -> None:
    layer = TransactionLayer()
    key = layer.request(INVITE, TCP, 0.0)
    answer(layer, answer_to(INVITE, 180), 1.0)
    layer.cancel(key, 2.0)
    assert layer.send_failed(layer.drain()[-1].key, 2.1) == []
    assert run_out(layer) == [TimedOut(key)]


def test_only_an_open_invite_is_cancelled() -> None:
    layer = TransactionLayer()
    key = layer.request(OPTIONS, UDP, 0.0)
    layer.cancel(key, 1.0)
    layer.cancel("unknown", 1.0)
    assert words(layer) == ["OPTIONS"]


# Outside of transactions


def test_what_is_sent_as_it_is() -> None:
    layer = TransactionLayer()
    ack = make_request("ACK", to_tag="t")
    layer.send(ack, UDP)
    no_rport = make_request("INVITE", ("Via", "SIP/2.0/UDP 10.0.0.1:9"), sent_by="192.0.2.7:5099")
    layer.send(answer_to(no_rport, 200), UDP)
    joined = Headers([("Via", "SIP/2.0/UDP 192.0.2.7:5098, SIP/2.0/UDP 10.0.0.1:9")])
    layer.send(Response(400, "Bad Request", joined), UDP)
    layer.send(Response(400, "Bad Request", Headers([("Via", "nonsense")])), UDP)
    layer.send(Response(400, "Bad Request", Headers([("Via", "")])), UDP)
    layer.send(Response(400, "Bad Request"), TCP)
    sent = layer.drain()
    assert first_words(sent) == ["ACK", "200", "400", "400", "400", "400"]
    assert [outgoing.flow.port for outgoing in sent] == [5062, 5099, 5098, 5062, 5062, TCP.port]
    assert {outgoing.key for outgoing in sent} == {""}
    assert len(layer) == 0


def test_a_layer_without_anything_never_wakes() -> None:
    layer = TransactionLayer()
    assert layer.next_timer() == math.inf
    assert layer.handle_timer(1e9) == []


# Many


def one_call_each_way(layer: TransactionLayer, number: int, now: float) -> None:
    """An incoming call and an outgoing one, hung up by whoever called."""
    for method, sequence, to_tag in (("INVITE", 1, ""), ("BYE", 2, "t")):
        branch = f"z9hG4bK{number}.{sequence}"
        theirs = make_request(method, branch=branch, number=sequence, to_tag=to_tag, call_id=f"in{number}")
        layer.respond(opened(layer, theirs, now), answer_to(theirs, 200), now)
        ours = make_request(method, branch=branch, number=sequence, to_tag=to_tag, call_id=f"out{number}")
        layer.request(ours, UDP, now)
        answer(layer, answer_to(ours, 200), now)
    layer.drain()


def test_a_minute_of_calls_leaves_nothing() -> None:
    layer = TransactionLayer()
    most = most_timers = 0
    for number in range(60 * 10):
        now = number / 10
        layer.handle_timer(now)
        one_call_each_way(layer, number, now)
        most = max(most, len(layer))
        most_timers = max(most_timers, len(layer._timer_list))
    assert most == pytest.approx(10 * (32 * 3 + 5), rel=0.05)  # L, J, M and K
    assert most_timers <= 2 * most + 64
    run_out(layer)


def test_a_storm_of_repeats_costs_nothing_but_answers() -> None:
    layer = TransactionLayer()
    layer.respond(opened(layer, OPTIONS), answer_to(OPTIONS, 200), 0.0)
    silent = make_request("INVITE", call_id="other", branch="z9hG4bKsilent")
    opened(layer, silent)
    for _ in range(500):
        assert take(layer, OPTIONS, 0.1) == []
        assert take(layer, silent, 0.1) == []
    assert len(layer) == 2
    assert len(layer._timer_list) == 2
    assert len(layer.drain()) == 501
