"""SIP messages on their way: counted, and kept for their call until its last answers have come."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bridge.server.metrics_sip import SipMetrics
from bridge.server.sip import message_trail
from bridge.server.sip.line import SipLine
from bridge.server.sip.message_trail import MessageTrail
from bridge.sip.flow import Flow, Outgoing, Transport
from bridge.sip.framing import parse_datagram
from bridge.sip.message import Message
from bridge.sip.message_log import SipTrace
from tests.kit.server import until

FLOW = Flow(Transport.UDP, "192.0.2.7", 5060)
CALL_ID = "a84b4c76e66710"
INVITE = (
    b"INVITE sip:+15550199@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1\r\n"
    b"From: <sip:+15550100@192.0.2.7>;tag=1\r\nTo: <sip:+15550199@192.0.2.1>\r\nCall-ID: a84b4c76e66710\r\n"
    b"CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
)
OK = b"SIP/2.0 200 OK" + INVITE[INVITE.index(b"\r\nVia") :]


class Sink:
    def __init__(self) -> None:
        self.kept: list[tuple[str, int, bool]] = []

    def put(self, call_id: str, trace: SipTrace, *, failed: bool) -> None:
        self.kept.append((call_id, len(trace.messages), failed))


class Line:
    def __init__(self, bridge_call_id: str = "ours") -> None:
        self.call = self
        self.call_id = CALL_ID
        self.bridge_call_id = bridge_call_id


def line(bridge_call_id: str = "ours") -> SipLine:
    return cast("SipLine", Line(bridge_call_id))


def message(data: bytes) -> Message:
    parsed = parse_datagram(data)
    assert parsed is not None
    return parsed


def counted(metrics: SipMetrics) -> dict[tuple[str, ...], float]:
    (family,) = [family for family in metrics() if family.name == "bridge_sip_messages"]
    return {tuple(sample.labels.values()): sample.value for sample in family.samples if sample.value}


def trail(sink: Any, metrics: SipMetrics | None = None) -> MessageTrail:
    return MessageTrail(metrics or SipMetrics(), sink, unix=lambda: 1_700_000_000.0)


def test_messages_are_counted_by_transport_direction_and_kind() -> None:
    metrics = SipMetrics()
    noted = trail(None, metrics)
    noted.received(message(INVITE), FLOW)
    noted.received(message(OK), FLOW)
    noted.sent(Outgoing(OK, FLOW))
    noted.sent(Outgoing(b"BYE sip:x@192.0.2.7 SIP/2.0\r\n\r\n", FLOW))
    noted.sent(Outgoing(b"INVENTED sip:x@192.0.2.7 SIP/2.0\r\n\r\n", FLOW))
    assert counted(metrics) == {
        ("udp", "in", "INVITE"): 1.0,
        ("udp", "in", "2xx"): 1.0,
        ("udp", "out", "2xx"): 1.0,
        ("udp", "out", "BYE"): 1.0,
        ("udp", "out", "other"): 1.0,
    }
    assert noted.live(CALL_ID) is None, "nothing is kept"


async def test_a_log_is_live_and_then_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_trail, "SETTLE_S", 0.01)
    sink = Sink()
    noted = trail(sink)
    noted.received(message(INVITE), FLOW)
    noted.begin(CALL_ID)
    noted.sent(Outgoing(OK, FLOW))
    live = noted.live(CALL_ID)
    assert live is not None
    assert [(entry.sent, entry.at, entry.peer) for entry in live.messages] == [
        (False, 1_700_000_000.0, "192.0.2.7:5060"),
        (True, 1_700_000_000.0, "192.0.2.7:5060"),
    ]
    noted.over(line(), failed=True)
    assert sink.kept == [], "a BYE's answer may still come"
    await until(lambda: sink.kept)
    assert sink.kept == [("ours", 2, True)]
    assert noted.live(CALL_ID) is None
    assert noted.settling("ours") is None


async def test_what_settles_is_kept_when_it_closes() -> None:
    sink = Sink()
    noted = trail(sink)
    noted.received(message(INVITE), FLOW)
    noted.begin(CALL_ID)
    noted.over(line(), failed=False)
    settling = noted.settling("ours")
    assert settling is not None
    assert len(settling.messages) == 1
    await noted.close()
    assert sink.kept == [("ours", 1, False)]
    await noted.close()
    assert len(sink.kept) == 1


async def test_a_call_that_never_was_one_of_ours_leaves_nothing() -> None:
    sink = Sink()
    noted = trail(sink)
    noted.received(message(INVITE), FLOW)
    noted.begin(CALL_ID)
    noted.over(line(""), failed=True)
    await noted.close()
    assert sink.kept == []
    without = trail(None)
    without.begin(CALL_ID)
    without.over(line(), failed=True)
    await without.close()
