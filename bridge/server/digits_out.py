"""Keys that only the operator may know, posted to the operator's webhook and kept nowhere.

What it is: the one way out for what callers type while ``REDACT_DTMF`` is on. What it is not: the outbox of events
(``bridge.server.outbox``), which writes to the database first. Here digits are in memory only, from the call to the
receiver's 2xx or to the end of their time; then they are gone, and only their number is counted. A process that is
killed loses those on their way.

Theory of operation: the entries of one call are sent one after the other, in the order in which they were typed;
calls are sent side by side, with a bound. A failed attempt is repeated after 0.5, 1, 2, 4, 8, 8 ... seconds, until the
entry is ``give_up_after_s`` old. Entries have ids, so that a receiver can tell a repetition: the answer to the first
attempt may have been lost.

    {"type": "call.digits", "id": "evt_<call id>_call.digits_2", "event_timestamp": 1739537319, "sequence": 2,
     "data": {"call_id": "...", "provider": "twilio", "call_sid": "CA...", "agent_id": "...", "conversation_id": "...",
              "digits": "4711"}}

They are signed like all webhooks (``bridge.auth.webhook``). ``sequence`` counts the entries of the call, from 1.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx
import msgspec

from bridge.auth import webhook
from bridge.server.egress import EgressFailed, EgressRefused, RequestLimits, request
from bridge.server.logs import get_logger
from bridge.server.outbox import Verdict, judge

DIGITS = "call.digits"
"""Type of the event."""

MAX_WAITING = 1_000
"""Entries in memory, all calls together. A process has some hundred calls, and a caller types a number a minute."""
MAX_WAITING_OF_CALL = 50
"""Of one call: a minute at the rate at which the keypad lets entries out, less what a receiver that is up takes."""
FIRST_RETRY_S = 0.5
MAX_RETRY_S = 8.0
"""Between two attempts: somebody waits on the phone for what the digits are to bring about."""
ANSWER_BYTES = 1_024
"""Of the receiver's answer, which nobody looks at."""


@dataclass(frozen=True, slots=True)
class DigitsOptions:
    """Where digits go."""

    url: str = field(default="", repr=False)
    """Empty = nowhere."""
    secret: str = field(default="", repr=False)
    """Signs them; empty = they go out unsigned."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The operator's own; for the URL's own host only."""
    give_up_after_s: float = 60.0
    """From the moment of typing; later nobody waits for them any more."""
    attempt_timeout_s: float = 5.0
    first_retry_s: float = FIRST_RETRY_S
    parallel: int = 20
    """Requests at once; the others wait."""


@dataclass(frozen=True, slots=True, repr=False)
class TypedDigits:
    """One entry of a caller's."""

    digits: str
    call_id: str
    sequence: int
    """Which entry of the call it is, from 1."""
    provider: str = ""
    call_sid: str = ""
    """The carrier's id."""
    agent_id: str = ""
    conversation_id: str = ""

    def __repr__(self) -> str:
        return f"TypedDigits({self.call_id}, {self.sequence})"


@dataclass(slots=True)
class DigitsFigures:
    """Counters since the start, for metrics."""

    delivered: int = 0
    failed_attempts: int = 0
    lost: int = 0
    """Entries that nobody got: too many, too old, or refused for good."""


class _Event(msgspec.Struct, frozen=True):
    type: str
    id: str
    event_timestamp: int
    sequence: int
    data: dict[str, str]


@dataclass(frozen=True, slots=True, repr=False)
class _Entry:
    event_id: str
    body: bytes
    give_up_at_s: float


