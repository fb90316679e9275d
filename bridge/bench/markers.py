"""Marked audio for conversion: silence with short loud bursts that survive mu-law and resampling.

Bytes do not survive a change of codec and rate, so the number is in the sound. Every 500 ms there is a burst of
40 ms; its pitch, one of eight, is its number modulo eight (counted back from its zero crossings), so bursts that
are lost, repeated or out of order show within four seconds. Sample counts show what is missing in between.

Latency of a burst = arrival of the message that holds its first loud sample - send time of the message that
held it when it left + delay inside the signal. The last is how far the onset has moved against the 20 ms grid
on which it was sent: a filter of 2 ms shifts the onset by 2 ms while the messages keep their times, and a
listener hears that shift as delay too. It is known modulo 20 ms and taken as lying in -10..+10 ms.

The bench has its own mu-law tables (ITU-T G.711, table 2) so that it does not judge the bridge by the bridge's
own codec. Pure: no clock, no sockets.
"""

from __future__ import annotations

import binascii
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.bench.figures import LatencyLog, PathTally

Samples = npt.NDArray[np.int16]

BURST_EVERY_MS = 500
BURST_MS = 40
GRID_MS = 20
CODES = 8
LOWEST_HZ = 400
STEP_HZ = 200
"""Eight pitches from 400 to 1800 Hz: inside every telephone filter, and 14 zero crossings apart."""

AMPLITUDE = 16_000
THRESHOLD = 4_000
"""A quarter of the burst: above any ringing of a filter before the onset, and far above noise."""

_LISTEN_MS = 36
"""How much of a burst is counted for its pitch; a little less than all, so that a shifted end does no harm."""

_DEAF_MS = 20
"""After the counted part, how long the end of the burst and its ringing are ignored."""

STALE_MS = 200
"""A fragment of a burst this soon after a flush is a rest of the old turn."""

FILTER_TAIL_MS = 5
"""A shortfall below this is what a filter holds in its memory, not loss."""


def _ulaw_to_linear() -> Samples:
    code = ~np.arange(256, dtype=np.uint8)
    exponent = (code >> 4) & 7
    magnitude = ((((code & 15).astype(np.int32) << 3) + 0x84) << exponent) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


_LINEAR = _ulaw_to_linear()


def decode_ulaw(payload: bytes) -> Samples:
    """Mu-law bytes to 16-bit samples."""
    return _LINEAR[np.frombuffer(payload, np.uint8)]


def decode_pcm(payload: bytes) -> Samples:
    """Little-endian 16-bit bytes to samples."""
    return np.frombuffer(payload, "<i2")


def encode_ulaw(samples: Samples) -> bytes:
    """16-bit samples to the nearest mu-law code; slow, for making the few bursts."""
    ordered = np.argsort(_LINEAR, kind="stable")
    levels = _LINEAR[ordered].astype(np.int32)
    middles = (levels[1:] + levels[:-1]) / 2
    codes = ordered[np.searchsorted(middles, samples.astype(np.int32))]
    codes[samples == 0] = 0xFF
    return bytes(codes.astype(np.uint8))


def encode_pcm(samples: Samples) -> bytes:
    """16-bit samples to little-endian bytes."""
    return samples.astype("<i2").tobytes()


