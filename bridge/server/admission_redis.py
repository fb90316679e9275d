"""Call slots that several processes share through Redis: one atomic script (``admission.lua``), leases, Redis' time.

Decisions and returns that come while the script runs are put together and go as one next call, in the order in which
they came. So a call's return never overtakes its take, and a flood of calls costs one round trip per sixty-four.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import msgspec

from bridge import outcome
from bridge.calls.admission import MS_PER_MINUTE, Ask, Counts, Granted, Refused, Verdict, Waiting, explain
from bridge.server.admission_memory import QueueOptions
from bridge.server.logs import get_logger
from bridge.server.redis_client import RedisLink, Script
from bridge.server.slot_store import MAX_AGENTS_SHOWN, HeldCall, Release, Renewal, StoreDown, Usage

SCRIPT = Script(files("bridge.server").joinpath("admission.lua").read_text("utf-8"))

MAX_BATCH = 64
"""Decisions in one run of the script; it takes about a millisecond then, for which Redis serves nobody else."""
RENEWALS_PER_RUN = 250
"""Leases renewed in one run, for the same reason."""

_REASONS = {
    1: outcome.AGENT_DAILY_LIMIT,
    2: outcome.AGENT_CAPACITY,
    3: outcome.CAPACITY,
    4: outcome.RATE_LIMITED,
}
_BURST, _WAITING, _REFUSED = 1, 10, 20
"""Status of a decision: see ``take`` in the script."""


@dataclass(frozen=True, slots=True)
class RedisSlotOptions:
    """Who asks, and how long slots outlive their process."""

    instance_id: str
    """This process; another one has another."""
    lease_s: float = 16.0
    """A dead process's slots are free after so long; two renewals in a row may fail before a living one's are."""
    queue: QueueOptions = QueueOptions()
    remember_s: float = 60.0
    """How long a call that was given back cannot be renewed by a process that had it before."""


@dataclass(slots=True)
class _Item:
    item: tuple[str, Ask | Release]
    answer: asyncio.Future[Any]


class RedisSlots:
    """A ``SlotStore``. Made inside the event loop."""

    def __init__(self, link: RedisLink, options: RedisSlotOptions) -> None:
        self._link = link
        self._header = msgspec.msgpack.encode(
            (
                options.instance_id,
                int(options.lease_s * 1000),
                int(options.queue.waiter_ttl_s * 1000),
                options.queue.max_waiting,
                int(options.remember_s * 1000),
                MAX_AGENTS_SHOWN,
            )
        )
        self._pending: list[_Item] = []
        self._sender: asyncio.Task[None] | None = None
        self._epoch = 0
        self._usage = Usage(store="redis")

    @property
    def epoch(self) -> int:
        """See ``SlotStore``."""
        return self._epoch

    def usage(self) -> Usage:
        """See ``SlotStore``."""
        return self._usage

    async def take(self, wanted: Ask) -> Verdict:
        """See ``SlotStore``."""
        status, position, *numbers, waiting = await self._result(self._enqueue(("t", wanted)))
        if status <= _BURST:
            return Granted(status == _BURST)
        counts = Counts(*numbers)
        if status < _REFUSED:
            return Waiting(position, _REASONS[status - _WAITING])
        reason = _REASONS[status - _REFUSED]
        return Refused(reason, explain(reason, wanted, counts, waiting))

    async def give_back(self, released: Sequence[Release]) -> None:
        """See ``SlotStore``."""
        for item in [self._enqueue(("r", release)) for release in released]:
            await self._result(item)

    async def renew(self, calls: Sequence[HeldCall], day: str, burst_ms: int) -> Renewal:
        """See ``SlotStore``."""
        lost: set[str] = set()
        chunks = [calls[start : start + RENEWALS_PER_RUN] for start in range(0, len(calls), RENEWALS_PER_RUN)] or [()]
        for number, chunk in enumerate(chunks, 1):
            # The burst time goes with the last, so that a failure between two does not report it twice.
            spent_ms = burst_ms if number == len(chunks) else 0
            packed = msgspec.msgpack.encode(chunk)
            answer = await self._link.script(SCRIPT, b"renew", self._header, packed, day, spent_ms)
            lost.update(call_id.decode() for call_id in answer[1])
        self._epoch, _, instances, in_use, burst, batch, waiting, spent_ms, agents = answer
        names = (name.decode("utf-8", "replace") for name in agents[::2])
        self._usage = Usage(
            store="redis",
            calls=in_use,
            burst=burst,
            batch=batch,
            waiting=waiting,
            instances=instances,
            burst_minutes_today=spent_ms / MS_PER_MINUTE,
            agents=dict(zip(names, agents[1::2], strict=True)),
        )
        return Renewal(frozenset(lost), self._epoch, instances)

    async def leave(self) -> None:
        """See ``SlotStore``."""
        await self._link.script(SCRIPT, b"leave", self._header)

    # --- many decisions in one run ---

    def _enqueue(self, item: tuple[str, Ask | Release]) -> _Item:
        queued = _Item(item, asyncio.get_running_loop().create_future())
        self._pending.append(queued)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return queued

    async def _result(self, item: _Item) -> Any:
        answer = await item.answer
        if isinstance(answer, StoreDown):
            raise answer
        return answer

    async def _send(self) -> None:
        while self._pending:
            batch, self._pending = self._pending[:MAX_BATCH], self._pending[MAX_BATCH:]
            for queued, answer in zip(batch, await self._serve(batch), strict=True):
                if not queued.answer.done():  # else its caller has gone
                    queued.answer.set_result(answer)
        self._sender = None

    async def _serve(self, batch: list[_Item]) -> Sequence[Any]:
        """The answers, or as many times ``StoreDown``."""
        try:
            items = msgspec.msgpack.encode([queued.item for queued in batch])
            answer = await self._link.script(SCRIPT, b"serve", self._header, items)
            self._epoch, calls, burst, batch_calls, waiting, answers = answer
            self._usage = replace(self._usage, calls=calls, burst=burst, batch=batch_calls, waiting=waiting)
            return tuple(answers)
        except StoreDown as problem:
            return [StoreDown(str(problem)) for _ in batch]
        except Exception:  # a bug must not leave callers waiting for ever
            get_logger().exception("bug", where="admission")
            return [StoreDown("bug") for _ in batch]
