"""``POST /webhooks/elevenlabs``: the vendor's post-call webhooks, verified, joined to our calls and passed on.

What comes is put into a temporary file while it is verified, because an event with audio has up to a hundred MB, and
nobody has shown yet that it is genuine. Then its results go into the call's record, and the event goes on through the
outbox with what the bridge knows of the call. Both are harmless when repeated, so the vendor may send an event as
often as it likes. An event of a conversation that is none of ours is passed on as it is: the vendor has one webhook for
the whole workspace, and whoever set it to the bridge has given up the direct way.

Source: ElevenLabs docs, "Post-call webhooks" (read 2026-11-21).
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import IO

from fastapi import APIRouter, Request, Response

from bridge.auth import webhook
from bridge.calls.record import CallRecord, OutboxEvent
from bridge.calls.webhook_report import (
    KNOWN_TYPES,
    BadEvent,
    ConversationReport,
    IncomingEvent,
    audio_of,
    forwarded,
    read_event,
    read_report,
)
from bridge.calls.webhook_vendor import AUDIO, TRANSCRIPTION
from bridge.server.audio_spool import AudioSpool, SpoolFull
from bridge.server.logs import get_logger
from bridge.server.store.faults import describe

PATH = "/webhooks/elevenlabs"
SETTING = "ELEVENLABS_WEBHOOK_SECRET"

MAX_BODY_BYTES = 128 * 1024 * 1024
"""An event with the audio of an hour and a half at 128 kbit/s."""
MAX_FORWARDED_BYTES = 16 * 1024 * 1024
"""Of an event without audio; it goes into the database. The longest transcripts have some 2 MB."""
BODY_TIMEOUT_S = 10.0
"""For a body that stays in memory."""
LARGE_BODY_TIMEOUT_S = 120.0
"""For a hundred MB over a slow line."""
MAX_LARGE_AT_ONCE = 4
"""Bodies that go to files at the same time: bounds the files of senders that are not verified yet."""
MEMORY_BYTES = 1024 * 1024
"""A body up to here stays in memory; most do. A longer one goes to a file in pieces of this size, in a thread."""

Lookup = Callable[[str], Awaitable[CallRecord | None]]
"""Conversation id -> the call that had it."""
Merge = Callable[[CallRecord, ConversationReport], Awaitable[None]]
"""Put what the vendor made of the conversation into the call's record; harmless when repeated."""
Forward = Callable[[OutboxEvent], Awaitable[object]]
"""Store an event to be sent, as the last of its call (``OutboxStore.add_next``, then ``OutboxWorker.notify``)."""


@dataclass(frozen=True, slots=True)
class WebhookInOptions:
    """The secrets, and what is passed on."""

    secrets: tuple[str, ...] = field(repr=False)
    """Of the vendor's webhook; several while it is changed. Empty: every request gets 503."""
    events: frozenset[str] = KNOWN_TYPES
    """Types that are passed on; the others are only joined to their calls."""
    redact_numbers: bool = False
    verify: bool = True
    """False lets every event in, as BRIDGE_AUTH=off does."""


@dataclass(slots=True)
class WebhookInFigures:
    """Counters since the start, for metrics."""

    taken: int = 0
    refused: int = 0
    unknown_conversations: int = 0
    failed: int = 0


class _Refused(Exception):
    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