def burst(code: int, rate_hz: int) -> Samples:
    """The burst of this number: a cosine, so that it is loud from its first sample."""
    t = np.arange(rate_hz * BURST_MS // 1000) / rate_hz
    return np.round(AMPLITUDE * np.cos(2 * np.pi * (LOWEST_HZ + STEP_HZ * code) * t)).astype(np.int16)


def read_code(samples: Samples, rate_hz: int) -> int:
    """Which burst this is, from the zero crossings of its first 36 ms. Out of 0..7 when it is none of ours."""
    signs = np.signbit(samples)
    crossings = int(np.count_nonzero(signs[1:] != signs[:-1]))
    pitch_hz = crossings * 1000 / (2 * _LISTEN_MS)
    return round((pitch_hz - LOWEST_HZ) / STEP_HZ)


class MarkerSource:
    """Makes the messages of one direction of one call."""

    __slots__ = ("_message", "_message_ms", "_messages", "bursts", "turn", "turn_sent_ms")

    def __init__(self, message_ms: int, messages: list[bytes]) -> None:
        self._message_ms = message_ms
        self._messages = messages
        self._message = 0
        self.bursts: deque[tuple[int, int, int]] = deque()
        """Sent and not yet heard: number, turn, send time in ns."""
        self.turn = 0
        self.turn_sent_ms = 0.0

    @staticmethod
    def cycle(message_ms: int, rate_hz: int, encode: Callable[[Samples], bytes], *, raw: bool = False) -> list[bytes]:
        """All messages of one cycle of eight bursts, in base64 or ``raw``; every source of a format shares them."""
        parts = []
        for code in range(CODES):
            stretch = np.zeros(rate_hz * BURST_EVERY_MS // 1000, np.int16)
            stretch[: rate_hz * BURST_MS // 1000] = burst(code, rate_hz)
            parts.append(stretch)
        signal = np.concatenate(parts)
        step = rate_hz * message_ms // 1000
        audio = [encode(signal[start : start + step]) for start in range(0, len(signal), step)]
        return audio if raw else [binascii.b2a_base64(message, newline=False) for message in audio]

    def message(self, now_ns: int) -> bytes:
        """The next message's audio as the wire carries it, to be sent now."""
        start_ms = self._message * self._message_ms
        number = -(-start_ms // BURST_EVERY_MS)  # of the first burst that begins in this message or later
        if number * BURST_EVERY_MS < start_ms + self._message_ms:
            self.bursts.append((number, self.turn, now_ns))
        payload = self._messages[self._message % len(self._messages)]
        self._message += 1
        self.turn_sent_ms += self._message_ms
        return payload

    def new_turn(self) -> None:
        """Begin a new turn: what came before may rightly be dropped."""
        self.turn += 1
        self.turn_sent_ms = 0.0

    @property
    def sent_ms(self) -> float:
        """Audio made so far."""
        return self._message * self._message_ms


class MarkerSink:
    """Listens to what arrives of one direction of one call, and keeps the books."""

    def __init__(self, source: MarkerSource, rate_hz: int, decode: Callable[[bytes], Samples], log: LatencyLog) -> None:
        self._source = source
        self._rate_hz = rate_hz
        self._decode = decode
        self._log = log
        self._tally = PathTally()
        self._silence: dict[int, bytes] = {}
        self._samples_per_ms = rate_hz // 1000
        self._received = 0
        """Samples since the last flush."""
        self._burst: list[Samples] = []
        self._burst_length = 0
        self._onset = (0, 0)
        """Sample position and arrival time of the burst that is being listened to."""
        self._deaf_until = 0
        self._cleared_turn = 0

    def receive(self, payload: bytes, now_ns: int) -> None:
        """Take the audio of one message."""
        if not self._burst and payload == self._silence.get(len(payload)):
            self._advance(len(payload))
            return
        samples = self._decode(payload)
        if not self._burst and not samples.any():
            # Remember the server's own spelling of silence: next time one comparison will do.
            self._silence[len(payload)] = payload
        self._listen(samples, now_ns)
        self._advance(len(payload))

    def cleared(self, turn: int) -> None:
        """A flush arrived: bursts of turns before ``turn`` must not come any more."""
        self._cleared_turn = turn
        self._tally.discarded_ms += max(0.0, self._owed_before_clear())
        self._received = 0
        self._deaf_until = 0
        self._burst, self._burst_length = [], 0

    def tally(self) -> PathTally:
        """Close the books: what the source sent and what came of it."""
        tally, source = self._tally, self._source
        tally.sent_ms = source.sent_ms
        shortfall_ms = source.turn_sent_ms - self._received / self._samples_per_ms
        if shortfall_ms > FILTER_TAIL_MS and source.turn == self._cleared_turn:
            tally.lost_ms += shortfall_ms
        while source.bursts:
            burst_sent = source.bursts.popleft()
            if burst_sent[0] * BURST_EVERY_MS + BURST_MS <= source.sent_ms:  # the last may have been cut off
                self._note_missing(burst_sent)
        return tally

    def _owed_before_clear(self) -> float:
        # The source has begun its new turn already, so what the old one sent is what is not in the new one.
        old_turn_ms = self._source.sent_ms - self._source.turn_sent_ms
        return old_turn_ms - self._tally.received_ms - self._tally.discarded_ms

    def _advance(self, size_bytes: int) -> None:
        count = size_bytes if self._decode is decode_ulaw else size_bytes // 2
        self._received += count
        self._tally.received_ms += count / self._samples_per_ms

    def _listen(self, samples: Samples, now_ns: int) -> None:
        start = 0
        while start < len(samples):
            if not self._burst:
                onset = self._find_onset(samples, start)
                if onset < 0:
                    return
                self._onset = (self._received + onset, now_ns)
                start = onset
            wanted = _LISTEN_MS * self._samples_per_ms - self._burst_length
            part = samples[start : start + wanted]
            self._burst.append(part)
            self._burst_length += len(part)
            start += len(part)
            if len(part) == wanted:
                self._finish_burst()
                self._deaf_until = self._received + start + _DEAF_MS * self._samples_per_ms

    def _find_onset(self, samples: Samples, start: int) -> int:
        start = max(start, self._deaf_until - self._received)
        loud: npt.NDArray[Any] = np.flatnonzero(np.abs(samples[start:].astype(np.int32)) > THRESHOLD)
        return int(loud[0]) + start if len(loud) else -1

    def _finish_burst(self) -> None:
        code = read_code(np.concatenate(self._burst), self._rate_hz)
        self._burst, self._burst_length = [], 0
        sent = self._source.bursts
        place = next((index for index, item in enumerate(sent) if item[0] % CODES == code), -1)
        if place < 0:
            self._note_unawaited(code)
            return
        for _ in range(place):
            self._note_missing(sent.popleft())
        _, turn, sent_ns = sent.popleft()
        if turn < self._cleared_turn:
            self._tally.stale_bytes += BURST_MS * self._samples_per_ms
            return
        position, arrived_ns = self._onset
        grid = GRID_MS * self._samples_per_ms
        shift = (position + grid // 2) % grid - grid // 2
        self._log.note(sent_ns, arrived_ns, shift / self._samples_per_ms)

    def _note_unawaited(self, code: int) -> None:
        if self._cleared_turn and self._onset[0] < STALE_MS * self._samples_per_ms:
            self._tally.stale_bytes += BURST_MS * self._samples_per_ms
        elif 0 <= code < CODES:
            self._tally.duplicated += 1
        else:
            self._tally.corrupt += 1

    def _note_missing(self, item: tuple[int, int, int]) -> None:
        if item[1] >= self._cleared_turn:
            self._tally.lost_markers += 1
