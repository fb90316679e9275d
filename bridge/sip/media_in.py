"""The incoming half of a call's media: datagrams in, a frame at each tick out, and the keys that were pressed.

Public: ``MediaIn``, ``converter``. Part of ``media.CallMedia``, which says what it is for.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bridge.media.format import Encoding, MediaFormat
from bridge.media.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm
from bridge.media.inband import InbandDtmf
from bridge.sip.comfort_noise import ComfortNoise
from bridge.sip.concealment import Concealer
from bridge.sip.jitter import FRAME, Gap, JitterBuffer
from bridge.sip.media_events import FirstMedia, KeyHeard, MediaEvent
from bridge.sip.media_options import MediaOptions
from bridge.sip.offer_answer import Agreement
from bridge.sip.rtp import RtpPacket
from bridge.sip.rtp_receiver import ReceiverOptions, RtpReceiver
from bridge.sip.rtp_source import Address, SourceLatch
from bridge.sip.telephone_event import Digit, EventReceiver

_CODES = bytes(range(256))
_CONVERTERS = {
    (Encoding.ULAW, Encoding.ALAW): pcm_to_alaw(ulaw_to_pcm(_CODES)),
    (Encoding.ALAW, Encoding.ULAW): pcm_to_ulaw(alaw_to_pcm(_CODES)),
}


def converter(source: Encoding, target: Encoding) -> bytes | None:
    """A table for ``bytes.translate`` from one G.711 law to the other; ``None`` if they are the same."""
    return _CONVERTERS.get((source, target))


class MediaIn:
    """One call's incoming media."""

    __slots__ = (
        "_concealer",
        "_converted",
        "_detector",
        "_encoding",
        "_event_types",
        "_events",
        "_generation",
        "_has_begun",
        "_has_had_events",
        "_noise",
        "_plain_types",
        "_report",
        "_silence",
        "jitter",
        "latch",
        "receiver",
    )

    def __init__(
        self,
        options: MediaOptions,
        encoding: Encoding,
        agreement: Agreement,
        target: Address | None,
        kin: frozenset[str],
        stale: Mapping[int, int] | None,
        noise_start: int,
        report: list[MediaEvent],
    ) -> None:
        """``encoding`` is that of the frames that come out, ``target`` where the peer is taken to be.

        What happens is appended to ``report``.
        """
        self._encoding = encoding
        self._report = report
        self.latch = SourceLatch(options.latch, target, stale, kin)
        self.receiver = RtpReceiver(_receiver_options(agreement), self.latch)
        self.jitter = JitterBuffer(options.jitter, encoding)
        self._concealer = Concealer(encoding)
        self._noise = ComfortNoise(encoding, noise_start)
        self._events = EventReceiver()
        self._detector = InbandDtmf(MediaFormat(encoding, 8000)) if options.has_inband_detection else None
        self._silence = MediaFormat(encoding, 8000).silence(FRAME)
        self._generation = 0
        self._has_begun = False
        self._has_had_events = False
        self._settle(agreement)

    def agree(self, agreement: Agreement, target: Address | None) -> None:
        """A new agreement holds."""
        self.receiver.renegotiated(_receiver_options(agreement))
        self.latch.expect(target)
        self._settle(agreement)

    def receive(self, datagram: bytes, source: Address, now: float) -> None:
        """Take a datagram. Never raises on what comes."""
        packet = self.receiver.receive(datagram, source, now)
        if packet is None:
            return
        if self.receiver.generation != self._generation:
            self._begin_anew()
        if packet.payload_type in self._plain_types:
            self.jitter.push(packet, now)
        else:
            self._route(packet, now)
        if not self._has_begun:
            self._has_begun = True
            self._report.append(FirstMedia())

    def hear(self, now: float) -> bytes | None:
        """The frame of this tick, 160 bytes; ``None`` while nothing comes: before the first packet, and in pauses."""
        if self._events.is_pressed:
            self._pressed(self._events.tick(now))
        frame = self.jitter.pop(now)
        if isinstance(frame, bytes):
            heard = self._concealer.good(frame)
        elif frame is Gap.LOST:
            heard = self._concealer.conceal()
        else:
            self._concealer.pause()
            if frame is Gap.PAUSE:
                if self._detector is not None:
                    self._listen(self._silence, now)  # a tone right before the pause is over
                return None
            heard = self._noise.frame(self.jitter.noise)
        if self._detector is not None:
            self._listen(heard, now)
        return heard

    # --- private ---

    def _settle(self, agreement: Agreement) -> None:
        types, encoding = agreement.receive_types, self._encoding
        self._event_types = agreement.event_receive_types
        self._plain_types = frozenset(number for number, law in types.items() if law is encoding)
        self._converted = {number: table for number, law in types.items() if (table := converter(law, encoding))}

    def _begin_anew(self) -> None:
        """Another stream: what was learnt of the one before does not hold."""
        self._generation = self.receiver.generation
        self.jitter.reset()
        self._concealer.pause()

    def _route(self, packet: RtpPacket, now: float) -> None:
        """Everything but audio in the call's own law."""
        table = self._converted.get(packet.payload_type)
        if table is not None:
            self.jitter.push(msgspec.structs.replace(packet, payload=packet.payload.translate(table)), now)
        elif packet.payload_type in self._event_types:
            self._take_event(packet, now)
        else:
            self.jitter.push_noise(packet, now)

    def _take_event(self, packet: RtpPacket, now: float) -> None:
        events = self._events
        self._has_had_events = True
        was_pressed = events.is_pressed
        self._pressed(events.receive(packet.timestamp, packet.payload, packet.marker, now))
        if events.is_pressed and not was_pressed:
            # The sender leaves its audio out meanwhile: silence, not loss.
            self.jitter.push_noise(msgspec.structs.replace(packet, payload=b""), now)

    def _pressed(self, digits: list[Digit]) -> None:
        for digit in digits:
            self._report.append(KeyHeard(digit))

    def _listen(self, frame: bytes, now: float) -> None:
        assert self._detector is not None  # the caller has looked
        for tone in self._detector.feed(frame, now):
            if tone.is_over and not self._has_had_events:
                self._report.append(KeyHeard(Digit(tone.digit, int(tone.duration_s * 1000)), is_inband=True))


def _receiver_options(agreement: Agreement) -> ReceiverOptions:
    return ReceiverOptions(agreement.audio_receive_types, agreement.event_receive_types)
