"""What a list of calls costs: ``GET /v1/calls`` over HTTP with many calls stored, in SQLite as ``bridge serve`` has it.

The calls are put into a database of its own, then a bridge is started on it and asked as an operator's page asks. The
time is the client's, from the request to the last byte.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from bridge.bench.figures import Spread, spread
from bridge.bench.process import ServerProcess, free_port, pinned, plan_cores, wait_for_port
from bridge.bench.runner import READY_REQUEST, READY_TIMEOUT_S, server_environment
from bridge.calls.journal import Journal
from bridge.calls.record import CallRecord, LatencySummary
from bridge.calls.stats import CallStats
from bridge.server.store.calls import CallStore
from bridge.server.store.database import open_database

STORED_CALLS = 10_000
PAGE_CALLS = 50
"""The API's own default: a screen."""
BATCH_CALLS = 500
"""Written in one transaction while the database is filled."""
CALL_EVERY_S = 60.0
TURNS = 20
"""Of each call: a conversation of three minutes."""
AGENTS = 20
WARM_UP_REQUESTS = 5
REQUEST_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class ListFigures:
    """Milliseconds a page."""

    stored_calls: int
    page_calls: int
    first_page_ms: Spread
    """The newest calls, asked for again and again."""
    each_page_ms: Spread
    """Every page from the newest to the oldest, by cursor."""
    filtered_page_ms: Spread
    """The first page of one agent's failed calls, agent by agent."""
    one_call_ms: Spread
    """A single call with its transcript."""
    bytes_per_page: int
    listed_calls: int
    """Different calls seen on all pages; all that were stored when all is well."""

    def render_text(self) -> str:
        """For people."""
        rows = (
            ("first page", self.first_page_ms),
            ("each page to the last", self.each_page_ms),
            ("first page of a filter", self.filtered_page_ms),
            ("one call", self.one_call_ms),
        )
        lines = [
            f"{self.stored_calls} calls stored, {self.page_calls} a page, {self.bytes_per_page / 1024:.0f} KiB each"
        ]
        lines += [
            f"{name:24} p50 {ms.p50:6.2f} ms  p99 {ms.p99:6.2f} ms  max {ms.max:6.1f} ms  ({ms.count} requests)"
            for name, ms in rows
        ]
        if self.listed_calls != self.stored_calls:
            lines.append(f"warning: the pages together listed {self.listed_calls} calls")
        return "\n".join(lines)


def sample_call(number: int, began_at: float) -> CallRecord:
    """A call as it is stored after its end; every tenth has failed."""
    created_at = began_at + number * CALL_EVERY_S
    failed = number % 10 == 9
    journal = Journal()
    for turn in range(TURNS):
        journal.said("user" if turn % 2 else "agent", "What was said in this turn, a sentence or two. " * 2, turn * 8.0)
    return CallRecord(
        id=f"{number:032x}",
        instance_id="bench-1",
        provider="twilio" if number % 2 else "genesys",
        caller=f"+1555010{number % 1000:04}",
        called="+15550199",
        call_sid=f"CA{number:032x}",
        agent_id=f"agent_{number % AGENTS}",
        conversation_ids=[f"conv_{number:026x}"],
        state="ended",
        admission="granted",
        created_at=created_at,
        answered_at=created_at + 1.0,
        ended_at=created_at + TURNS * 8.0,
        result="upstream_error" if failed else "success",
        reason="agent_lost" if failed else "caller_hangup",
        carrier_format="ulaw_8000",
        agent_input_format="ulaw_8000",
        agent_output_format="ulaw_8000",
        variables={"caller_id": f"+1555010{number % 1000:04}", "called_number": "+15550199"},
        stats=CallStats(caller_frames=8000, agent_messages=800).as_dict(),
        latency={"caller_to_agent": LatencySummary(count=1000, mean_ms=0.1, p50_ms=0.1, p99_ms=0.3)},
        journal=journal,
    )


