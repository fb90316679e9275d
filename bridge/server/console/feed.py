"""The live calls for everybody who watches: looked at once a second, told as changes, encoded once for all consoles.

Theory of operation: while anybody watches, ``Feed`` reads the register of live calls each second, looks at the calls
of this process (``bridge.server.console.pulse``), and makes one message of what has changed since the last look: rows
that are new or changed, pulses, rows that are gone, the gauges. Whoever has seen the message before gets this one;
whoever has not (a new console, one whose connection was slow) gets everything, which is encoded once and kept until
the next change. So no console has a queue, and fifty cost hardly more than one. The look is taken in slices, so that a
thousand calls do not hold up the audio of any.

The messages have two forms: numbers as they are for admins, masked for those who may only read.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import msgspec

from bridge.calls.redact import redact_number
from bridge.server.console.pulse import Glances, Pulse
from bridge.server.live_calls import LiveCall
from bridge.server.service import Bridge
from bridge.server.store.faults import describe

LOOK_EVERY_S = 1.0
"""As fresh as a person looks at it."""
SLICE_CALLS = 100
"""Calls looked at before others get their turn: about half a millisecond."""
MAX_SHOWN = 5_000
"""Calls that consoles are told of; a page of more is of no use, and the message stays below a megabyte."""


@dataclass(slots=True)
class _Row:
    """A call on the consoles."""

    key: int
    """Stands for the call in messages."""
    call: LiveCall
    pulse: Pulse


@dataclass(slots=True)
class _Change:
    """What has changed with one look."""

    rows: list[_Row] = field(default_factory=list)
    pulses: list[_Row] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)


class Feed:
    """See the module. Made inside the event loop."""

    def __init__(self, bridge: Bridge, gauges: Callable[[], dict[str, Any]], unix: Callable[[], float] = time.time):
        self._bridge = bridge
        self._gauges = gauges
        self._unix = unix
        self._watchers = 0
        self._task: asyncio.Task[None] | None = None
        self._glances = Glances()
        self._rows: dict[str, _Row] = {}  # by instance and call id
        self._next_key = 1
        self._shown_gauges: dict[str, Any] = {}
        self._hidden = 0  # 1 = there are calls beyond MAX_SHOWN
        self._messages: dict[bool, bytes] = {}  # the latest change, by whether numbers are masked
        self._whole: dict[bool, bytes] = {}  # everything, likewise; made when somebody asks
        self._looked = asyncio.Event()
        self.number = 0
        """Counts the looks; 0 = there was none yet."""

    @property
    def watchers(self) -> int:
        """Consoles that watch."""
        return self._watchers

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """While somebody is in here, it is looked."""
        self._watchers += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers and self._task is not None:
                self._task.cancel()
                self._task = None
                self._forget()

    async def after(self, number: int, timeout_s: float) -> None:
        """Wait for a look later than this one, with a bound."""
        if self.number == number or not self.number:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._looked.wait()

    def message(self, seen: int, *, masked: bool) -> bytes:
        """What a console that has seen look ``seen`` must be told: JSON; empty = nothing."""
        if seen == self.number:
            return b""
        if seen and seen == self.number - 1:
            return self._messages.get(masked, b"")
        if masked not in self._whole:
            everything = _Change(rows=list(self._rows.values()))
            self._whole[masked] = self._encode(everything, self._shown_gauges, masked=masked, whole=True)
        return self._whole[masked]

    async def _run(self) -> None:
        next_s = monotonic()
        while True:
            try:
                await self.look()
            except Exception as error:  # whatever is away, the consoles must go on when it is back
                self._bridge.log.warning("console_look_failed", detail=describe(error))
            next_s = max(next_s + LOOK_EVERY_S, monotonic())
            await asyncio.sleep(next_s - monotonic())

    async def look(self) -> None:
        """One look."""
        change = _Change()
        calls = await self._bridge.live.all(MAX_SHOWN + 1)
        self._hidden = max(0, len(calls) - MAX_SHOWN)
        before, self._rows = self._rows, {}
        rows = self._rows
        for place, call in enumerate(calls[:MAX_SHOWN]):
            if place % SLICE_CALLS == SLICE_CALLS - 1:
                await asyncio.sleep(0)
            name = f"{call.instance_id}/{call.call_id}"
            rows[name] = self._look_at(before.get(name), call, change)
        for name, row in before.items():
            if name not in rows:
                change.gone.append(row.key)
                session = self._bridge.sessions.get(row.call.call_id)
                if session is not None:
                    self._glances.forget(session)
        self._tell(change)

    def _look_at(self, row: _Row | None, call: LiveCall, change: _Change) -> _Row:
        session = self._bridge.sessions.get(call.call_id) if call.instance_id == self._bridge.instance_id else None
        pulse = Pulse(call.state) if session is None else self._glances.pulse(session, monotonic())
        if row is None:
            row = _Row(self._next_key, call, pulse)
            self._next_key += 1
            change.rows.append(row)
        elif row.call is not call and row.call != call:
            row.call, row.pulse = call, pulse
            change.rows.append(row)
        elif row.pulse != pulse:
            row.pulse = pulse
            change.pulses.append(row)
        return row

    def _tell(self, change: _Change) -> None:
        fresh = {**self._gauges(), "hidden": self._hidden}
        changed = {name: value for name, value in fresh.items() if self._shown_gauges.get(name) != value}
        self._shown_gauges = fresh
        self.number += 1
        self._whole.clear()
        plain = self._encode(change, changed)
        # Only rows hold numbers: without any, both forms are the same.
        self._messages = {False: plain, True: self._encode(change, changed, masked=True) if change.rows else plain}
        looked, self._looked = self._looked, asyncio.Event()
        looked.set()

    def _encode(self, change: _Change, gauges: dict[str, Any], *, masked: bool = False, whole: bool = False) -> bytes:
        message: dict[str, Any] = {"now": round(self._unix(), 2)}
        if whole:
            message["whole"] = True
        if change.rows:
            message["rows"] = [self._row(row, masked) for row in change.rows]
        if change.pulses:
            message["pulses"] = [_pulse(row) for row in change.pulses]
        if change.gone:
            message["gone"] = change.gone
        if gauges:
            message["gauges"] = gauges
        return msgspec.json.encode(message)

    def _row(self, row: _Row, masked: bool) -> list[Any]:
        call, number = row.call, redact_number if masked else str
        here = call.instance_id == self._bridge.instance_id
        return [
            *_pulse(row),
            call.call_id,
            call.provider,
            call.direction,
            number(call.caller),
            number(call.called),
            call.agent_id,
            int(call.is_burst),
            round(call.started_at, 1),
            "" if here else call.instance_id,
        ]

    def _forget(self) -> None:
        """Nobody watches any more: the next one begins anew."""
        self.number = 0
        self._glances.close()
        self._rows.clear()
        self._messages.clear()
        self._whole.clear()
        self._shown_gauges = {}


def _pulse(row: _Row) -> list[Any]:
    pulse = row.pulse
    return [row.key, pulse.state, pulse.speaks, pulse.caller_level, pulse.agent_level, pulse.response_ms]
