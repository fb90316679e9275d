"""Keypad tones in a live stream of caller audio, for lines on which nobody reports keys, and to blank recordings.

What it is: ``tones.DtmfDetector`` made cheap enough for every call, with its finds in seconds of the caller's clock.
What it is not: another detector; what counts as a press is decided there. Pure: time is an argument.

Theory of operation: each frame of 20 ms is looked at in two cheap ways first. Is it loud enough (a loop in C)? Does a
fair part of its energy lie in one tone of the low and one of the high group (one small product of a matrix and a
vector)? Every tone that must be found (40 ms, ITU-T Q.24) fills at least one frame whole. Only around such frames,
which speech seldom has, the detector runs: from the frame before until ``TRAIL_FRAMES`` frames in a row have shown
nothing. It is fed a few frames at a time, because its cost is mostly per call.

Times: where a sample belongs in the caller's time is known only as far as the network is even. Audio that comes in a
burst after a stall was spoken earlier than it arrived. So a find has the span in which its tone must lie, from the
least lateness of the last moments to the present one, and what is blanked is a little more.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.media.format import Encoding, MediaFormat
from bridge.media.g711 import alaw_to_pcm, ulaw_to_pcm
from bridge.media.tones import DTMF_FREQUENCIES_HZ, PEAK_AT_0_DBM0, DtmfDetector, DtmfHit

with warnings.catch_warnings():
    # As in ``bridge.media.g711``: 3.11 and 3.12 announce that 3.13 drops the module, which is provided for.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

TRAIL_FRAMES = 3
"""60 ms: more than an interruption inside a press (10 ms) and the detector's window and release (34 ms)."""
STEP_S = 0.2
"""A tone that goes on is reported so often before it is over: recordings are written half a second behind."""
BLANK_MARGIN_S = 0.04
"""Blanked before and after a tone: the detector is good to 5 ms, frames are 20 ms, and edges sound."""

_L16_BYTES = 2
_WEAKEST_RMS = PEAK_AT_0_DBM0 * 10 ** (-40 / 20) / math.sqrt(2)
"""Of a frame that may show a tone: the weaker of two tones alone at the detector's least level."""
_LEAST_SHARE = 0.3
"""Of a frame's energy that both tones must hold: off by 1.5 % with the twist that the detector allows they keep half,
as 20 ms tell frequencies apart more sharply than its own windows."""
_LEAST_SHARE_OF_EACH = 0.03
"""The weaker one of such a pair keeps 5 %."""
_MAX_FRAME_SAMPLES = 480
_MAX_CHUNK_SAMPLES = 1_000
"""Larger products make numpy's BLAS start threads, which on a busy machine take fifty times as long."""
_LATENESS_WINDOW_S = 0.5
"""The least lateness of this and the window before is looked at: what the recording's tape looks at too."""


@dataclass(frozen=True, slots=True, repr=False)
class InbandTone:
    """A key that was found in the audio."""

    digit: str
    from_s: float
    """The earliest moment at which its tone may have begun, on the clock of ``feed``."""
    to_s: float
    """The latest at which it may have ended, or up to which it was heard so far."""
    duration_s: float
    is_over: bool
    """Whether the press is over. A long one is reported several times before, with the same beginning; only the last
    report is a press."""

    @property
    def blank_from_s(self) -> float:
        """Where silence must begin for nothing to be heard of it."""
        return self.from_s - BLANK_MARGIN_S

    @property
    def blank_to_s(self) -> float:
        """Where it may end."""
        return self.to_s + BLANK_MARGIN_S

    def __repr__(self) -> str:
        return "InbandTone(...)"