class ElevenLabsWebhooks:
    """The route. ``options`` may be replaced while it serves."""

    def __init__(
        self,
        options: WebhookInOptions,
        *,
        lookup: Lookup,
        merge: Merge,
        forward: Forward | None,
        spool: AudioSpool,
        unix: Callable[[], float] = time.time,
    ) -> None:
        """``forward`` is None where there is no WEBHOOK_URL: then events are only joined to their calls."""
        self.options = options
        self.figures = WebhookInFigures()
        self.router = APIRouter(tags=["elevenlabs"])
        self.router.add_api_route(PATH, self.receive, methods=["POST"], response_model=None)
        self._lookup = lookup
        self._merge = merge
        self._forward = forward
        self._spool = spool
        self._unix = unix
        self._log = get_logger()
        self._large = asyncio.Semaphore(MAX_LARGE_AT_ONCE)

    async def receive(self, request: Request) -> Response:
        """Take one event: 200 when it is safe with us, whatever becomes of it then."""
        try:
            verifier = self._verifier(request)
            async with contextlib.AsyncExitStack() as stack:
                with tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES) as body:
                    await self._read(request, verifier, body, stack)
                    return await self._take(body)
        except _Refused as refused:
            self.figures.refused += 1
            self._log.warning("request_refused", entrance="elevenlabs_webhook", detail=refused.words)
            words = "unauthorized" if refused.status == 401 else refused.words  # a stranger learns nothing
            return Response(f"{words}\n", status_code=refused.status, media_type="text/plain")
        except Exception as error:  # the database or the disk; the vendor may send it again
            self.figures.failed += 1
            self._log.error("webhook_in_failed", detail=describe(error))
            return Response("try again later\n", status_code=503, media_type="text/plain")

    # --- the body ---

    def _verifier(self, request: Request) -> webhook.Verifier | None:
        """What can be refused before the body is refused there. None = everything is let in."""
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > MAX_BODY_BYTES:
            raise _Refused(413, "body too large")
        if not self.options.verify:
            return None
        if not any(self.options.secrets):
            raise _Refused(503, f"set {SETTING} to the secret of the webhook in ElevenLabs' settings")
        verifier = webhook.Verifier(self.options.secrets, request.headers.get(webhook.HEADER), self._unix())
        if verifier.problem:
            raise _Refused(401, verifier.problem)
        return verifier

    async def _read(
        self,
        request: Request,
        verifier: webhook.Verifier | None,
        body: IO[bytes],
        stack: contextlib.AsyncExitStack,
    ) -> None:
        """Read and verify the body. One that does not stay in memory takes a place until ``stack`` is left."""
        waiting, total = bytearray(), 0
        began_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(began_s + BODY_TIMEOUT_S) as deadline:
                async for chunk in request.stream():
                    if total <= MEMORY_BYTES < total + len(chunk):
                        deadline.reschedule(began_s + LARGE_BODY_TIMEOUT_S)
                        await stack.enter_async_context(self._large)
                    total += len(chunk)
                    if total > MAX_BODY_BYTES:
                        raise _Refused(413, "body too large")
                    waiting += chunk
                    if len(waiting) >= MEMORY_BYTES:
                        await asyncio.to_thread(_digest_and_write, verifier, body, bytes(waiting))
                        waiting.clear()
        except TimeoutError:
            raise _Refused(408, "body too slow") from None
        await asyncio.to_thread(_digest_and_write, verifier, body, bytes(waiting))
        problem = verifier.finish() if verifier is not None else ""
        if problem:
            raise _Refused(401, problem)

    # --- the event ---

    async def _take(self, body: tempfile.SpooledTemporaryFile[bytes]) -> Response:
        size_bytes = body.tell()
        if size_bytes <= MEMORY_BYTES:
            body.seek(0)
            text = memoryview(body.read())
        else:  # it goes when the last part that looks into it has gone
            body.flush()
            text = memoryview(mmap.mmap(body.fileno(), size_bytes, access=mmap.ACCESS_READ))
        try:
            event = await asyncio.to_thread(read_event, text)
        except BadEvent as problem:
            raise _Refused(400, str(problem)) from None
        if event.type in KNOWN_TYPES:
            await self._join(event, size_bytes)
            self.figures.taken += 1
        else:
            self._log.info("webhook_in_ignored", event_type=event.type[:64])
        return Response(status_code=200)

    async def _join(self, event: IncomingEvent, size_bytes: int) -> None:
        record = await self._lookup(event.conversation_id)
        log = self._log.bind(event_type=event.type, call_id="" if record is None else record.id)
        if record is None:
            self.figures.unknown_conversations += 1
        elif event.type == TRANSCRIPTION:
            await self._merge(record, read_report(event))
        is_forwarded = self._forward is not None and event.type in self.options.events
        if self._forward is not None and is_forwarded:
            await self._forward(await self._made_ready(event, record, size_bytes))
        log.info("webhook_in_taken", known=record is not None, forwarded=is_forwarded, size_bytes=size_bytes)

    async def _made_ready(self, event: IncomingEvent, record: CallRecord | None, size_bytes: int) -> OutboxEvent:
        redact, now = self.options.redact_numbers, self._unix()
        if event.type != AUDIO:
            if size_bytes > MAX_FORWARDED_BYTES:
                raise _Refused(413, "body too large for an event without audio")
            return forwarded(event, record, now, redact_numbers=redact)
        name = forwarded(event, record, now, redact_numbers=redact).id.removesuffix(f"_{AUDIO}")
        try:
            location = await self._spool.save(name, audio_of(event))
        except BadEvent as problem:
            raise _Refused(400, str(problem)) from None
        except SpoolFull as problem:
            raise _Refused(503, str(problem)) from None
        return forwarded(event, record, now, redact_numbers=redact, audio=location)


def _digest_and_write(verifier: webhook.Verifier | None, body: IO[bytes], piece: bytes) -> None:
    if verifier is not None:
        verifier.update(piece)
    body.write(piece)
