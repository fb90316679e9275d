"""Listening to a call from the console: both directions as one stream of small binary frames, while the call lasts.

A frame is one byte of what it is (``CALLER``, ``AGENT``, ``FLUSH``, ``FORMAT``), two bytes with the length of its
payload (big-endian) and the payload: audio in the leg's own format, or for ``FORMAT`` its name. Agent audio comes as it
is handed to the carrier, ahead of its playing, and ``FLUSH`` says that the caller will not hear the rest.

Nobody on the call notices. A listener whose connection is slow hears gaps (``MAX_BEHIND_S``), and nothing waits for
it. While the recording is paused listeners hear silence, and where keys are redacted the caller is heard a moment
later, with the tones cut out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bridge.media.format import MediaFormat
from bridge.media.inband import InbandDtmf
from bridge.server.console.stream import until_gone, write
from bridge.server.listening import add_listener, remove_listener

if TYPE_CHECKING:
    from bridge.server.session import Session

CALLER, AGENT, FLUSH, FORMAT = 0, 1, 2, 3

MAX_BEHIND_S = 5.0
"""Audio held for a slow listener, of both sides together; beyond it the newest is dropped until there is room."""
SEND_EVERY_S = 0.1
"""Audio is gathered so long: ten writes a second and listener, heard with a tenth of a second's delay."""
HOLD_BACK_S = 0.4
"""How late the caller is heard where keys are redacted: a tone is known for one by then."""
MAX_PAYLOAD_BYTES = 0xFFFF


class Ear:
    """Hears one call for one listener; a ``Tap``."""

    def __init__(self, media: MediaFormat, *, is_silenced: Callable[[], bool], hide_keys: bool) -> None:
        """``is_silenced``: whether what is said now must not be heard; ``hide_keys``: cut the tones of keys out."""
        self._media = media
        self._is_silenced = is_silenced
        self._detector = InbandDtmf(media) if hide_keys else None
        self._waiting: deque[tuple[float, bytes]] = deque()  # the caller's, held back
        self._blanks: deque[tuple[float, float]] = deque(maxlen=32)
        self._frames = bytearray()
        self._max_bytes = media.size_bytes(MAX_BEHIND_S * 1000)
        self.dropped_bytes = 0
        """Audio that found no room."""
        self._put(FORMAT, media.name.encode())

    # --- in: within the media path ---

    def caller(self, payload: bytes, now: float) -> None:
        """See ``Tap``."""
        payload = self._allowed(payload)
        if self._detector is None:
            self._put(CALLER, payload)
            return
        for tone in self._detector.feed(payload, now):
            self._blanks.append((tone.blank_from_s, tone.blank_to_s))
        self._waiting.append((now, payload))
        while self._waiting and self._waiting[0][0] <= now - HOLD_BACK_S:
            self._put(CALLER, self._without_keys(*self._waiting.popleft()))

    def agent(self, payload: bytes, now: float) -> None:
        """See ``Tap``."""
        self._put(AGENT, self._allowed(payload))

    def flush(self, now: float) -> None:
        """See ``Tap``."""
        self._put(FLUSH, b"")

    # --- out ---

    def take(self) -> bytes:
        """The frames since the last time."""
        frames, self._frames = bytes(self._frames), bytearray()
        return frames

    def _allowed(self, payload: bytes) -> bytes:
        return self._media.silence(len(payload)) if self._is_silenced() else payload

    def _without_keys(self, came_s: float, payload: bytes) -> bytes:
        began_s = came_s - self._media.duration_ms(len(payload)) / 1000
        if any(began_s < to_s and came_s > from_s for from_s, to_s in self._blanks):
            return self._media.silence(len(payload))
        return payload

    def _put(self, kind: int, payload: bytes) -> None:
        if len(self._frames) + len(payload) > self._max_bytes:
            self.dropped_bytes += len(payload)
            return
        for start in range(0, len(payload) or 1, MAX_PAYLOAD_BYTES - 1):  # even, so that no sample is cut
            part = payload[start : start + MAX_PAYLOAD_BYTES - 1]
            self._frames += bytes((kind,)) + len(part).to_bytes(2, "big") + part


def ear_for(session: Session) -> Ear:
    """An ear at this call, which has a way to its caller."""
    downlink, facts = session.call.downlink, session.facts
    assert downlink is not None

    def is_silenced() -> bool:
        return facts.tape is not None and facts.tape.is_paused

    hide_keys = facts.route is not None and facts.route.keypad.redact
    return Ear(downlink.media, is_silenced=is_silenced, hide_keys=hide_keys)


class ListenStream(Response):
    """Sends what an ear hears until the call ends, the listener goes, or may not stay."""

    media_type = "application/octet-stream"

    def __init__(
        self, session: Session, key_id: str, *, still_in: Callable[[], bool], on_over: Callable[[], None]
    ) -> None:
        """``on_over`` is called once at the end, whatever it was."""
        super().__init__(
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
        )
        del self.headers["content-length"]
        self._session = session
        self._key_id = key_id
        self._still_in = still_in
        self._on_over = on_over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The whole stream."""
        session, ear, began_s = self._session, ear_for(self._session), monotonic()
        gone = asyncio.ensure_future(until_gone(receive))
        session.note("operator_listens")
        session.log.info("listening_began", key_id=self._key_id)
        add_listener(session, ear)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while not gone.done() and self._still_in():
                is_over = session.call.is_over
                if frames := ear.take():
                    await write(send, frames)
                if is_over:
                    break
                await asyncio.wait([gone], timeout=SEND_EVERY_S)
            if not gone.done():
                await write(send, b"", more=False)
        except TimeoutError:
            return  # the listener does not read; the server closes the connection
        finally:
            gone.cancel()
            remove_listener(session, ear)
            self._on_over()
            session.log.info(
                "listening_ended",
                key_id=self._key_id,
                duration_s=round(monotonic() - began_s, 1),
                dropped_bytes=ear.dropped_bytes,
            )
