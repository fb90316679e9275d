"""Small operations on frames of G.711: how loud one is, and one blended into another.

Public: ``is_quiet``, ``blend``, ``decode``, ``encode``. Frames are bytes in the stream's encoding; nothing here keeps
state. Loudness is read off the code words by a table, because in both laws the magnitude grows with the code.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bridge.errors import LocalError
from bridge.media.format import Encoding
from bridge.media.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm

QUIET_PEAK = 500
"""Of 32 767: about -36 dBov, the noise between words; a frame below it may be left out unheard."""

_L16 = np.dtype("<i2")
_DECODERS: dict[Encoding, Callable[[bytes], bytes]] = {Encoding.ULAW: ulaw_to_pcm, Encoding.ALAW: alaw_to_pcm}
_ENCODERS: dict[Encoding, Callable[[bytes], bytes]] = {Encoding.ULAW: pcm_to_ulaw, Encoding.ALAW: pcm_to_alaw}
_CODES = bytes(range(256))

Samples = npt.NDArray[np.float32]


def decode(frame: bytes, encoding: Encoding) -> Samples:
    """Samples of -32768 to 32767. Raises ``LocalError`` if ``encoding`` is not G.711."""
    if encoding not in _DECODERS:
        raise LocalError(f"{encoding.value} is not G.711")
    return np.frombuffer(_DECODERS[encoding](frame), _L16).astype(np.float32)


def encode(samples: Samples, encoding: Encoding) -> bytes:
    """The way back; what is too loud is clipped."""
    pcm: bytes = np.rint(samples).clip(-32768, 32767).astype(_L16).tobytes()
    return _ENCODERS[encoding](pcm)


_LOUD = {encoding: bytes(int(abs(level) > QUIET_PEAK) for level in decode(_CODES, encoding)) for encoding in _DECODERS}


def is_quiet(frame: bytes, encoding: Encoding) -> bool:
    """Whether no sample of the frame is loud."""
    return 1 not in frame.translate(_LOUD[encoding])


def blend(first: bytes, second: bytes, encoding: Encoding) -> bytes:
    """One frame that begins as ``first`` and ends as ``second``; both have one length."""
    rise = (np.arange(len(first), dtype=np.float32) + 0.5) / len(first)
    one, other = decode(first, encoding), decode(second, encoding)
    return encode((one + (other - one) * rise).astype(np.float32), encoding)