class DigitsOut:
    """The deliveries of this process. Used inside the event loop; ``stop`` at its end."""

    def __init__(
        self,
        options: DigitsOptions,
        client: httpx.AsyncClient,
        *,
        unix: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``client`` is a guarded one (``egress.guarded_client``)."""
        self.options = options
        """May be replaced at any time; it holds from the next attempt on."""
        self.figures = DigitsFigures()
        self._client = client
        self._unix = unix
        self._monotonic = monotonic
        self._log = get_logger()
        self._lines: dict[str, deque[_Entry]] = {}  # by call; an empty one is never kept
        self._tasks: dict[str, asyncio.Task[None]] = {}  # one for each of them
        self._waiting = 0
        self._room = asyncio.Semaphore(options.parallel)
        self._stopped = False

    def send(self, typed: TypedDigits) -> None:
        """Send an entry soon; returns at once and never raises."""
        if not self.options.url:
            return
        line = self._lines.get(typed.call_id)
        if self._stopped or self._waiting >= MAX_WAITING or len(line or ()) >= MAX_WAITING_OF_CALL:
            self._lose(typed.call_id, "the bridge is stopping" if self._stopped else "too many wait")
            return
        self._waiting += 1
        if line is not None:
            line.append(self._entry(typed))
            return
        line = self._lines[typed.call_id] = deque([self._entry(typed)])
        self._tasks[typed.call_id] = asyncio.create_task(self._deliver(typed.call_id, line))

    async def stop(self, grace_s: float) -> None:
        """Take nothing more, wait for what is under way, then give up the rest."""
        self._stopped = True
        if not self._tasks:
            return
        _, left = await asyncio.wait(self._tasks.values(), timeout=grace_s)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for call_id, line in self._lines.items():
            for _ in line:
                self._lose(call_id, "the bridge is stopping")
        self._lines.clear()
        self._tasks.clear()
        self._waiting = 0

    # --- private ---

    def _entry(self, typed: TypedDigits) -> _Entry:
        event_id = f"evt_{typed.call_id}_{DIGITS}_{typed.sequence}"
        data = {
            "call_id": typed.call_id,
            "provider": typed.provider,
            "call_sid": typed.call_sid,
            "agent_id": typed.agent_id,
            "conversation_id": typed.conversation_id,
            "digits": typed.digits,
        }
        body = msgspec.json.encode(_Event(DIGITS, event_id, int(self._unix()), typed.sequence, data))
        return _Entry(event_id, body, self._monotonic() + self.options.give_up_after_s)

    async def _deliver(self, call_id: str, line: deque[_Entry]) -> None:
        """Send the entries of one call until there are none."""
        while line:
            entry = line[0]
            try:
                if await self._send_one(call_id, entry):
                    self.figures.delivered += 1
                else:
                    self._lose(call_id, "no receiver took it in time")
            except Exception as error:  # without its traceback, whose frames hold the digits
                self._log.error("bug", call_id=call_id, detail=type(error).__name__)
                self._lose(call_id, "the bridge failed on its own")
            line.popleft()
            self._waiting -= 1
        del self._lines[call_id], self._tasks[call_id]

    async def _send_one(self, call_id: str, entry: _Entry) -> bool:
        """Whether somebody took it, sooner or later."""
        retry_s, attempt = self.options.first_retry_s, 0
        while True:
            attempt += 1
            async with self._room:
                verdict = await self._attempt(entry, attempt)
            if verdict.delivered:
                self._log.info("digits_delivered", call_id=call_id, attempt=attempt)
                return True
            self.figures.failed_attempts += 1
            wait_s = max(retry_s, min(verdict.retry_after_s, self.options.give_up_after_s))
            self._log.warning("digits_not_delivered", call_id=call_id, attempt=attempt, detail=verdict.error)
            if verdict.hopeless or self._monotonic() + wait_s >= entry.give_up_at_s:
                return False
            await asyncio.sleep(wait_s)
            retry_s = min(MAX_RETRY_S, retry_s * 2)

    async def _attempt(self, entry: _Entry, attempt: int) -> Verdict:
        options = self.options
        signature = webhook.sign(options.secret, entry.body, self._unix()) if options.secret else ""
        headers = {
            "Content-Type": "application/json",
            **({webhook.HEADER: signature} if signature else {}),
            "Idempotency-Key": entry.event_id,
            "X-Bridge-Event-Id": entry.event_id,
            "X-Bridge-Event-Type": DIGITS,
            "X-Bridge-Attempt": str(attempt),
        }
        limits = RequestLimits(options.attempt_timeout_s, ANSWER_BYTES)
        try:
            answer = await request(
                self._client,
                "POST",
                options.url,
                headers=headers,
                private_headers=options.headers,
                body=entry.body,
                limits=limits,
            )
        except EgressRefused as error:
            return Verdict(False, str(error), hopeless=True)
        except EgressFailed as error:
            return Verdict(False, str(error))
        return judge(answer, self._unix())

    def _lose(self, call_id: str, why: str) -> None:
        self.figures.lost += 1
        self._log.error("digits_lost", call_id=call_id, detail=why)
