"""The delivery of webhook events: takes them out of the outbox and sends them until the receiver has them.

Theory of operation: one worker a process. It claims what is due (``store.outbox``), sends some events at once, and
waits to be told (``notify``) or for its poll. A claim is a lease that the worker renews while it sends; a process that
is killed loses its claims when their lease is over, and another one, or the next, sends those events again under
their old ids. Whatever goes wrong, the database or the receiver, is tried again; nothing is dropped silently.

What an answer means:

- 2xx: delivered, whatever the body is.
- 410 Gone: given up at once; the receiver says that it wants no more of it.
- Everything else, redirects that cannot be followed and connections that fail included: tried again after 1, 2, 4, ...
  seconds, up to 15 minutes between two attempts, or after what ``Retry-After`` says, up to an hour. 4xx too: most are
  a receiver that is being set up or deployed.
- No success within ``give_up_after_s``, or a recording that stays missing: given up. Such an event is dead: it stays
  in the outbox, the call's later events go on, and ``bridge webhooks replay`` sends it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from bridge.auth import webhook
from bridge.calls.record import OutboxEvent
from bridge.errors import BridgeError
from bridge.server.egress import Answer, BodySource, EgressFailed, EgressRefused, RequestLimits, request
from bridge.server.logs import get_logger
from bridge.server.outbox_audio import AudioMissing, AudioOpener, audio_event
from bridge.server.outbox_headers import RESERVED_HEADERS, event_headers, span_of
from bridge.server.store.faults import describe
from bridge.server.store.outbox import Claimed, EventState, Outcome
from bridge.server.trace_spans import RequestTraces

MAX_RETRY_S = 900.0
"""Between two attempts: a receiver that is up again after hours gets everything within a quarter of an hour."""
MAX_RETRY_AFTER_S = 3_600.0
"""The longest wait that a receiver can ask for."""
GATHER_S = 0.01
"""After the first of several attempts has ended: those that end meanwhile are written down in the same transaction."""
DATABASE_RETRY_S = 1.0
DATABASE_RETRY_MAX_S = 10.0

GONE = 410


@dataclass(frozen=True, slots=True)
class OutboxOptions:
    """Where events go, and how persistently."""

    url: str = field(repr=False)
    secret: str = field(repr=False)
    """Signs every event; empty = they go out unsigned. One only: the vendor's receivers look at one signature. To
    change it, let the receiver take both, then change it here."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The operator's own; they may hold keys, so they go to the URL's own host only, and not on with a redirect."""
    give_up_after_s: float = 86_400.0
    min_attempts: int = 10
    """Attempts before an event is given up for its age: a bridge that was down for a day tries its old events too."""
    parallel: int = 20
    """Events that are sent at once; more only help when the receiver is slow, and cost memory."""
    poll_s: float = 1.0
    """For what other processes stored, and for retries that come due."""
    lease_s: float = 20.0
    """How long the events of a process that was killed wait until they are sent again."""
    renew_s: float = 5.0
    stop_grace_s: float = 10.0
    """For deliveries that are under way when the worker is to stop."""
    limits: RequestLimits = field(default_factory=RequestLimits)
    audio_deadline_s: float = 600.0
    """In place of ``limits.deadline_s`` for an event with audio."""
    missing_audio_attempts: int = 10
    """Attempts to find a recording, a quarter of an hour, before its event is given up: another instance may have it
    in a folder of its own and take the next attempt, or be about to put it into the bucket."""

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for an operator's header that the bridge sets itself."""
        own = sorted(name for name in self.headers if name.lower() in RESERVED_HEADERS)
        if own:
            raise ValueError(f"these headers are the bridge's own: {', '.join(own)}")


@dataclass(slots=True)
class OutboxFigures:
    """Counters since the start, for metrics."""

    delivered: int = 0
    failed_attempts: int = 0
    dead: int = 0
    database_errors: int = 0
    in_flight: int = 0


class Outbox(Protocol):
    """What the worker needs of ``store.outbox.OutboxStore``; all of it may raise."""

    async def claim(self, owner: str, limit: int, lease_s: float) -> list[Claimed]:
        """See there."""

    async def renew(self, owner: str, ids: Sequence[str], lease_s: float) -> None:
        """See there."""

    async def release(self, owner: str, ids: Sequence[str]) -> None:
        """See there."""

    async def settle(self, owner: str, outcomes: Sequence[Outcome]) -> None:
        """See there."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one attempt."""

    delivered: bool
    error: str = ""
    hopeless: bool = False
    retry_after_s: float = 0.0
    """What the receiver asked for; 0 = nothing."""


