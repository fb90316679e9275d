"""How audio is laid out in bytes: the only place where bytes, samples and milliseconds meet.

Names follow ElevenLabs' ("ulaw_8000", "pcm_16000"; Agents WebSocket reference, read 2026-11-21), extended
by "alaw_8000" for trunks. L16 is 16-bit signed little-endian throughout; carriers that speak network byte
order swap at their own edge.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

FRAME_MS = 20
"""The frame of telephony: what every carrier here sends and expects (20 ms, 160 samples at 8 kHz)."""

SUPPORTED_RATES_HZ = (8000, 16000, 22050, 24000, 44100, 48000)
"""Every sample rate that an agent or a carrier of ours can ask for."""


class Encoding(enum.Enum):
    """How one sample is stored. The value is the name used in format names, logs and metrics."""

    ULAW = "ulaw"
    """G.711 mu-law, 1 byte a sample, silence 0xFF."""
    ALAW = "alaw"
    """G.711 A-law, 1 byte a sample, silence 0xD5."""
    L16 = "pcm"
    """16-bit signed linear PCM, little-endian, silence 0x0000."""


_BYTES_PER_SAMPLE = {Encoding.ULAW: 1, Encoding.ALAW: 1, Encoding.L16: 2}
_SILENCE = {Encoding.ULAW: b"\xff", Encoding.ALAW: b"\xd5", Encoding.L16: b"\x00\x00"}


@dataclass(frozen=True, slots=True)
class MediaFormat:
    """Encoding, rate and channel count of an audio stream.

    Equality is by these three, so ``a == b`` means audio passes from one to the other unchanged.
    """

    encoding: Encoding
    rate_hz: int
    """Samples per second and channel."""
    channels: int = 1
    """1 for every live stream here; 2 only in recordings."""
    bytes_per_sample: int = field(init=False, compare=False, repr=False)
    """Bytes of one sample across all channels."""

    def __post_init__(self) -> None:
        if self.rate_hz not in SUPPORTED_RATES_HZ:
            raise ValueError(f"rate_hz is {self.rate_hz}; supported are {SUPPORTED_RATES_HZ}")
        if self.channels not in (1, 2):
            raise ValueError(f"channels is {self.channels}; supported are 1 and 2")
        object.__setattr__(self, "bytes_per_sample", _BYTES_PER_SAMPLE[self.encoding] * self.channels)

    @classmethod
    def parse(cls, name: str) -> MediaFormat:
        """Read a vendor format name such as ``ulaw_8000`` or ``pcm_16000``.

        Raises ``ValueError`` that names the text and the names that are known.
        """
        encoding, _, rate = name.partition("_")
        try:
            return cls(Encoding(encoding), int(rate))
        except ValueError:
            raise ValueError(
                f"audio format {name[:40]!r} is not known; known are ulaw_8000, alaw_8000 and pcm_<rate> with rate in "
                f"{', '.join(map(str, SUPPORTED_RATES_HZ))}"
            ) from None

    @property
    def name(self) -> str:
        """The vendor's name of this format, e.g. ``ulaw_8000``."""
        return f"{self.encoding.value}_{self.rate_hz}"

    def samples(self, size_bytes: int) -> int:
        """How many whole samples per channel ``size_bytes`` hold."""
        return size_bytes // self.bytes_per_sample

    def size_bytes(self, duration_ms: float) -> int:
        """Bytes of ``duration_ms`` of audio, rounded down to whole samples."""
        return int(self.rate_hz * duration_ms / 1000) * self.bytes_per_sample

    def duration_ms(self, size_bytes: int) -> float:
        """Milliseconds that ``size_bytes`` play."""
        return size_bytes * 1000 / (self.rate_hz * self.bytes_per_sample)

    def silence(self, size_bytes: int) -> bytes:
        """Silence of exactly ``size_bytes`` (a whole number of samples)."""
        unit = _SILENCE[self.encoding]
        return unit * (size_bytes // len(unit))


ULAW_8K = MediaFormat(Encoding.ULAW, 8000)
"""What Twilio, Genesys and G.711 trunks speak; an agent set to it makes the bridge a pass-through."""
ALAW_8K = MediaFormat(Encoding.ALAW, 8000)
PCM_8K = MediaFormat(Encoding.L16, 8000)
PCM_16K = MediaFormat(Encoding.L16, 16000)
"""The agents' default format."""
