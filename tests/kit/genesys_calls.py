"""Genesys calls to a bridge that listens: the strict simulated client, with the addresses and keys the tests use."""

from __future__ import annotations

import asyncio
from typing import Any

from bridge.calls.record import CallRecord
from bridge.simulators.genesys_caller import GenesysCall, GenesysCallOptions
from bridge.simulators.genesys_person import AnyAction
from bridge.simulators.genesys_result import GenesysResult
from bridge.simulators.twilio_line import HangUp, Silence, WaitForClose
from tests.kit.server import DEADLINE_S, Place, RunningBridge, until

API_KEY = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"
SECRET = "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU="
ORGANIZATION = "d7934305-0972-4844-938e-9060eef73d05"
KEYS: Any = {"GENESYS_API_KEY": API_KEY}
SIGNED: Any = {**KEYS, "GENESYS_CLIENT_SECRET": SECRET}
"""Settings of a bridge that lets Genesys in, to be given with ``**`` beside arguments of other types."""

SHORT: tuple[AnyAction, ...] = (Silence(ms=400), HangUp())
"""A caller who hangs up soon."""
PATIENT: tuple[AnyAction, ...] = (WaitForClose(),)
"""A caller who waits for the other side to end it."""


def options_for(at: Place, *actions: AnyAction, agent: str = "agent_1", **more: Any) -> GenesysCallOptions:
    """A call to this agent on this bridge, unsigned unless ``more`` has a secret."""
    base = at.http_url.replace("http", "ws", 1)
    given = {"to": f"{base}/genesys/", "connector_id": agent, "api_key": API_KEY, "max_duration_s": 30.0, **more}
    return GenesysCallOptions(actions=actions or PATIENT, **given)


async def dial(at: Place, *actions: AnyAction, **more: Any) -> GenesysResult:
    """Make one call to its end."""
    return await GenesysCall(options_for(at, *actions, **more)).run()


class Dialled:
    """A call that goes on beside the test. Always awaited at the end: ``async with``."""

    def __init__(self, at: Place, *actions: AnyAction, **more: Any) -> None:
        self.call = GenesysCall(options_for(at, *actions, **more))
        self._task: asyncio.Task[GenesysResult] | None = None

    async def __aenter__(self) -> Dialled:
        self._task = asyncio.create_task(self.call.run())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._task is not None
        if error[0] is not None:
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def sounds(self) -> bool:
        """Whether the session is open."""
        line = self.call.line
        return line is not None and line.session.opened_s is not None

    async def result(self) -> GenesysResult:
        """Wait for the end."""
        assert self._task is not None
        return await self._task


def assert_proper(result: GenesysResult, path: str = "success", *, gaps: int = 0) -> None:
    """No rule of the protocol was broken, the flow goes on along this path, and the caller heard no gap.

    ``gaps`` allows for as many: an echo has one at its beginning, and so has hold audio.
    """
    assert result.breaches == [], result.to_text()
    assert result.architect_path == path, result.to_text()
    assert len(result.gaps) <= gaps, result.to_text()
    assert all(barge_in.late_bytes == 0 for barge_in in result.barge_ins)


def told(result: GenesysResult) -> dict[str, str]:
    """The output variables of ``disconnect``; Architect assigns them on the success path only."""
    assert result.disconnect is not None, result.to_text()
    return result.disconnect.output_variables


async def ended(at: RunningBridge, count: int = 1) -> list[str]:
    """Wait until so many calls have ended and nothing of them is left; returns how they ended."""
    await until(lambda: len(at.logged("call_ended")) >= count, f"not {count} ended")
    await at.bridge.wait_partings(DEADLINE_S)
    assert not at.bridge.parting
    assert not at.bridge.sessions
    assert at.active == 0
    assert at.bridge.live.here() == []
    return [f"{line['result']}/{line['reason']}" for line in at.logged("call_ended")]


async def record_of(at: RunningBridge, result: GenesysResult) -> CallRecord:
    """The stored call of this session."""
    [record] = [record for record in await at.records() if record.stream_id == result.session_id]
    return record