def retry_delay_s(attempt: int, chance: float, retry_after_s: float = 0.0) -> float:
    """Seconds until the next attempt after the ``attempt``-th failed (from 1). ``chance`` is in 0..1.

    A quarter more or less by chance, so that the events of one outage do not come back in step.
    """
    doubled_s = min(MAX_RETRY_S, 2.0 ** min(attempt - 1, 20))
    own_s = min(MAX_RETRY_S, doubled_s * (0.75 + 0.5 * chance))
    return max(own_s, min(retry_after_s, MAX_RETRY_AFTER_S))


def judge(answer: Answer, unix_s: float) -> Verdict:
    """What an answer means for its event."""
    if 200 <= answer.status < 300:
        return Verdict(delivered=True)
    wait_s = _retry_after_s(answer.headers.get("retry-after", ""), unix_s)
    return Verdict(False, f"HTTP {answer.status}", hopeless=answer.status == GONE, retry_after_s=wait_s)


def _retry_after_s(text: str, unix_s: float) -> float:
    """Seconds, or the time until an HTTP date; 0 for what is neither (RFC 9110, section 10.2.3)."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - unix_s)
    except (ValueError, OverflowError):
        return 0.0


class OutboxWorker:
    """Delivers the events of one database. ``run`` in a task, ``stop`` from the same loop."""

    def __init__(
        self,
        store: Outbox,
        client: httpx.AsyncClient,
        options: OutboxOptions,
        *,
        owner: str,
        open_audio: AudioOpener,
        unix: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``client`` is a guarded one (``egress.guarded_client``); ``owner`` names this process and no other, ever."""
        self.options = options
        """May be replaced while the worker runs: a changed secret or URL holds from the next attempt on."""
        self.figures = OutboxFigures()
        self.traces: RequestTraces | None = None
        """None = no traces are made."""
        self._store = store
        self._client = client
        self._owner = owner
        self._open_audio = open_audio
        self._unix = unix
        self._chance = chance
        self._log = get_logger()
        self._wake = asyncio.Event()
        self._stopping = False
        self._database_waits_s = 0.0
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._attempted: dict[str, tuple[Claimed, Verdict]] = {}

    # --- life ---

    def notify(self) -> None:
        """Something was stored: look at once."""
        self._wake.set()

    def stop(self) -> None:
        """Begin nothing more; ``run`` ends when what is under way has ended or its grace is over."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Deliver until ``stop``. Cancelling it ends deliveries at once; claims are given back either way."""
        renewing = asyncio.create_task(self._renew())
        try:
            while not self._stopping:
                await self._step()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.options.stop_grace_s):
                    while self._sending or self._attempted:
                        await self._step()
        finally:
            renewing.cancel()
            await self._give_back()

    async def _step(self) -> None:
        """Write down what has ended, begin what is due, and wait until there is more to do."""
        self._wake.clear()
        wait_s = self.options.poll_s
        try:
            await self._settle()
            if not self._stopping:
                await self._take()
            self._database_waits_s = 0.0
        except Exception as error:  # whatever a database can raise: the outbox goes on when it is back
            self._database_failed("settle" if self._attempted else "claim", error)
            await asyncio.sleep(self._database_waits_s)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        if self._attempted:
            await asyncio.sleep(GATHER_S)

    async def _take(self) -> None:
        """Claim what is due, as far as there is room, and begin to send it."""
        room = self.options.parallel - len(self._sending)
        if room <= 0:
            return
        for item in await self._store.claim(self._owner, room, self.options.lease_s):
            self._sending[item.event.id] = asyncio.create_task(self._deliver(item))
        self.figures.in_flight = len(self._sending)

    async def _renew(self) -> None:
        """Keep the claims of what takes long."""
        while True:
            await asyncio.sleep(self.options.renew_s)
            held = [*self._sending, *self._attempted]
            if not held:
                continue
            try:
                await self._store.renew(self._owner, held, self.options.lease_s)
            except Exception as error:
                self._database_failed("renew", error)

    async def _give_back(self) -> None:
        """End what is still under way and release its claims."""
        tasks = list(self._sending.values())
        left = list(self._sending)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._settle()
            if left:
                await self._store.release(self._owner, left)
        except Exception as error:  # their leases run out by themselves
            self._database_failed("release", error)

    def _database_failed(self, what: str, error: Exception) -> None:
        """Count and log an error of the database, and leave it alone for longer each time."""
        self.figures.database_errors += 1
        self._database_waits_s = min(DATABASE_RETRY_MAX_S, max(DATABASE_RETRY_S, self._database_waits_s * 2))
        self._log.error("webhook_database_error", step=what, detail=describe(error), retry_in_s=self._database_waits_s)

    # --- one delivery ---

    async def _deliver(self, claimed: Claimed) -> None:
        began_s = self._unix()
        try:
            verdict = await self._attempt(claimed)
        except Exception:
            self._log.exception("bug", event_id=claimed.event.id)
            verdict = Verdict(False, "the bridge failed on its own; see its log")
        if self.traces is not None:
            event, ended_s = claimed.event, self._unix()
            name, key = span_of(claimed)
            self.traces.requested(event.call_id, name, key, began_s=began_s, ended_s=ended_s, problem=verdict.error)
        del self._sending[claimed.event.id]
        self._attempted[claimed.event.id] = claimed, verdict
        self.figures.in_flight = len(self._sending)
        self._wake.set()

    async def _attempt(self, claimed: Claimed) -> Verdict:
        options, event = self.options, claimed.event
        body: bytes | BodySource = event.body
        limits = options.limits
        try:
            if event.audio:
                body = self._audio_body(event)
                limits = RequestLimits(options.audio_deadline_s, limits.max_answer_bytes, limits.max_redirects)
            async with asyncio.timeout(limits.deadline_s):
                signature = await self._signature(body)
            answer = await request(
                self._client,
                "POST",
                options.url,
                headers={**event_headers(claimed, signature), **self._trace_headers(claimed)},
                private_headers=options.headers,
                body=body,
                limits=limits,
            )
        except AudioMissing as error:
            return Verdict(False, str(error), hopeless=claimed.attempt >= options.missing_audio_attempts)
        except (EgressRefused, EgressFailed) as error:
            return Verdict(False, str(error))
        except TimeoutError:
            return Verdict(False, "the recording could not be read in time")
        except (OSError, BridgeError) as error:
            return Verdict(False, f"the recording cannot be read: {type(error).__name__}")
        return judge(answer, self._unix())

    def _trace_headers(self, claimed: Claimed) -> dict[str, str]:
        return {} if self.traces is None else self.traces.headers(claimed.event.call_id, *span_of(claimed))

    def _audio_body(self, event: OutboxEvent) -> BodySource:
        def source() -> AsyncIterator[bytes]:
            return audio_event(event.body, self._open_audio(event.audio))

        return source

    async def _signature(self, body: bytes | BodySource) -> str:
        """Made anew for every attempt: its time has to be fresh. Empty without a secret."""
        if not self.options.secret:
            return ""
        mac = webhook.signer(self.options.secret, self._unix())
        if isinstance(body, bytes):
            mac.update(body)
        else:
            async for piece in body():
                mac.update(piece)
        return mac.header()

    # --- what came of it ---

    async def _settle(self) -> None:
        """Write down how attempts went. What cannot be written keeps its claim and is written later."""
        ended = list(self._attempted.values())
        if not ended:
            return
        outcomes = [self._outcome(claimed, verdict) for claimed, verdict in ended]
        await self._store.settle(self._owner, outcomes)
        for (claimed, _), outcome in zip(ended, outcomes, strict=True):
            del self._attempted[claimed.event.id]
            self._report(claimed, outcome)

    def _outcome(self, claimed: Claimed, verdict: Verdict) -> Outcome:
        """What becomes of the event now."""
        if verdict.delivered:
            return Outcome(event=claimed.event, state="delivered")
        options = self.options
        delay_s = retry_delay_s(claimed.attempt, self._chance(), verdict.retry_after_s)
        too_old = claimed.attempt >= options.min_attempts and claimed.age_s + delay_s > options.give_up_after_s
        state: EventState = "dead" if verdict.hopeless or too_old else "pending"
        return Outcome(event=claimed.event, state=state, error=verdict.error, retry_in_s=delay_s)

    def _report(self, claimed: Claimed, outcome: Outcome) -> None:
        event, figures = claimed.event, self.figures
        log = self._log.bind(event_id=event.id, event_type=event.type, call_id=event.call_id, attempt=claimed.attempt)
        if outcome.state == "delivered":
            figures.delivered += 1
            log.info("webhook_delivered")
            return
        figures.failed_attempts += 1
        if outcome.state == "pending":
            log.warning("webhook_failed", detail=outcome.error, retry_in_s=round(outcome.retry_in_s, 1))
            return
        figures.dead += 1
        advice = f"Mend the receiver, then run: bridge webhooks replay {event.id}"
        log.error("webhook_dead", detail=outcome.error, advice=advice)
