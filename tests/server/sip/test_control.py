"""The control client of SIP: what its words mean. Placing and transferring for real: ``tests/e2e/test_sip_calls``."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from bridge.calls.orders import TransferOrder
from bridge.leg import ToneWay, TransferKind
from bridge.server.carrier_control import ControlError, ControlFault, Line, OutboundOrder, Whisper
from bridge.server.sip.control import Following, SipControl, bracketed, final_status, refer_to, verdict_of
from bridge.server.sip.line import SipLine
from bridge.server.transfers import Verdict
from bridge.sip.call import SipCall
from bridge.sip.flow import Flow, Transport
from bridge.sip.trunks import Outbound, Trunk, Trunks
from bridge.sip.ua_events import CallOver, SipEnd, TransferProgress
from bridge.sip.values import parse_address

CALL = cast("SipCall", object())
LINE = Line("c1")
WHISPER = Whisper("t1", ring_s=20)
ORDER = TransferOrder(kind=TransferKind.REFER, target="+15550003333")
CALLER = "<sip:+15550001111@pbx.example>"


def over(how: SipEnd, status: int = 0, reason: str = "") -> CallOver:
    return CallOver(CALL, how, status, reason, by_peer=True)


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        (over(SipEnd.FAILED, 486, "Busy Here"), ("busy", 486, "Busy Here")),
        (over(SipEnd.FAILED, 600, "Busy Everywhere"), ("busy", 600, "Busy Everywhere")),
        (over(SipEnd.FAILED, 480, "Away"), ("no-answer", 480, "Away")),
        (over(SipEnd.FAILED, 404, "Not Found"), ("failed", 404, "Not Found")),
        (over(SipEnd.FAILED, 503, "Service Unavailable"), ("failed", 503, "Service Unavailable")),
        (over(SipEnd.NO_ANSWER, 487, "Request Terminated"), ("no-answer", 487, "Request Terminated")),
        (over(SipEnd.NO_ANSWER), ("no-answer", 487, "Request Terminated")),
        (over(SipEnd.LOCAL), ("canceled", 487, "Request Terminated")),
        (over(SipEnd.TIMEOUT), ("no-answer", 408, "Request Timeout")),
        (over(SipEnd.TRANSPORT), ("failed", 503, "Service Unavailable")),
        (over(SipEnd.BYE), ("completed", 200, "OK")),
    ],
)
def test_how_a_placed_call_failed(ended: CallOver, status: tuple[str, int, str]) -> None:
    assert final_status(ended) == status


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.ACCEPTED),
        (202, Verdict.ACCEPTED),
        (486, Verdict.BUSY),
        (600, Verdict.BUSY),
        (603, Verdict.DECLINED),
        (408, Verdict.NO_ANSWER),
        (480, Verdict.NO_ANSWER),
        (487, Verdict.NO_ANSWER),
        (404, Verdict.FAILED),
        (503, Verdict.FAILED),
    ],
)
def test_how_a_transfer_came_out(status: int, verdict: Verdict) -> None:
    assert verdict_of(status) is verdict


class Book:
    """Of transfers, and a bridge that has nothing else."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Verdict]] = []
        self.bridge = self
        self.transfers = self
        self.tasks: list[asyncio.Task[None]] = []

    async def report(self, transfer_id: str, verdict: Verdict) -> bool:
        self.told.append((transfer_id, verdict))
        return True

    def after(self, task: asyncio.Task[None]) -> None:
        self.tasks.append(task)


@pytest.mark.parametrize(
    ("end", "verdicts"),
    [
        (SipEnd.BYE, [("t1", Verdict.ACCEPTED)]),
        (SipEnd.TIMEOUT, [("t1", Verdict.FAILED)]),
        (SipEnd.LOCAL, []),
    ],
)
async def test_what_the_end_of_the_call_says_of_a_transfer(end: SipEnd, verdicts: list[tuple[str, Verdict]]) -> None:
    book, line = Book(), line_on(Trunk("berlin"))
    following = Following(cast("Any", book), line, "t1")
    line.transfer_over = following.progress
    following.progress(TransferProgress(CALL, 202, "Accepted", is_final=False))
    assert (following.taken.result(), line.transfer_over is None) == (202, False)
    following.progress(over(end))
    await asyncio.gather(*book.tasks)
    assert book.told == verdicts
    assert line.transfer_over is None


