"""The disk of the records is full: calls go on, and what was to be written is when there is room again."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_server import AgentServer
from tests.kit import twilio, webhooks
from tests.kit.audio import numbered
from tests.kit.caller import WireCaller
from tests.kit.cluster import until, until_true
from tests.kit.process import ProcessBridge, bridge_process

pytestmark = pytest.mark.e2e

KEY = "key_of_the_tests"
NOTICED_S = 10.0
BACK_S = 15.0
"""Pauses between attempts to write grow to five seconds."""
CALLS = tuple(f"CA{number:032x}" for number in range(1, 5))


@contextlib.contextmanager
def full_disk(at: ProcessBridge, folder: Path) -> Iterator[None]:
    """No file of the process can grow any more (``RLIMIT_FSIZE``), as on a disk without room."""
    before = resource.prlimit(at.process.pid, resource.RLIMIT_FSIZE)
    largest = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    resource.prlimit(at.process.pid, resource.RLIMIT_FSIZE, (largest, before[1]))
    yield
    resource.prlimit(at.process.pid, resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_delays_records_and_nothing_else(tmp_path: Path) -> None:
    async with (
        AgentServer(AgentOptions(scenario="echo")) as agent,
        webhooks.receiver() as receiver,
        bridge_process(
            tmp_path,
            ELEVENLABS_BASE_URL=agent.base_url,
            BRIDGE_API_KEY=KEY,
            DATA_DIR=str(tmp_path / "data"),
            WEBHOOK_URL=receiver.url,
            WEBHOOK_SECRET=webhooks.SECRET,
            EGRESS_ALLOW="127.0.0.0/8",
        ) as at,
        WireCaller(at, call_sid=CALLS[0]) as caller,
        httpx.AsyncClient(base_url=at.http_url, headers={"X-API-Key": KEY}, trust_env=False) as operator,
    ):

        async def is_in_trouble() -> bool:
            state: str = (await operator.get("/readyz")).json()["database"]
            return state != "ok"

        async def have_ended(*call_sids: str) -> bool:
            listed: list[dict[str, Any]] = (await operator.get("/v1/calls")).json()["calls"]
            return {call["call_sid"] for call in listed if call["ended_at"] is not None} == set(call_sids)

        await caller.dial_in()
        with full_disk(at, tmp_path / "data"):
            for call_sid in CALLS[1:]:
                async with WireCaller(at, call_sid=call_sid) as other:
                    await other.dial_in()
                    await other.send(twilio.STOP)
                    assert await other.closed() == 1000
            await until_true(is_in_trouble, "nobody notices", NOTICED_S)
            await until(lambda: at.logged("database_failed"), "it is not logged")
            await caller.say(numbered(1600))
            await until(lambda: caller.heard == numbered(1600), "the call does not go on")
            assert await have_ended()
        await caller.send(twilio.STOP)
        assert await caller.closed() == 1000
        await until_true(lambda: have_ended(*CALLS), "records are missing", BACK_S)
        await until(lambda: len(_ends(receiver)) == len(CALLS), "events are missing", BACK_S)
        assert not await is_in_trouble()
        assert receiver.problems() == []
        assert sorted(_ends(receiver)) == sorted(CALLS)
        metrics = (await operator.get("/metrics")).text
        assert "bridge_records_lost_total 0.0" in metrics
        assert "bridge_webhook_events_lost_total 0.0" in metrics


def _ends(receiver: webhooks.Receiver) -> list[str]:
    events = [request.event for request in receiver.taken]
    return [event["data"]["call_sid"] for event in events if event["type"] == "call.ended"]
