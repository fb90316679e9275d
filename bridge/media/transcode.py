"""From one audio format to another: decode, resample, encode, each only where it is needed.

Public: ``Transcoder``.

One transcoder serves one direction of one call, because the resampler between its stages carries state. It
converts whatever comes at once and holds back at most one byte; cutting into frames is ``frames``' task.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.media.format import Encoding, MediaFormat
from bridge.media.frames import Reframer
from bridge.media.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm
from bridge.media.resample import Resampler

_DECODERS: dict[Encoding, Callable[[bytes], bytes]] = {Encoding.ULAW: ulaw_to_pcm, Encoding.ALAW: alaw_to_pcm}
_ENCODERS: dict[Encoding, Callable[[bytes], bytes]] = {Encoding.ULAW: pcm_to_ulaw, Encoding.ALAW: pcm_to_alaw}


class Transcoder:
    """Converts a mono stream of ``source`` audio into ``target`` audio.

    Raises ``ValueError`` if either format has more than one channel.
    """

    __slots__ = ("_aligner", "_resampler", "_source", "_stages", "_target")

    def __init__(self, source: MediaFormat, target: MediaFormat) -> None:
        for media in (source, target):
            if media.channels != 1:
                raise ValueError(f"{media.name} with {media.channels} channels cannot be transcoded, only mono can")
        self._source = source
        self._target = target
        self._aligner = Reframer(source.bytes_per_sample)
        self._resampler = Resampler(source.rate_hz, target.rate_hz) if source.rate_hz != target.rate_hz else None
        self._stages = self._compose()

    @property
    def is_identity(self) -> bool:
        """Whether audio passes unchanged."""
        return not self._stages

    @property
    def delay_ms(self) -> float:
        """By how much the output lags behind the input, in milliseconds: the resampler's share, if there is one."""
        return self._resampler.delay_ms if self._resampler else 0.0

    def process(self, payload: bytes) -> bytes:
        """Convert the next chunk, of any size; with equal formats the very same object comes back.

        Half an L16 sample at the end of a chunk waits for its other half in the next one.
        """
        for stage in self._stages:
            payload = stage(payload)
        return payload

    def reset(self) -> None:
        """Forget the past, as if nothing had been processed."""
        self._aligner.clear()
        if self._resampler:
            self._resampler.reset()

    def describe(self) -> str:
        """The stages in words, e.g. ``ulaw_8000 -> decode -> resample 8000:16000 -> pcm_16000``."""
        words = [self._source.name]
        if not self.is_identity:
            if self._source.encoding in _DECODERS:
                words.append("decode")
            if self._resampler:
                words.append(f"resample {self._source.rate_hz}:{self._target.rate_hz}")
            if self._target.encoding in _ENCODERS:
                words.append("encode")
        return " -> ".join([*words, self._target.name])

    def _compose(self) -> tuple[Callable[[bytes], bytes], ...]:
        """The conversion as a flat tuple of functions, so that a frame costs one call each and no decisions."""
        if self._source == self._target:
            return ()
        stages = [_DECODERS.get(self._source.encoding, self._aligner.push)]
        if self._resampler:
            stages.append(self._resampler.process)
        if self._target.encoding in _ENCODERS:
            stages.append(_ENCODERS[self._target.encoding])
        return tuple(stages)
