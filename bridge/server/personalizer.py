"""Asks the personalization webhook about a call, once, as early as the carrier tells of it.

Theory of operation: ``start`` sends the request at once and returns; ``result`` waits for it when the conversation is
about to begin. The deadline counts from ``start``. A carrier repeats a webhook whose answer got lost, perhaps to
another process, and the media socket may come to a third: so whoever is first leaves a claim in the shared cache under
the call's id, asks, and leaves the outcome there; the others wait for that and never ask themselves. When the cache
does not answer, the process asks on its own: a caller's variables are worth more than one request too many.

A failure is a value (``Failed``), because the operator decides what it means. Nothing here logs an address, a header,
a number or what came back.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import httpx
import msgspec

from bridge.calls.personalization import (
    MAX_ANSWER_BYTES,
    AnswerError,
    PersonalizationRequest,
    encode_request,
    parse_answer,
)
from bridge.convai.messages import InitiationData
from bridge.errors import BridgeError, LocalError
from bridge.server import egress
from bridge.server.logs import get_logger
from bridge.server.trace_spans import RequestTraces

MAX_REMEMBERED = 10_000
"""Calls whose outcome is kept here; beyond it the oldest goes."""

SPAN = "personalization"
"""The request's name in its call's trace."""

LAST_LOOK_S = 0.1
"""At least so long is another process's outcome waited for, even when its clock says that the time is over."""


