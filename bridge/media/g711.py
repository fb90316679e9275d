"""G.711 companding: mu-law and A-law bytes to L16 (16-bit little-endian linear PCM) and back.

Public: ``ulaw_to_pcm``, ``pcm_to_ulaw``, ``alaw_to_pcm``, ``pcm_to_alaw``.

The work is done by ``audioop``: in the standard library up to Python 3.12, from the ``audioop-lts`` package
after that. Source: ITU-T G.711 (11/88), tables 1 and 2; the 14-bit (mu-law) and 13-bit (A-law) values there
are scaled to 16 bits, as everybody does. Machines are little-endian here: audioop follows the machine.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # Python 3.11 and 3.12 announce at import that 3.13 drops the module. That is provided for (see above), and
    # a user of the bridge could do nothing about it.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

_SAMPLE_BYTES = 2


def ulaw_to_pcm(payload: bytes) -> bytes:
    """Expand mu-law, one byte a sample, to L16."""
    return audioop.ulaw2lin(payload, _SAMPLE_BYTES)


def pcm_to_ulaw(pcm: bytes) -> bytes:
    """Compress L16 to mu-law. Raises ``ValueError`` if ``pcm`` is not a whole number of samples."""
    if len(pcm) % _SAMPLE_BYTES:
        raise _cut_sample(pcm)
    return audioop.lin2ulaw(pcm, _SAMPLE_BYTES)


def alaw_to_pcm(payload: bytes) -> bytes:
    """Expand A-law, one byte a sample, to L16."""
    return audioop.alaw2lin(payload, _SAMPLE_BYTES)


def pcm_to_alaw(pcm: bytes) -> bytes:
    """Compress L16 to A-law. Raises ``ValueError`` if ``pcm`` is not a whole number of samples."""
    if len(pcm) % _SAMPLE_BYTES:
        raise _cut_sample(pcm)
    return audioop.lin2alaw(pcm, _SAMPLE_BYTES)


def _cut_sample(pcm: bytes) -> ValueError:
    return ValueError(f"L16 audio of {len(pcm)} bytes is not a whole number of 16-bit samples")
