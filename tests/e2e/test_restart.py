"""A bridge that is killed or hurried while a call is on: what the next one finds, and whom it tells."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import pytest
from sqlalchemy import update

from bridge.calls.record import CallRecord, Recording
from bridge.server.recording.manager import Recorder
from bridge.server.store.calls import CallStore
from bridge.server.store.database import open_database
from bridge.server.store.instances import DEAD_S, Instances
from bridge.server.store.listing import CallFilter
from bridge.server.store.schema import INSTANCES
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_server import AgentServer
from tests.kit import twilio
from tests.kit.caller import WireCaller
from tests.kit.offline import keeping_bridge
from tests.kit.process import bridge_process
from tests.kit.server import Start, until
from tests.kit.webhooks import SECRET, receiver

pytestmark = pytest.mark.e2e

TALK_S = 2.5
"""Longer than a recording may lag behind."""
LOST_S = 2.0


async def records(folder: Path) -> list[CallRecord]:
    """The calls in the database of a bridge that ran, or runs, in this folder."""
    database = open_database(None, folder / "data")
    store = CallStore(database)
    page = await store.page(CallFilter(), None, 10)
    await database.close()
    return page.calls


async def declare_dead(folder: Path) -> None:
    """Let every process that ran in this folder have been silent for too long."""
    database = open_database(None, folder / "data")
    async with database.write() as connection:
        await connection.execute(update(INSTANCES).values(seen_at=time.time() - 2 * DEAD_S))
    await database.close()


async def test_a_killed_bridge_loses_no_call_and_tells_of_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiver() as hooks, AgentServer(AgentOptions(scenario="echo")) as agent:
        settings = {
            "ELEVENLABS_BASE_URL": agent.base_url,
            "RECORDING": "on",
            "WEBHOOK_URL": hooks.url,
            "WEBHOOK_SECRET": SECRET,
            "EGRESS_ALLOW": "127.0.0.1",
        }
        async with bridge_process(tmp_path, **settings) as first, WireCaller(first) as caller:
            await caller.dial_in()
            await caller.talk(b"\x01" * int(8000 * TALK_S))
            await until(lambda: len(hooks.taken) == 2, "its beginning was not told of")
            first.process.kill()
            await first.exited()
            assert await caller.closed() == 1006
        [before] = await records(tmp_path)
        assert before.state == "active"
        await declare_dead(tmp_path)
        monkeypatch.setattr(Instances, "steady", property(lambda _: True))  # it need not get to know the database first
        async with keeping_bridge(tmp_path / "data", settings):
            await until(lambda: len(hooks.taken) == 4, "its end was not told of")
        [after] = await records(tmp_path)
    assert (after.id, after.result, after.reason) == (before.id, "server_error", "instance_lost")
    assert after.recording is not None
    assert after.recording.duration_ms >= (TALK_S - LOST_S) * 1000
    assert (tmp_path / "data" / "recordings" / after.recording.location).is_file()
    assert hooks.problems() == []
    kinds = [kind for _, kind in hooks.events(taken=False)]
    assert kinds == ["call.started", "call.answered", "call.ended", "post_call_transcription"]
    assert len({name for name, _ in hooks.events(taken=False)}) == 4


@pytest.mark.parametrize("hurried", [False, True])
async def test_calls_that_a_stopping_bridge_ends_are_written_to_the_end(tmp_path: Path, hurried: bool) -> None:
    async with (
        AgentServer(AgentOptions(scenario="echo")) as agent,
        bridge_process(
            tmp_path, ELEVENLABS_BASE_URL=agent.base_url, RECORDING="on", DRAIN_TIMEOUT_S="60" if hurried else "0.2"
        ) as at,
        contextlib.AsyncExitStack() as stack,
    ):
        for number in range(3):
            caller = await stack.enter_async_context(WireCaller(at, call_sid=f"CA{number:032x}"))
            await caller.dial_in()
            await caller.send(twilio.media(b"\x01" * 160))
        at.process.send_signal(signal.SIGTERM)
        await until(lambda: at.logged("draining"))
        if hurried:
            at.process.send_signal(signal.SIGTERM)
        assert await at.exited() == 0
    found = await records(tmp_path)
    assert [(record.state, record.reason) for record in found] == [("ended", "draining")] * 3
    for record in found:
        assert record.recording is not None
        assert record.recording.complete, "the recording's end did not reach its record"
        assert (tmp_path / "data" / "recordings" / record.recording.location).is_file()


async def test_an_end_without_a_drain_waits_for_slow_recordings_too(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    finish = Recorder.finish

    async def slowly(self: Recorder, call_id: str) -> Recording:
        await asyncio.sleep(0.3)
        return await finish(self, call_id)

    monkeypatch.setattr(Recorder, "finish", slowly)
    at = await start("echo", RECORDING="on", DATA_DIR=str(tmp_path / "data"))
    async with WireCaller(at) as caller:
        await caller.dial_in()
        await caller.send(twilio.media(b"\x01" * 160))
        at.server.should_exit = True
        await at.task
    [record] = await records(tmp_path)
    assert record.recording is not None
    assert (record.state, record.recording.complete) == ("ended", True)


async def test_a_reload_is_for_new_calls(tmp_path: Path) -> None:
    toml = tmp_path / "bridge.toml"
    toml.write_text('[[routes]]\nnumber = "+15550199"\nagent = "agent_old"\n')
    async with (
        AgentServer(AgentOptions(scenario="echo")) as agent,
        bridge_process(tmp_path, ELEVENLABS_BASE_URL=agent.base_url) as at,
        WireCaller(at) as first,
        WireCaller(at, call_sid="CA00000000000000000000000000000002") as second,
    ):
        await first.dial_in()
        toml.write_text('bridge_max_calls = 5\n[[routes]]\nnumber = "+15550199"\nagent = "agent_new"\n')
        at.process.send_signal(signal.SIGHUP)
        await until(lambda: at.logged("configuration_reloaded"), "the signal was not noticed")
        await second.dial_in()
        assert [line["agent_id"] for line in at.logged("call_started")] == ["agent_old", "agent_new"]
        await first.send(twilio.media(b"\x01" * 160))
        await until(lambda: first.heard == b"\x01" * 160, "the first call does not go on")
        for caller in (first, second):
            await caller.send(twilio.STOP)
            await caller.closed()
        toml.write_text("bridge_max_calls = none\n")
        at.process.send_signal(signal.SIGHUP)
        await until(lambda: at.logged("configuration_rejected"), "a bad file was not noticed")
        at.process.send_signal(signal.SIGTERM)
        assert await at.exited() == 0
