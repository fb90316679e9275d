"""Cutting a stream of payloads into whole frames.

Public: ``Reframer``.

Peers send audio in any chunks; a codec wants whole samples and some carriers want whole 20 ms frames. This
only cuts: it neither paces (see ``playout``) nor converts.
"""

from __future__ import annotations


class Reframer:
    """Gives a stream back in whole frames and holds the remainder, which is always less than a frame."""

    __slots__ = ("_frame_bytes", "_held")

    def __init__(self, frame_bytes: int) -> None:
        if frame_bytes < 1:
            raise ValueError(f"frame_bytes is {frame_bytes}; a frame has at least 1 byte")
        self._frame_bytes = frame_bytes
        self._held = b""

    @property
    def pending_bytes(self) -> int:
        """How much is held back for want of a whole frame."""
        return len(self._held)

    def push(self, payload: bytes) -> bytes:
        """Take the next chunk and return all whole frames there are now, in one piece (``b""`` if none).

        A chunk of whole frames with nothing held before it comes back as it is, without a copy.
        """
        if not self._held and len(payload) % self._frame_bytes == 0:
            return payload
        stream = self._held + payload
        whole_bytes = len(stream) - len(stream) % self._frame_bytes
        self._held = stream[whole_bytes:]
        return stream[:whole_bytes]

    def flush(self, silence: bytes) -> bytes:
        """Return the remainder, filled up to a whole frame with silence; ``b""`` if nothing is held.

        ``silence`` is one sample of it in the stream's encoding, as from ``MediaFormat.silence``; a frame must be a
        whole number of such samples, otherwise ``ValueError``.
        """
        if not silence or self._frame_bytes % len(silence):
            raise ValueError(f"a frame of {self._frame_bytes} bytes cannot be filled with {len(silence)}-byte samples")
        if not self._held:
            return b""
        missing_bytes = self._frame_bytes - len(self._held)
        # Cut from the end of a whole frame of silence, so that samples stay aligned after a remainder cut inside one.
        filling = (silence * (self._frame_bytes // len(silence)))[-missing_bytes:]
        frame = self._held + filling
        self._held = b""
        return frame

    def clear(self) -> None:
        """Drop the remainder."""
        self._held = b""
