"""Metrics of SIP trunks and RTP: plain numbers that the SIP side raises, turned into samples when somebody asks.

Nothing here is called per packet: the packets of a call are counted by its media session, which is asked at a scrape
(``live``) and once more at its end (``call_over``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client.core import Metric

from bridge.server.histograms import HOP_BUCKETS_S, JITTER_BUCKETS_S, LOSS_BUCKETS, MOS_BUCKETS, HopHistogram
from bridge.server.metric_catalogue import counter, gauge, histogram, one
from bridge.server.tallies import tally

METHODS = frozenset(
    {
        "ACK", "BYE", "CANCEL", "INFO", "INVITE", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "PUBLISH", "REFER",
        "REGISTER", "SUBSCRIBE", "UPDATE",
    }
)  # fmt: skip
"""Methods that are labels as they are; anybody can invent others."""

TRANSPORTS = ("udp", "tcp", "tls")


@dataclass(slots=True)
class RtpCounts:
    """Counters of one call's RTP, as they stand now."""

    packets_in: int = 0
    packets_out: int = 0
    lost: int = 0
    """Packets that never came."""
    late: int = 0
    """Packets that came too late to be played."""
    concealed_s: float = 0.0
    """Audio made up in their place."""


@dataclass(frozen=True, slots=True)
class RtpQuality:
    """What a call was like, at its end."""

    jitter_s: float
    """Interarrival jitter (RFC 3550, section 6.4.1), mean over the call."""
    loss_ratio: float
    """Share of the expected packets that were lost or late, 0 to 1."""
    mos: float
    """Estimate by the E-model, 1 to 4.5."""


class RtpLive(Protocol):
    """A call in progress that has RTP."""

    def rtp_counts(self) -> RtpCounts:
        """Its counters as they stand now."""
        ...


class SipMetrics:
    """Metrics of the SIP side of one process; a source of ``Metrics``.

    The owner sets the callables; until then the gauges say 0.
    """

    def __init__(self) -> None:
        self.live: Callable[[], Iterable[RtpLive]] = list
        """Calls in progress."""
        self.transactions: Callable[[], int] = int
        """SIP transactions in progress."""
        self.banned: Callable[[], int] = int
        """Addresses that are shut out now."""
        self.connections: Callable[[], Mapping[str, int]] = dict
        """Open connections by transport."""
        self.ports: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """RTP ports in use, and all of them."""
        self.malformed: Callable[[], int] = int
        """What came to the ports and was no SIP."""
        self.pacing: Callable[[], HopHistogram] = lambda: HopHistogram(HOP_BUCKETS_S)
        """How late packets left after their time, those of all calls together: they have one clock."""
        self.refused = tally("bridge_sip_refused_total")
        self.bans = tally("bridge_sip_bans_total")
        self.rejected_packets = tally("bridge_rtp_rejected_packets_total")
        self._messages = tally("bridge_sip_messages_total")
        self._tallies = (self.refused, self.bans, self.rejected_packets, self._messages)
        self._ended = RtpCounts()
        self._jitter = HopHistogram(JITTER_BUCKETS_S)
        self._loss = HopHistogram(LOSS_BUCKETS)
        self._mos = HopHistogram(MOS_BUCKETS)

    def request(self, transport: str, direction: str, method: str) -> None:
        """Count a SIP request; ``direction`` is ``in`` or ``out``."""
        self._messages.labels(transport, direction, method if method in METHODS else "other").inc()

    def response(self, transport: str, direction: str, status: int) -> None:
        """Count a SIP response, by the class of its status."""
        self._messages.labels(transport, direction, f"{status // 100}xx" if 100 <= status < 700 else "other").inc()

    def call_over(self, call: RtpLive, quality: RtpQuality | None = None) -> None:
        """Take over a call's counters, once, when it is no longer among ``live``. None = it never had a packet."""
        self._ended = _added(self._ended, [call.rtp_counts()])
        if quality is not None:
            self._jitter.observe(quality.jitter_s)
            self._loss.observe(quality.loss_ratio)
            self._mos.observe(quality.mos)

    def __call__(self) -> Iterator[Metric]:
        """All samples as they stand now."""
        for each in self._tallies:
            yield each.family()
        yield from self._gauges()
        live = list(self.live())
        yield from _packets(_added(self._ended, (call.rtp_counts() for call in live)))
        for name, counted in (
            ("bridge_rtp_jitter_seconds", self._jitter),
            ("bridge_rtp_loss_ratio", self._loss),
            ("bridge_rtp_mos", self._mos),
            ("bridge_rtp_pacing_lateness_seconds", self.pacing()),
        ):
            yield histogram(name, [((), counted)])

    def _gauges(self) -> Iterator[Metric]:
        used, there_are = self.ports()
        yield one("bridge_sip_malformed_total", self.malformed())
        yield one("bridge_sip_transactions", self.transactions())
        yield one("bridge_sip_banned_addresses", self.banned())
        yield one("bridge_rtp_ports", there_are)
        yield one("bridge_rtp_ports_used", used)
        open_now = self.connections()
        yield gauge("bridge_sip_connections", [((name,), open_now.get(name, 0)) for name in TRANSPORTS[1:]])


def _added(total: RtpCounts, others: Iterable[RtpCounts]) -> RtpCounts:
    out = RtpCounts(total.packets_in, total.packets_out, total.lost, total.late, total.concealed_s)
    for other in others:
        out.packets_in += other.packets_in
        out.packets_out += other.packets_out
        out.lost += other.lost
        out.late += other.late
        out.concealed_s += other.concealed_s
    return out


def _packets(counts: RtpCounts) -> Iterator[Metric]:
    yield counter("bridge_rtp_packets_total", [(("in",), counts.packets_in), (("out",), counts.packets_out)])
    yield one("bridge_rtp_lost_packets_total", counts.lost)
    yield one("bridge_rtp_late_packets_total", counts.late)
    yield one("bridge_rtp_concealed_seconds_total", counts.concealed_s)
