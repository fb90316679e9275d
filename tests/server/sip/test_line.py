"""The line of a SIP call: orders in, notices out, and media that open and close with the dialog."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from bridge.media.format import Encoding
from bridge.server.sip.line import NORMAL_CLEARING, TEMPORARY_FAILURE, SipLine
from bridge.server.sip.media_engine import MediaHandle
from bridge.server.sip.media_ports import PortPair
from bridge.sip import media_events as media
from bridge.sip.call import SipCall
from bridge.sip.media_stats import MediaStats
from bridge.sip.offer_answer import Agreement
from bridge.sip.sdp import AddressKind, Direction
from bridge.sip.telephone_event import Digit
from bridge.sip.ua_events import (
    CallAnswered,
    CallConfirmed,
    CallOver,
    EarlyMedia,
    InfoDigit,
    MediaChanged,
    SipEnd,
    TransferProgress,
)

PAIR = cast("PortPair", object())
FRAME = bytes(range(160))
STATS = MediaStats(
    packets_received=98,
    packets_expected=100,
    packets_late=0,
    packets_reordered=0,
    packets_duplicate=0,
    packets_refused=0,
    packets_unexpected=0,
    packets_malformed=0,
    frames_concealed=2,
    jitter_ms=1.5,
    buffer_ms=40.0,
    relearns=0,
    packets_sent=100,
    bytes_sent=16_000,
    queue_dropped_bytes=0,
    round_trip_ms=None,
    peer_loss=None,
    peer_jitter_ms=None,
)


def agreement(encoding: Encoding = Encoding.ULAW, direction: Direction = Direction.SENDRECV) -> Agreement:
    return Agreement(
        encoding=encoding,
        payload_type=0,
        receive_types={0: encoding},
        event_type=101,
        event_receive_types=frozenset({101}),
        noise_types=frozenset(),
        remote=("127.0.0.1", 4000),
        remote_rtcp=("127.0.0.1", 4001),
        remote_kind=AddressKind.LOOPBACK,
        is_rtcp_muxed=False,
        direction=direction,
        peer_ptime_ms=20,
        peer_max_ptime_ms=None,
    )


@dataclass
class FakeTrunk:
    name: str = "berlin"


@dataclass
class FakeCall:
    """Writes down what it is told to do."""

    call_id: str = "c1@peer"
    is_outbound: bool = False
    is_answered: bool = False
    trunk: FakeTrunk = field(default_factory=FakeTrunk)
    done: list[str] = field(default_factory=list)

    def ring(self, now: float, status: int = 180) -> None:
        self.done.append(f"ring {status}")

    def answer(self, now: float) -> None:
        self.is_answered = True
        self.done.append("answer")

    def reject(self, status: int, now: float, *, retry_after_s: int | None = None) -> None:
        self.done.append(f"reject {status} {retry_after_s}")

    def hang_up(self, now: float, *, reason_header: str = "") -> None:
        self.done.append(f"hang up {reason_header}")

    def send_info(self, content_type: str, body: bytes, now: float) -> None:
        self.done.append(f"{content_type} {body!r}")


@dataclass
class FakeMedia:
    encoding: Encoding
    done: list[str] = field(default_factory=list)
    played: bytes = b""

    def play(self, payload: bytes) -> None:
        self.played += payload

    def mark(self, name: str) -> None:
        self.done.append(f"mark {name}")

    def flush(self) -> None:
        self.done.append("flush")

    def send_digits(self, digits: str) -> None:
        self.done.append(f"digits {digits}")

    def agree(self, agreed: Agreement, now: float) -> None:
        self.done.append(f"agree {agreed.direction.value}")

    def answer(self, now: float) -> None:
        self.done.append("answer")

    def watch_anew(self, now: float) -> None:
        self.done.append("watch anew")

    def stats(self) -> MediaStats:
        return STATS


@dataclass
class FakeHandle:
    media: FakeMedia
    closed: int = 0

    def close(self) -> None:
        self.closed += 1


class FakeDesk:
    def __init__(self) -> None:
        self.wakes = 0
        self.freed: list[PortPair] = []
        self.over: list[CallOver] = []
        self.handle: FakeHandle | None = None

    def wake(self) -> None:
        self.wakes += 1

    def open_media(self, line: SipLine, pair: PortPair, agreed: Agreement) -> MediaHandle:
        self.handle = FakeHandle(FakeMedia(agreed.encoding))
        return cast("MediaHandle", self.handle)

    def free(self, pair: PortPair) -> None:
        self.freed.append(pair)

    def line_over(self, line: SipLine, over: CallOver) -> None:
        self.over.append(over)


@dataclass
class Owner:
    heard: list[Any] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    opened: int = 0

    def on_open(self, socket: object) -> None:
        self.opened += 1

    def on_message(self, message: str | bytes) -> None:
        self.heard.append(json.loads(message) if isinstance(message, str) else message)

    def on_lost(self, code: int, words: str) -> None:
        self.lost.append(code)

    def on_writable(self, writable: bool) -> None:
        raise AssertionError("a line is never stuck")


@dataclass
class Table:
    desk: FakeDesk
    call: FakeCall
    line: SipLine
    owner: Owner

    @property
    def media(self) -> FakeMedia:
        assert self.desk.handle is not None
        return self.desk.handle.media

    @property
    def sip(self) -> SipCall:
        return cast("SipCall", self.call)


def table(*, outbound: bool = False) -> Table:
    desk, call, owner = FakeDesk(), FakeCall(is_outbound=outbound), Owner()
    line = SipLine(desk, cast("SipCall", call), PAIR, Encoding.ULAW)
    line.hand_over(owner)
    return Table(desk, call, line, owner)


def talking() -> Table:
    made = table()
    made.line.send_text('{"order":"pick_up"}')
    made.line.on_dialog(CallAnswered(made.sip, agreement()))
    made.call.done.clear()
    return made


def test_it_rings_and_is_answered() -> None:
    made = table()
    assert made.owner.opened == 1
    made.line.send_text('{"order":"ring"}')
    made.line.send_text('{"order":"pick_up"}')
    assert made.call.done == ["ring 180", "answer"]
    assert made.desk.wakes == 2
    assert made.desk.handle is None, "nothing is agreed"
    made.line.on_dialog(CallAnswered(made.sip, agreement()))
    made.line.on_dialog(CallConfirmed(made.sip))
    assert made.media.done == ["answer"]


def test_audio_marks_and_keys_go_to_the_media_in_order() -> None:
    made = talking()
    made.line.send_binary(FRAME)
    for order in ('{"order":"mark","mark":"m1"}', '{"order":"clear"}', '{"order":"press","digits":"1w2"}'):
        made.line.send_text(order)
    assert made.media.played == FRAME
    assert made.media.done == ["answer", "mark m1", "flush", "digits 1w2"]


def test_what_the_media_tell_reaches_the_session() -> None:
    made = talking()
    made.line.on_frame(FRAME)
    made.line.on_media_event(media.MarkReached("m1"))
    made.line.on_media_event(media.KeyHeard(Digit("5", 120)))
    made.line.on_media_event(media.FirstMedia())
    made.line.on_media_event(media.DigitsSent())
    made.line.on_media_event(media.DigitsSent(is_complete=False))
    made.line.on_dialog(InfoDigit(made.sip, "#", 250))
    assert made.owner.heard == [
        FRAME,
        {"event": "played", "mark": "m1"},
        {"event": "dtmf", "digit": "5", "duration_ms": 120},
        {"event": "dtmf", "digit": "#", "duration_ms": 250},
    ]


def test_keys_in_info() -> None:
    made = talking()
    made.line.on_media_event(media.SendInfo(Digit("9", 160)))
    assert made.call.done == ["application/dtmf-relay b'Signal=9\\r\\nDuration=160\\r\\n'"]


def test_media_that_break_end_the_call() -> None:
    made = talking()
    made.line.on_media_event(media.MediaBroken())
    assert made.owner.heard[0]["how"] == "media_broken"
    assert made.call.done == [f"hang up {TEMPORARY_FAILURE}"]


def test_hold_and_resume_are_told_once_each() -> None:
    made = talking()
    held = agreement(direction=Direction.RECVONLY)
    for agreed in (held, held, agreement(), agreement()):
        made.line.on_dialog(MediaChanged(made.sip, agreed))
        made.line.on_frame(FRAME)
    assert made.owner.heard == [{"event": "held"}, {"event": "unheld"}, FRAME, FRAME]
    assert made.media.done[1:] == ["agree recvonly", "agree recvonly", "agree sendrecv", "agree sendrecv"]


def test_a_call_that_begins_on_hold() -> None:
    made = table()
    made.line.on_dialog(CallAnswered(made.sip, agreement(direction=Direction.INACTIVE)))
    assert made.owner.heard == [{"event": "held"}]


def test_early_media_are_opened_and_not_answered() -> None:
    made = table(outbound=True)
    made.line.on_dialog(EarlyMedia(made.sip, agreement(), 183))
    assert made.media.done == []
    made.line.on_dialog(CallAnswered(made.sip, agreement()))
    assert made.media.done == ["agree sendrecv", "answer"]
    made.line.send_text('{"order":"pick_up"}')
    assert made.call.done == [], "it is answered already"


@pytest.mark.parametrize(
    ("answered", "outbound", "order", "done"),
    [
        (False, False, '{"order":"end","status":486,"retry_after_s":0}', "reject 486 None"),
        (False, False, '{"order":"end","status":503,"retry_after_s":10}', "reject 503 10"),
        (True, False, '{"order":"end","status":480,"cause":"success/agent_hangup"}', f"hang up {NORMAL_CLEARING}"),
        (True, False, '{"order":"end","status":500,"cause":"server_error/bug"}', f"hang up {TEMPORARY_FAILURE}"),
        (False, True, '{"order":"end","status":480,"cause":"success/x"}', f"hang up {NORMAL_CLEARING}"),
    ],
)
def test_our_end(answered: bool, outbound: bool, order: str, done: str) -> None:
    made = table(outbound=outbound)
    made.call.is_answered = answered
    made.line.send_text(order)
    assert made.call.done == [done]


async def test_the_sessions_good_bye_frees_everything_and_is_confirmed_later() -> None:
    made = talking()
    made.line.close(1000, "")
    assert made.owner.lost == [], "not from within its own step"
    await asyncio.sleep(0)
    assert made.owner.lost == [1000]
    assert made.desk.handle is not None
    assert made.desk.handle.closed == 1
    made.line.on_frame(FRAME)
    assert made.owner.heard == []
    unopened = table()
    unopened.line.cut()
    await asyncio.sleep(0)
    assert unopened.desk.freed == [PAIR]


def test_the_peers_end() -> None:
    made = talking()
    made.line.on_dialog(CallOver(made.sip, SipEnd.BYE, 0, "", by_peer=True))
    assert made.owner.heard == [{"event": "over", "how": "bye", "detail": "bye"}]
    assert made.desk.handle is not None
    assert made.desk.handle.closed == 1
    assert len(made.desk.over) == 1
    assert made.line.is_over
    made.line.hang_up()
    made.line.send_text('{"order":"end","status":480}')
    assert made.call.done == [], "it is over"


def test_a_call_that_failed_before_there_were_media() -> None:
    made = table()
    made.line.on_dialog(CallOver(made.sip, SipEnd.FAILED, 486, "Busy Here", by_peer=True))
    assert made.owner.heard == [{"event": "over", "how": "failed", "detail": "failed 486"}]
    assert made.desk.freed == [PAIR]


def test_our_own_end_is_no_news() -> None:
    made = talking()
    made.line.on_dialog(CallOver(made.sip, SipEnd.LOCAL, 0, "", by_peer=False))
    assert made.owner.heard == []


def test_a_line_without_packets_is_given_up() -> None:
    made = talking()
    made.line.on_media_event(media.MediaLost(30.2, has_begun=True))
    assert made.owner.heard == [{"event": "over", "how": "no_media", "detail": "no RTP for 30 s"}]
    assert made.call.done == [f"hang up {TEMPORARY_FAILURE}"]


def test_what_comes_before_the_media_waits_for_them() -> None:
    made = table()
    made.line.send_binary(FRAME)
    made.line.send_text('{"order":"mark","mark":"m1"}')
    made.line.send_text('{"order":"press","digits":"1"}')
    made.line.on_dialog(CallAnswered(made.sip, agreement()))
    assert made.media.played == FRAME
    assert made.media.done == ["mark m1", "digits 1", "answer"]


async def test_an_interruption_before_the_media() -> None:
    made = table()
    made.line.send_binary(FRAME)
    made.line.send_text('{"order":"mark","mark":"m1"}')
    made.line.send_text('{"order":"press","digits":"1"}')
    made.line.send_text('{"order":"clear"}')
    assert made.owner.heard == []
    await asyncio.sleep(0)
    assert made.owner.heard == [{"event": "played", "mark": "m1"}]
    made.line.on_dialog(CallAnswered(made.sip, agreement()))
    assert (made.media.played, made.media.done) == (b"", ["digits 1", "answer"])


async def test_marks_without_media_come_back_all_the_same() -> None:
    made = table()
    made.line.close()
    made.line.hand_over(made.owner)  # whoever still waits
    made.line.send_binary(FRAME)
    made.line.send_text('{"order":"mark","mark":"m1"}')
    await asyncio.sleep(0)
    assert made.owner.heard == [{"event": "played", "mark": "m1"}]


def test_whoever_waits_for_a_transfer_hears_of_it_and_of_the_end() -> None:
    made = talking()
    seen: list[object] = []
    made.line.transfer_over = seen.append
    progress = TransferProgress(made.sip, 202, "Accepted", is_final=False)
    over = CallOver(made.sip, SipEnd.BYE, 0, "", by_peer=True)
    made.line.on_dialog(progress)
    made.line.on_dialog(over)
    assert seen == [progress, over]
    made.line.transfer_over = None
    made.line.on_dialog(progress)


def test_a_caller_who_is_being_transferred_may_be_silent() -> None:
    made = talking()
    made.line.transfer_over = lambda event: None
    made.line.on_media_event(media.MediaLost(30.0, has_begun=True))
    assert (made.owner.heard, made.call.done, made.media.done[-1]) == ([], [], "watch anew")
    made.line.transfer_over = None
    made.line.on_media_event(media.MediaLost(30.0, has_begun=True))
    assert made.call.done == [f"hang up {TEMPORARY_FAILURE}"]


def test_figures_for_the_record() -> None:
    assert table().line.figures() == {}
    figures = talking().line.figures()
    assert (figures["packets_expected"], figures["loss"], figures["jitter_ms"]) == (100, 0.02, 1.5)
    mos = figures["mos"]
    assert mos is not None
    assert 3.0 < mos < 4.5
