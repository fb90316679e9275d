"""Media as AudioHook names it: what a session offers, and its audio in bytes.

Inside the simulator audio is mono mu-law at 8 kHz; here are the only conversions. L16 is big-endian (RFC 3551 section
4.5.11, from which the name comes; no Genesys document says so). Two channels are interleaved sample by sample in the
order of ``channels`` (AudioHook protocol reference, "Media").
"""

from __future__ import annotations

import msgspec
import numpy as np

from bridge.media.g711 import pcm_to_ulaw, ulaw_to_pcm


class MediaEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of ``media``."""

    type: str
    format: str
    """``PCMU`` or ``L16``."""
    channels: tuple[str, ...]
    """``external`` (the caller) and ``internal`` (the far side), in the order of the samples."""
    rate: int

    @property
    def bytes_per_sample(self) -> int:
        """Of one sample across all channels."""
        return (2 if self.format == "L16" else 1) * len(self.channels)


def _pcmu(*channels: str) -> MediaEntry:
    return MediaEntry("audio", "PCMU", channels, 8000)


_L16 = MediaEntry("audio", "L16", ("external",), 8000)
_EXTERNAL, _INTERNAL = "external", "internal"

OFFERS: dict[str, tuple[MediaEntry, ...]] = {
    "external": (_pcmu(_EXTERNAL),),
    "both": (_pcmu(_EXTERNAL, _INTERNAL), _pcmu(_EXTERNAL), _pcmu(_INTERNAL)),
    "stereo": (_pcmu(_EXTERNAL, _INTERNAL),),
    "inverted": (_pcmu(_INTERNAL, _EXTERNAL),),
    "internal": (_pcmu(_INTERNAL),),
    "l16": (_L16,),
    "l16-first": (_L16, _pcmu(_EXTERNAL)),
    "none": (),
}
"""Offers by name. Genesys' Audio Connector makes the first one; the others come from the vendor's compliance suite
(``both`` from its client) and from the protocol reference."""


def encode_frame(entry: MediaEntry, external: bytes, internal: bytes) -> bytes:
    """Mu-law of both sides, of the same length, as the chosen media has it."""
    sides = [external if channel == _EXTERNAL else internal for channel in entry.channels]
    if entry.format == "PCMU":
        if len(sides) == 1:
            return sides[0]
        mixed = bytearray(len(sides) * len(external))
        for index, side in enumerate(sides):
            mixed[index :: len(sides)] = side
        return bytes(mixed)
    samples = np.stack([np.frombuffer(ulaw_to_pcm(side), "<i2") for side in sides], axis=1)
    return samples.astype(">i2").tobytes()


def decode_audio(entry: MediaEntry, payload: bytes) -> bytes:
    """What the server plays to the caller as mono mu-law; of two channels the first. Whole samples only."""
    count = len(entry.channels)
    if entry.format == "PCMU":
        return payload if count == 1 else payload[::count]
    return pcm_to_ulaw(np.frombuffer(payload, ">i2")[::count].astype("<i2").tobytes())
