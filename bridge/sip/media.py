"""One call's media: RTP and RTCP on one side, frames of 20 ms and keys on the other.

Public: ``CallMedia``; with it go ``media_options`` (``MediaOptions``, ``MediaSeeds``), ``media_events``
(``MediaEvent``) and ``media_stats`` (``MediaStats``).

It joins the parts: ``media_in`` (source, jitter buffer, concealment, noise, keys heard), ``media_out`` (queue, keys
sent, numbering) and ``rtcp_session``. What it is not: sockets and clocks (``bridge.server.sip.media_engine``), or
signalling: the owner says what was agreed (``agree``) and that the call was answered (``answer``).

Rules that it keeps:

* Its audio has one encoding for the whole call (``encoding``). Peers that agree on the other law, by a re-INVITE or by
  using another payload type that was offered, are converted on the wire's side.
* Until ``answer`` nothing is sent: early media is heard, never talked to, and a packet of ours would silence the
  ringing tone of some callers. From then on a packet goes out at every tick, silence if there is nothing else, also
  before any has come: carriers that wait for our first packet learn our address so.
* On hold (the peer does not listen) nothing is sent, while queued audio goes by as it would on any line, and its marks
  are reached. What the peer sends meanwhile is music: it is not passed on. ``hear`` gives silence instead, so that the
  agent's turn detection keeps running. Time-outs rest.

Pure: times are arguments, monotonic seconds of one clock. Not thread-safe. The order of calls in each tick is up to
the owner; ``speak`` before ``hear`` makes the packets the more punctual.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.media.format import Encoding, MediaFormat
from bridge.sip.jitter import FRAME
from bridge.sip.media_clock import Tick
from bridge.sip.media_events import MediaEvent, MediaLost
from bridge.sip.media_in import MediaIn
from bridge.sip.media_options import MediaOptions, MediaSeeds
from bridge.sip.media_out import MediaOut
from bridge.sip.media_stats import MediaStats
from bridge.sip.media_target import media_target
from bridge.sip.offer_answer import Agreement
from bridge.sip.rtcp_session import RtcpSession
from bridge.sip.rtp import RtpSender
from bridge.sip.rtp_source import Address


class CallMedia:
    """The media of one call."""

    __slots__ = (
        "_agreement",
        "_answered_at",
        "_has_early_audio",
        "_in",
        "_is_held",
        "_is_lost",
        "_latched",
        "_may_send",
        "_options",
        "_out",
        "_peer_host",
        "_rtcp",
        "_rtcp_source",
        "_sender",
        "_silence",
        "_target",
        "_unix_offset_s",
        "_watched_from",
        "destination",
        "encoding",
        "events",
    )

    def __init__(
        self,
        options: MediaOptions,
        seeds: MediaSeeds,
        agreement: Agreement,
        now: float,
        *,
        encoding: Encoding | None = None,
        peer_host: str = "",
        stale: Mapping[int, int] | None = None,
        kin: frozenset[str] = frozenset(),
    ) -> None:
        """``agreement`` may be early media's; ``answer`` says when it is more than that. ``encoding`` is ULAW or ALAW;
        ``None`` = the agreement's.

        ``peer_host`` is the literal address that signalling comes from; ``kin`` are more hosts that may well send for
        the peer. ``stale`` comes with the ports (``PortPair.stale``): streams of their call before.
        """
        self._options = options
        self._peer_host = peer_host
        self.encoding: Encoding = encoding or agreement.encoding
        """Of all frames in and out of this object, for the whole call, whatever is agreed: ULAW or ALAW, at 8 kHz."""
        self.events: list[MediaEvent] = []
        """What has happened since the last ``drain_events``; for a look whether there is anything."""
        self.destination: Address | None = None
        """Where RTP goes; ``None`` = nowhere yet."""
        self._silence = MediaFormat(self.encoding, 8000).silence(FRAME)
        self._unix_offset_s = seeds.unix_offset_s
        self._agreement = agreement
        self._answered_at: float | None = None
        self._watched_from = now
        self._is_lost = False
        self._target = media_target(agreement.remote, peer_host)
        self._rtcp_source: Address | None = None
        hosts = kin | {peer_host} if peer_host else kin
        self._in = MediaIn(
            options, self.encoding, agreement, self._target, hosts, stale, seeds.noise_start, self.events
        )
        self._sender = RtpSender(seeds.ssrc, seeds.sequence, seeds.timestamp)
        self._out = MediaOut(options, self.encoding, agreement, self._sender, self.events)
        self._rtcp = RtcpSession(self._sender, self._in.receiver, seeds.cname, now, seeds.draw)
        self._latched: Address | None = None
        self._is_held = self._may_send = False
        self._settle()

    # --- signalling's side ---

    def agree(self, agreement: Agreement, now: float) -> None:
        """A new agreement holds: early media's answer, re-INVITE, UPDATE, hold, resume."""
        if agreement.expects_media and not self._agreement.expects_media:
            self._watched_from = now
        self._agreement = agreement
        self._target = media_target(agreement.remote, self._peer_host)
        self._in.agree(agreement, self._target)
        self._out.agree(agreement)
        self._settle()

    def answer(self, now: float) -> None:
        """The call is answered: talk from now on, and expect packets. Idempotent."""
        if self._answered_at is None:
            self._answered_at = now
            self._watched_from = now
            self._settle()

    @property
    def is_held(self) -> bool:
        """Whether the peer does not listen to us."""
        return self._is_held

    @property
    def is_rtcp_muxed(self) -> bool:
        """Whether RTCP comes and goes on the RTP port."""
        return self._agreement.is_rtcp_muxed

    # --- the network's side ---

    def receive(self, datagram: bytes, source: Address, now: float) -> None:
        """Take a datagram from the RTP port; ``now`` is when it came. Never raises on what comes.

        Where ``is_rtcp_muxed`` the caller gives those that ``looks_like_rtcp`` to ``receive_rtcp``.
        """
        self._in.receive(datagram, source, now)
        if self._in.latch.source is not self._latched:
            self._settle()

    def receive_rtcp(self, datagram: bytes, source: Address, now: float) -> None:
        """Take an RTCP datagram; dropped unless it comes from the host that RTP comes from."""
        if self.destination is None or source[0] != self.destination[0]:
            return
        self._rtcp_source = source
        self._rtcp.receive(datagram, now, now + self._unix_offset_s)

    def speak(self, tick: Tick) -> bytes | None:
        """The RTP packet to send at this tick, to ``destination``; ``None`` = nothing goes out. Once per tick.

        Timestamps follow the tick's number, so ticks that are left out leave a gap in them and nothing else.
        """
        if self._answered_at is None:
            return None
        return self._out.speak(tick.number, self._may_send)

    # --- the agent's side ---

    def hear(self, tick: Tick) -> bytes | None:
        """The caller's 20 ms of this tick: 160 bytes in ``encoding``. Once per tick, after ``receive``.

        From the answer on there is always a frame: audio, concealment, comfort noise, or silence while nothing comes
        and on hold. Before it there are frames as long as the peer sends early media, otherwise ``None``.
        """
        frame = self._in.hear(tick.due_s)
        if self._is_held or frame is None:
            return None if self._answered_at is None else self._silence
        return frame

    def play(self, payload: bytes) -> None:
        """Queue audio in ``encoding``, of any size. What does not fit into the queue is dropped and counted."""
        self._out.play(payload)

    def mark(self, name: str) -> None:
        """Report with ``MarkReached`` when all that was queued before has been sent."""
        self._out.mark(name)

    def flush(self) -> None:
        """Drop what is queued, at once. Pending marks are reported as reached. Keys go on."""
        self._out.flush()

    def send_digits(self, digits: str) -> None:
        """Send keys from the next tick on (``0-9 * # A-D``, ``w`` 0.5 s and ``W`` 1 s of pause), in place of audio,
        which waits (with INFO it goes on). ``DigitsSent`` says when they are through.

        Raises ``LocalError`` for any other text, or when too many of them wait already.
        """
        self._out.send_digits(digits)

    @property
    def queued_ms(self) -> float:
        """How much audio waits to be sent."""
        return self._out.queued_bytes / 8

    def drain_events(self) -> list[MediaEvent]:
        """Take what has happened, in order."""
        events = self.events.copy()
        self.events.clear()
        return events

    # --- about once a second ---

    def check(self, now: float) -> None:
        """Look for the time-out of incoming media; ``MediaLost`` is among the events then."""
        if self._answered_at is None or not self._agreement.expects_media:
            return
        heard_at = self._in.receiver.last_arrival
        since = self._watched_from if heard_at is None else max(self._watched_from, heard_at)
        options = self._options
        limit_s = options.first_media_timeout_s if heard_at is None else options.media_timeout_s
        is_lost = now - since >= limit_s
        if is_lost and not self._is_lost:
            self.events.append(MediaLost(now - since, heard_at is not None))
        self._is_lost = is_lost

    def watch_anew(self, now: float) -> None:
        """Let the time-out of incoming media begin again: the peer has a reason for its silence."""
        self._watched_from, self._is_lost = now, False

    @property
    def next_report_s(self) -> float:
        """When ``report`` is to be called next."""
        return self._rtcp.next_due_s

    @property
    def rtcp_destination(self) -> Address | None:
        """Where RTCP goes; ``None`` = nowhere (yet).

        The port where the peer's RTCP comes from, or the one that its description names; the host is always RTP's.
        """
        destination, remote = self.destination, self._agreement.remote_rtcp
        if destination is None or self._answered_at is None:
            return None
        if self._agreement.is_rtcp_muxed:
            return destination
        if self._rtcp_source is not None and self._rtcp_source[0] == destination[0]:
            return self._rtcp_source
        return None if remote is None else (destination[0], remote[1])

    def report(self, now: float, draw: float) -> bytes:
        """The RTCP report to send now, to ``rtcp_destination``; ``draw`` is random in [0, 1)."""
        return self._rtcp.report(now, now + self._unix_offset_s, draw)

    def bye(self, now: float) -> bytes:
        """The RTCP datagram that ends our stream."""
        return self._rtcp.bye(now, now + self._unix_offset_s)

    # --- at the end, and in between ---

    @property
    def last_heard(self) -> Mapping[int, int]:
        """What the ports' next call is to take for stale: SSRC and last sequence number of the stream."""
        last = self._in.receiver.last_heard
        return {} if last is None else {last[0]: last[1]}

    def stats(self) -> MediaStats:
        """The figures as they stand."""
        receiver, jitter, rtcp = self._in.receiver, self._in.jitter, self._rtcp
        totals, view = receiver.totals, rtcp.peer_view
        return MediaStats(
            packets_received=totals.received,
            packets_expected=totals.expected,
            packets_late=jitter.counts.late,
            packets_reordered=totals.reordered,
            packets_duplicate=totals.duplicates,
            packets_refused=receiver.latch.strangers,
            packets_unexpected=receiver.unexpected,
            packets_malformed=receiver.malformed,
            frames_concealed=jitter.counts.concealed,
            jitter_ms=receiver.statistics.jitter_ms if receiver.statistics else 0.0,
            buffer_ms=jitter.target_ms,
            relearns=receiver.latch.relearns,
            packets_sent=self._sender.packets,
            bytes_sent=self._sender.octets,
            queue_dropped_bytes=self._out.dropped_bytes,
            round_trip_ms=None if rtcp.round_trip_s is None else rtcp.round_trip_s * 1000,
            peer_loss=view.fraction_lost if view else None,
            peer_jitter_ms=view.jitter_ms if view else None,
        )

    # --- private ---

    def _settle(self) -> None:
        """Work out anew what every tick must know: where packets go, and whether any do."""
        latch = self._in.latch
        self._latched = latch.source
        self.destination = latch.destination
        self._is_held = self._answered_at is not None and self._agreement.is_held_by_peer
        self._may_send = self._agreement.may_send and self.destination is not None
