"""``bridge webhooks``: what it lists, what it replays, and its exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bridge.cli_webhooks import webhooks_app
from bridge.server.store.database import open_database
from bridge.server.store.outbox import OutboxStore, Outcome
from tests.kit.records import outbox_event


class Commands:
    """The commands on a database of the test's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[OutboxStore]:
        database = open_database(None, self._folder)
        await database.upgrade()
        try:
            yield OutboxStore(database)
        finally:
            await database.close()

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(webhooks_app(self.open), list(arguments))


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """Three calls: the event of the first is dead, that of the second waits after a failure, the third is fresh."""
    made = Commands(tmp_path)

    async def fill() -> None:
        async with made.open() as outbox:
            for number in (1, 2, 3):
                await outbox.add_next(outbox_event(f"call{number}", body=b"what was said", created_at=1e9 + number))
            for claimed in await outbox.claim("w", 2, 20.0):
                dead = claimed.event.call_id == "call1"
                outcome = Outcome(
                    event=claimed.event,
                    state="dead" if dead else "pending",
                    error="HTTP 410" if dead else "HTTP 500",
                    retry_in_s=60.0,
                )
                await outbox.settle("w", [outcome])

    asyncio.run(fill())
    return made


def test_the_list_shows_what_waits_and_what_is_dead(commands: Commands) -> None:
    shown = commands.run("list")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [
        "dead     2001-09-09 01:46:41    1 attempts  evt_call1_call.ended  HTTP 410",
        "pending  2001-09-09 01:46:42    1 attempts  evt_call2_call.ended  HTTP 500",
        "pending  2001-09-09 01:46:43    0 attempts  evt_call3_call.ended",
    ]
    assert shown.stderr == "3 events\n"


@pytest.mark.parametrize(("state", "calls"), [("dead", ["call1"]), ("pending", ["call2", "call3"])])
def test_one_state_as_json(commands: Commands, state: str, calls: list[str]) -> None:
    shown = commands.run("list", "--state", state, "--json")
    events = json.loads(shown.stdout)
    assert [event["call_id"] for event in events] == calls
    assert {event["state"] for event in events} == {state}
    assert "said" not in shown.stdout
    assert shown.stderr == ""


def test_the_list_can_be_cut(commands: Commands) -> None:
    assert len(commands.run("list", "--limit", "1").stdout.splitlines()) == 1


def test_an_unknown_state_is_refused(commands: Commands) -> None:
    assert commands.run("list", "--state", "lost").exit_code == 2


def test_one_event_is_replayed(commands: Commands) -> None:
    done = commands.run("replay", "evt_call1_call.ended")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "evt_call1_call.ended\n", "1 events are sent again\n")
    assert json.loads(commands.run("list", "--state", "dead", "--json").stdout) == []
    again = commands.run("replay", "evt_call1_call.ended")
    assert again.exit_code == 1
    assert again.stderr == "evt_call1_call.ended: no dead event has this id\n0 events are sent again\n"


def test_all_dead_events_are_replayed(commands: Commands) -> None:
    assert commands.run("replay", "--all-dead").stdout == "evt_call1_call.ended\n"
    assert commands.run("replay", "--all-dead").exit_code == 0


@pytest.mark.parametrize("arguments", [["replay"], ["replay", "evt_call1_call.ended", "--all-dead"]])
def test_what_to_replay_must_be_said_once(commands: Commands, arguments: list[str]) -> None:
    refused = commands.run(*arguments)
    assert (refused.exit_code, refused.stderr) == (2, "give the ids of dead events, or --all-dead\n")