class SharedCache(Protocol):
    """What processes share; the memory of one process will do where there is only one. May raise ``BridgeError``."""

    async def put_if_absent(self, key: str, value: bytes, ttl_s: float) -> bool:
        """Leave a value unless there is one; whether it was left."""

    async def get(self, key: str) -> bytes | None:
        """The value; None = there is none."""

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Leave a value."""

    async def wait_for(self, key: str, timeout_s: float) -> bytes | None:
        """The value as soon as there is one; None = not in this time."""


@dataclass(frozen=True, slots=True)
class PersonalizerOptions:
    """The operator's choices."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Secret: they go to the URL's own host only."""
    timeout_s: float = 3.0
    """From ``start`` to the outcome, whatever happens."""
    remember_s: float = 600.0
    """How long an outcome is kept: from the answer webhook to the conversation, the time in a queue included."""


class Outcome(enum.Enum):
    """How a request came out; the value is the metrics' label."""

    OK = "ok"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    """No connection, no proper HTTP, or too many redirects."""
    REFUSED = "refused"
    """The address may not be reached: see EGRESS_ALLOW."""
    STATUS = "status"
    """Another status than 2xx."""
    INVALID = "invalid"
    """The answer breaks the contract."""
    LOST = "lost"
    """Another process asked, and never said what came of it."""
    BUG = "bug"


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no personalization for this call."""

    detail: str
    """Why, for the log; holds no number, address or value."""
    outcome: Outcome = Outcome.LOST


Personalization = InitiationData | Failed

OnOutcome = Callable[[Outcome, float], None]
"""Told of every request that this process made: how it came out and how many seconds it took."""


class _Shared(msgspec.Struct, omit_defaults=True):
    """An outcome as other processes read it."""

    data: InitiationData | None = None
    failed: str = ""
    outcome: str = ""


_shared_decoder = msgspec.json.Decoder(_Shared)


@dataclass(frozen=True, slots=True)
class _Entry:
    started_s: float
    outcome: asyncio.Future[Personalization]
    task: asyncio.Task[None]


class Personalizer:
    """The requests of this process. Used inside the event loop; close it with ``aclose``."""

    def __init__(
        self,
        options: PersonalizerOptions,
        client: httpx.AsyncClient,
        cache: SharedCache,
        on_outcome: OnOutcome = lambda outcome, took_s: None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self.options = options
        """May be replaced at any time; requests on their way keep theirs."""
        self.traces: RequestTraces | None = None
        """None = no traces are made."""
        self._client = client
        self._cache = cache
        self.on_outcome = on_outcome
        """Told of every request that this process made."""
        self._monotonic = monotonic
        self._unix = unix
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._log = get_logger()

    def __len__(self) -> int:
        """Calls whose outcome is kept or on its way."""
        return len(self._entries)

    def start(self, call_sid: str, request: PersonalizationRequest, call_id: str = "") -> None:
        """Ask about this call now; harmless when that was done before, by whichever process.

        ``call_id`` is ours, for the call's trace; empty = not known yet, and the request is in no trace.
        """
        now = self._monotonic()
        self._purge(now)
        if call_sid in self._entries:
            return
        outcome: asyncio.Future[Personalization] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._run(outcome, call_sid, request, self.options, call_id))
        self._entries[call_sid] = _Entry(now, outcome, task)

    async def result(self, call_sid: str) -> Personalization:
        """What came of it, at the latest when the time is over. Raises ``LocalError`` without ``start`` before it.

        Whoever waits may be cancelled; the request goes on, for whoever asks again.
        """
        entry = self._entries.get(call_sid)
        if entry is None:
            raise LocalError("nobody has started the personalization of this call")
        return await asyncio.shield(entry.outcome)

    def forget(self, call_sid: str) -> None:
        """The call is over: drop what was kept for it in this process."""
        entry = self._entries.pop(call_sid, None)
        if entry is not None:
            _abandon(entry)

    async def aclose(self) -> None:
        """End all requests."""
        tasks = [entry.task for entry in self._entries.values()]
        for entry in self._entries.values():
            _abandon(entry)
        self._entries.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _purge(self, now: float) -> None:
        """Drop what is too old or too much; entries stand in order of their start."""
        while self._entries:
            oldest = next(iter(self._entries))
            too_old = now - self._entries[oldest].started_s >= self.options.remember_s
            if not too_old and len(self._entries) < MAX_REMEMBERED:
                return
            self.forget(oldest)

    # --- one request ---

    async def _run(
        self,
        outcome: asyncio.Future[Personalization],
        call_sid: str,
        request: PersonalizationRequest,
        options: PersonalizerOptions,
        call_id: str = "",
    ) -> None:
        began_s = self._monotonic()
        key = f"personalization:{call_sid}"
        found: Personalization
        mine = True
        try:
            async with asyncio.timeout(options.timeout_s):
                mine = await self._claim(key, options)
                found = await (self._ask(request, options, call_id) if mine else self._of_another(key, options))
        except TimeoutError:
            found = Failed(f"no answer within {options.timeout_s:g} s", Outcome.TIMEOUT)
        except Exception:  # the call goes on, by the operator's policy for failures
            self._log.exception("bug", call_sid=call_sid)
            found = Failed("the bridge failed; see the traceback in the log", Outcome.BUG)
        outcome.set_result(found)
        if isinstance(found, Failed):
            self._log.warning(
                "personalization_failed", call_sid=call_sid, outcome=found.outcome.value, detail=found.detail
            )
        if mine:
            took_s, problem = self._monotonic() - began_s, found.outcome if isinstance(found, Failed) else Outcome.OK
            self.on_outcome(problem, took_s)
            self._trace(call_id, problem, took_s)
            await self._publish(key, found, options)

    def _trace(self, call_id: str, outcome: Outcome, took_s: float) -> None:
        if self.traces is None or not call_id:
            return
        now_s, problem = self._unix(), "" if outcome is Outcome.OK else outcome.value
        self.traces.requested(call_id, SPAN, began_s=now_s - took_s, ended_s=now_s, problem=problem)

    async def _claim(self, key: str, options: PersonalizerOptions) -> bool:
        """Whether it is for this process to ask."""
        try:
            return await self._cache.put_if_absent(f"{key}:claim", str(self._unix()).encode(), options.remember_s)
        except BridgeError:
            return True

    async def _publish(self, key: str, found: Personalization, options: PersonalizerOptions) -> None:
        shared = (
            _Shared(failed=found.detail, outcome=found.outcome.value)
            if isinstance(found, Failed)
            else _Shared(data=found)
        )
        try:
            await self._cache.put(f"{key}:outcome", msgspec.json.encode(shared), options.remember_s)
        except BridgeError:
            self._log.warning("personalization_not_shared", detail="the shared store does not answer")

    async def _of_another(self, key: str, options: PersonalizerOptions) -> Personalization:
        """The outcome of the process that has the claim; its deadline is that process's."""
        nothing = Failed("another process asked and never said what came of it", Outcome.LOST)
        try:
            left_s = await self._time_left(f"{key}:claim", options.timeout_s)
            answer = await self._cache.wait_for(f"{key}:outcome", left_s)
            if answer is None:
                return nothing
            shared = _shared_decoder.decode(answer)
            return shared.data if shared.data is not None else Failed(shared.failed, Outcome(shared.outcome))
        except (BridgeError, msgspec.DecodeError, ValueError):
            return nothing

    async def _time_left(self, claim: str, timeout_s: float) -> float:
        since = await self._cache.get(claim)
        passed_s = self._unix() - float(since) if since is not None else 0.0
        return min(max(timeout_s - passed_s, LAST_LOOK_S), timeout_s)

    async def _ask(
        self, request: PersonalizationRequest, options: PersonalizerOptions, call_id: str
    ) -> Personalization:
        traced = self.traces.headers(call_id, SPAN) if self.traces is not None and call_id else {}
        try:
            answer = await egress.request(
                self._client,
                "POST",
                options.url,
                headers={"Content-Type": "application/json", "Accept": "application/json", **traced},
                private_headers=options.headers,
                body=encode_request(request),
                limits=egress.RequestLimits(deadline_s=options.timeout_s, max_answer_bytes=MAX_ANSWER_BYTES),
            )
        except egress.EgressRefused as error:
            return Failed(str(error), Outcome.REFUSED)
        except egress.EgressFailed as error:
            timed_out = str(error).startswith(("no answer within", "time-out"))
            return Failed(str(error), Outcome.TIMEOUT if timed_out else Outcome.UNREACHABLE)
        if not 200 <= answer.status < 300:
            return Failed(f"HTTP {answer.status}", Outcome.STATUS)
        if answer.truncated and len(answer.body) >= MAX_ANSWER_BYTES:
            return Failed(f"the answer is longer than {MAX_ANSWER_BYTES} bytes", Outcome.INVALID)
        if answer.truncated:
            return Failed("the answer broke off", Outcome.UNREACHABLE)
        try:
            return parse_answer(answer.body)
        except AnswerError as error:
            return Failed(str(error), Outcome.INVALID)


def _abandon(entry: _Entry) -> None:
    """Nobody needs the outcome any more; whoever waits all the same is told so."""
    entry.task.cancel()
    if not entry.outcome.done():
        entry.outcome.set_result(Failed("the call is over"))
