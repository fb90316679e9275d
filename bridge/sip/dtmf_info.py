"""Keys without RTP events: in the body of a SIP INFO, and as tones in the audio.

Public: ``parse_info``, ``build_relay``, ``build_plain``, ``RELAY``, ``PLAIN``, ``inband_frames``.

Sources: neither media type is registered; ``application/dtmf-relay`` (lines ``Signal=`` and ``Duration=`` in
milliseconds) is Cisco's, "SIP INFO Method for DTMF Tone Generation", which also says 250 ms for a missing duration and
100 to 5000 ms as bounds; ``application/dtmf`` carries the key alone. Some senders name keys by their event code (10 =
``*``, 11 = ``#``). Tones: ITU-T Q.23, made by ``bridge.media.tones``.
"""

from __future__ import annotations

from bridge.errors import LocalError, RemoteError
from bridge.media.format import FRAME_MS, Encoding
from bridge.media.g711 import pcm_to_alaw, pcm_to_ulaw
from bridge.media.tones import dtmf
from bridge.sip.telephone_event import EVENT_KEYS, MAX_DIGITS, PAUSES_MS, Digit, SenderOptions

RELAY = "application/dtmf-relay"
PLAIN = "application/dtmf"
MAX_BODY_BYTES = 256
"""Two short lines, and some air."""
DEFAULT_DURATION_MS = 250
MAX_DURATION_MS = 5000
_RATE_HZ = 8000


def parse_info(content_type: str, body: bytes) -> Digit | None:
    """The key in an INFO; ``None`` if its media type is another. Raises ``RemoteError`` if it cannot be read."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in (RELAY, PLAIN):
        return None
    if len(body) > MAX_BODY_BYTES:
        raise RemoteError(f"INFO: a body of {len(body)} bytes is more than {MAX_BODY_BYTES}")
    text = body.decode("ascii", "replace")
    fields = {
        name.strip().lower(): value.strip()
        for name, equals, value in (line.partition("=") for line in text.splitlines())
        if equals
    }
    # Some senders write the fields of one type under the name of the other.
    signal = fields.get("signal", "" if fields else text.strip())
    return Digit(_key(signal), _duration_ms(fields.get("duration", "")))


def build_relay(digit: Digit) -> bytes:
    """The body of an INFO of type ``RELAY``."""
    return f"Signal={digit.key}\r\nDuration={digit.duration_ms}\r\n".encode("ascii")


def build_plain(digit: Digit) -> bytes:
    """The body of an INFO of type ``PLAIN``."""
    return digit.key.encode("ascii")


def inband_frames(digits: str, options: SenderOptions, encoding: Encoding) -> list[bytes]:
    """The keys as G.711 audio in frames of 160 bytes. Raises ``LocalError`` if one is no key or pause."""
    if len(digits) > MAX_DIGITS or any(digit not in EVENT_KEYS and digit not in PAUSES_MS for digit in digits):
        raise LocalError(f"tones: only 0-9 * # A-D w W can be sent, at most {MAX_DIGITS}")
    pcm = dtmf(digits, _RATE_HZ, options.tone_ms, options.gap_ms, -float(options.volume))
    frame_bytes = 2 * _RATE_HZ * FRAME_MS // 1000
    pcm += bytes(-len(pcm) % frame_bytes)
    encode = {Encoding.ULAW: pcm_to_ulaw, Encoding.ALAW: pcm_to_alaw}[encoding]
    return [encode(pcm[start : start + frame_bytes]) for start in range(0, len(pcm), frame_bytes)]


# --- private ---


def _key(signal: str) -> str:
    key = signal.upper()
    if key.isascii() and key.isdigit() and len(key) == 2 and int(key) < len(EVENT_KEYS):
        key = EVENT_KEYS[int(key)]
    if len(key) != 1 or key not in EVENT_KEYS:
        raise RemoteError("INFO: the signal is no key")  # not shown: keys are secrets
    return key


def _duration_ms(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        return DEFAULT_DURATION_MS
    return min(int(text[:6]), MAX_DURATION_MS)