async def test_a_call_that_ends_before_its_transfer_is_taken() -> None:
    book, line = Book(), line_on(Trunk("berlin"))
    following = Following(cast("Any", book), line, "t1")
    following.progress(over(SipEnd.BYE))
    assert (following.taken.result(), book.tasks) == (481, [])


@pytest.mark.parametrize(("status", "verdicts"), [(200, [Verdict.ACCEPTED]), (486, [Verdict.BUSY])])
async def test_what_the_trunk_tells_of_a_transfer(status: int, verdicts: list[Verdict]) -> None:
    book, line = Book(), line_on(Trunk("berlin"))
    following = Following(cast("Any", book), line, "t1")
    for each in (202, 180, status):
        following.progress(TransferProgress(CALL, each, "", is_final=each == status))
    await asyncio.gather(*book.tasks)
    assert [verdict for _, verdict in book.told] == verdicts


class _Call:
    def __init__(self, trunk: Trunk, *, is_outbound: bool = False, from_: str = CALLER) -> None:
        self.call_id = "c1"
        self.trunk = trunk
        self.is_outbound = is_outbound
        self.from_ = parse_address(from_)
        self.to = parse_address("<sip:+15550002222@bridge.example>")
        self.peer = Flow(Transport.UDP, "192.0.2.7", 5060)


def line_on(trunk: Trunk, **parts: Any) -> SipLine:
    return SipLine(cast("Any", None), cast("SipCall", _Call(trunk, **parts)), cast("Any", None), trunk.codecs[0])


def test_where_a_caller_is_sent() -> None:
    trunk = Trunk("berlin", outbound=Outbound("trunk.example"))
    assert refer_to("+15550003333", line_on(trunk)) == "sip:+15550003333@trunk.example;user=phone"
    assert refer_to("sip:alice@office.example", line_on(trunk)) == "sip:alice@office.example"
    sixes = Trunk("six", outbound=Outbound("2001:db8::7"))
    assert refer_to("+15550003333", line_on(sixes)) == "sip:+15550003333@[2001:db8::7];user=phone"
    inbound_only = Trunk("in")
    assert refer_to("+15550003333", line_on(inbound_only)) == "sip:+15550003333@pbx.example;user=phone"
    placed = line_on(inbound_only, is_outbound=True)
    assert refer_to("+15550003333", placed) == "sip:+15550003333@bridge.example;user=phone"
    by_number = line_on(inbound_only, from_="<tel:+15550001111>")
    assert refer_to("+15550003333", by_number) == "sip:+15550003333@192.0.2.7;user=phone"
    assert bracketed("[::1]") == "[::1]"


def test_what_it_can_do() -> None:
    control = SipControl(Trunks())
    assert control.transfers == {TransferKind.REFER, TransferKind.BLIND}
    assert control.tones is ToneWay.LEG
    assert control.transfers_keep_stream


async def test_before_it_runs_there_is_no_call() -> None:
    control = SipControl(Trunks())
    await control.hang_up(LINE)  # is over already
    await control.drop_human(LINE, "h1")
    await control.aclose()
    gone: list[ControlFault] = []
    for request in (
        control.play_tones(LINE, "1", None),
        control.transfer(LINE, ORDER, WHISPER),
        control.ring_human(LINE, ORDER, WHISPER),
        control.join(LINE, "h1", ORDER, WHISPER, ""),
        control.place(OutboundOrder("o1", "+15550002222", "+15550001111", 20)),
    ):
        with pytest.raises(ControlError) as caught:
            await asyncio.wait_for(request, 1.0)
        gone.append(caught.value.fault)
    assert gone == [
        ControlFault.GONE,
        ControlFault.GONE,
        ControlFault.REFUSED,
        ControlFault.REFUSED,
        ControlFault.DOWN,
    ]