async def fill(data_dir: Path, calls: int) -> None:
    """Put so many calls into a new database in this folder."""
    database = open_database(None, data_dir)
    try:
        await database.upgrade()
        store = CallStore(database)
        began_at = time.time() - calls * CALL_EVERY_S
        for first in range(0, calls, BATCH_CALLS):
            batch = range(first, min(first + BATCH_CALLS, calls))
            await store.save([(sample_call(number, began_at), ()) for number in batch])
    finally:
        await database.close()


def measure_lists(
    say: Callable[[str], None], stored_calls: int = STORED_CALLS, requests: int = 200, core: int | None = None
) -> ListFigures:
    """Fill a database, start a bridge on it, ask it, stop it. Blocks.

    Raises ``RuntimeError`` when the bridge does not start.
    """
    plan = plan_cores(os.sched_getaffinity(0), core)
    with tempfile.TemporaryDirectory(prefix="bench-lists-") as name:
        directory, port, key = Path(name), free_port(), secrets.token_hex(16)
        say(f"storing {stored_calls} calls")
        asyncio.run(fill(directory / "data", stored_calls))
        settings = {
            "BRIDGE_PORT": str(port),
            "BRIDGE_API_KEY": key,
            "ELEVENLABS_AGENT_ID": "bench",
            "LOG_LEVEL": "warning",
            "DATA_DIR": str(directory / "data"),
            "RETENTION_RECORDS_DAYS": "3650",
            "RETENTION_TRANSCRIPTS_DAYS": "3650",
        }
        command = [sys.executable, "-m", "bridge", "serve"]
        server = ServerProcess(command, server_environment(settings), plan.server, directory)
        server.start()
        try:
            if not wait_for_port(server, port, READY_REQUEST, READY_TIMEOUT_S):
                raise RuntimeError(f"the bridge did not start: {server.log_tail()}")
            say("asking")
            with (
                pinned(plan.load),
                httpx.Client(
                    base_url=f"http://127.0.0.1:{port}",
                    headers={"X-API-Key": key},
                    timeout=REQUEST_TIMEOUT_S,
                    trust_env=False,
                ) as client,
            ):
                return _ask(_Client(client), stored_calls, requests)
        finally:
            server.stop()


class _Client:
    """Asks and takes the time."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.last: httpx.Response | None = None

    def get_ms(self, path: str, **query: str) -> float:
        """Milliseconds of one request. Raises ``httpx.HTTPStatusError`` for anything but 200."""
        began_s = time.perf_counter()
        self.last = self._client.get(path, params=query)
        took_ms = (time.perf_counter() - began_s) * 1000
        self.last.raise_for_status()
        return took_ms

    def page_ms(self, **query: str) -> float:
        """Milliseconds of one page of the list."""
        return self.get_ms("/v1/calls", limit=str(PAGE_CALLS), **query)

    @property
    def page(self) -> tuple[list[str], str | None]:
        """Ids of the last page, and where the next begins."""
        assert self.last is not None
        body = self.last.json()
        return [call["id"] for call in body["calls"]], body["next_cursor"]


def _ask(client: _Client, stored_calls: int, requests: int) -> ListFigures:
    for _ in range(WARM_UP_REQUESTS):
        client.page_ms()
    assert client.last is not None
    size = len(client.last.content)
    ids, _ = client.page
    first = [client.page_ms() for _ in range(requests)]
    one = [client.get_ms(f"/v1/calls/{ids[number % len(ids)]}") for number in range(requests)]
    filtered = [client.page_ms(agent_id=f"agent_{n % AGENTS}", result="upstream_error") for n in range(requests)]
    each, seen, cursor = [client.page_ms()], set(client.page[0]), client.page[1]
    while cursor is not None:
        each.append(client.page_ms(cursor=cursor))
        ids, cursor = client.page
        seen.update(ids)
    return ListFigures(
        stored_calls=stored_calls,
        page_calls=PAGE_CALLS,
        first_page_ms=spread(first),
        each_page_ms=spread(each),
        filtered_page_ms=spread(filtered),
        one_call_ms=spread(one),
        bytes_per_page=size,
        listed_calls=len(seen),
    )