class InbandDtmf:
    """Listens to one stream. Feed every payload of it, of any size."""

    __slots__ = (
        "_before",
        "_chunk",
        "_chunk_bytes",
        "_decode",
        "_detector",
        "_fed_bytes",
        "_first",
        "_frame_bytes",
        "_held",
        "_is_listening",
        "_least_lateness_s",
        "_probes",
        "_quiet_frames",
        "_rate_hz",
        "_told_to_s",
        "_window",
    )

    def __init__(self, media: MediaFormat) -> None:
        """``media`` is mono; raises ``ValueError`` otherwise."""
        if media.channels != 1:
            raise ValueError(f"keypad tones are looked for in mono audio, not in {media.channels} channels")
        self._rate_hz = media.rate_hz
        self._decode = {Encoding.ULAW: ulaw_to_pcm, Encoding.ALAW: alaw_to_pcm}.get(media.encoding)
        frame = min(media.rate_hz // 50, _MAX_FRAME_SAMPLES)
        self._frame_bytes = frame * _L16_BYTES
        self._chunk_bytes = max(1, min(3, _MAX_CHUNK_SAMPLES // frame)) * self._frame_bytes
        self._probes = _probes(frame, media.rate_hz)
        self._detector = DtmfDetector(media.rate_hz)
        self._held = b""  # less than a frame
        self._before = b""  # the frame before, while not listening
        self._chunk = b""  # what the detector has yet to get
        self._is_listening = False
        self._quiet_frames = 0
        self._fed_bytes = 0  # of the stream, as L16
        self._first = 0  # the one with which the detector began
        self._window = (-math.inf, math.inf)  # its end, and the least lateness in the window before
        self._least_lateness_s = math.inf
        self._told_to_s = -math.inf

    def feed(self, payload: bytes, now: float) -> list[InbandTone]:
        """The next payload, which has just arrived; returns the tones of which there is something new."""
        pcm = self._held + (self._decode(payload) if self._decode else payload)
        size = self._frame_bytes
        whole = len(pcm) - len(pcm) % size
        self._note_lateness(len(pcm) - len(self._held), now)
        self._held = pcm[whole:]
        tones: list[InbandTone] = []
        for start in range(0, whole, size):
            frame = pcm if len(pcm) == size else pcm[start : start + size]
            shows = self._may_show_tone(frame)
            if self._is_listening or shows:
                self._listen(frame, shows, len(pcm) - start, now, tones)
            else:
                self._before = frame
        return tones

    # --- private ---

    def _listen(self, frame: bytes, shows: bool, ahead_bytes: int, now: float, tones: list[InbandTone]) -> None:
        """Give a frame to the detector; ``ahead_bytes`` of the stream are in hand, from its beginning on."""
        if not self._is_listening:
            self._is_listening = True
            self._chunk = self._before
            self._first = (self._fed_bytes - ahead_bytes - len(self._before)) // _L16_BYTES
            self._before = b""
        self._quiet_frames = 0 if shows else self._quiet_frames + 1
        self._chunk += frame
        is_last = self._quiet_frames >= TRAIL_FRAMES
        if len(self._chunk) < self._chunk_bytes and not is_last:
            return
        hits = self._detector.process(self._chunk)
        self._chunk = b""
        if is_last:
            hits += self._detector.flush()
            self._is_listening, self._quiet_frames = False, 0
            self._before = frame
        tones += [self._tone(hit, now, is_over=True) for hit in hits]
        pressing = self._detector.pressing
        if pressing is not None:
            tone = self._tone(pressing, now, is_over=False)
            if tone.to_s >= self._told_to_s + STEP_S:
                self._told_to_s = tone.to_s
                tones.append(tone)

    def _tone(self, hit: DtmfHit, now: float, *, is_over: bool) -> InbandTone:
        start_s = (self._first + hit.start_sample) / self._rate_hz
        duration_s = hit.duration_ms / 1000
        latest_s = self._lateness_s(now)
        earliest_s = min(latest_s, self._least_lateness_s, self._window[1])
        return InbandTone(hit.digit, earliest_s + start_s, latest_s + start_s + duration_s, duration_s, is_over)

    def _lateness_s(self, now: float) -> float:
        """How late the stream is, compared with its being laid end to end from moment 0 on."""
        return now - self._fed_bytes / (_L16_BYTES * self._rate_hz)

    def _note_lateness(self, size_bytes: int, now: float) -> None:
        self._fed_bytes += size_bytes
        lateness_s = self._lateness_s(now)
        if now >= self._window[0]:
            self._window = (now + _LATENESS_WINDOW_S, self._least_lateness_s)
            self._least_lateness_s = lateness_s
        elif lateness_s < self._least_lateness_s:
            self._least_lateness_s = lateness_s

    def _may_show_tone(self, frame: bytes) -> bool:
        """Whether a fair part of the frame's energy lies in one tone of either group."""
        if audioop.rms(frame, _L16_BYTES) < _WEAKEST_RMS:
            return False
        samples = np.frombuffer(frame, "<i2").astype(np.float32)
        energy = float(samples @ samples) * len(samples) / 2  # of a sine: its own power below
        parts: list[float] = (self._probes @ samples).tolist()
        powers = [cosine * cosine + sine * sine for cosine, sine in zip(parts[:8], parts[8:], strict=True)]
        low, high = max(powers[:4]), max(powers[4:])
        return low + high >= _LEAST_SHARE * energy and min(low, high) >= _LEAST_SHARE_OF_EACH * energy


def _probes(frame: int, rate_hz: int) -> npt.NDArray[np.float32]:
    """Cosines, then sines of the eight frequencies, the low group first in both."""
    low, high = (sorted(set(group)) for group in zip(*DTMF_FREQUENCIES_HZ.values(), strict=True))
    turns = 2 * np.pi * np.outer(low + high, np.arange(frame)) / rate_hz
    return np.vstack((np.cos(turns), np.sin(turns))).astype(np.float32)
