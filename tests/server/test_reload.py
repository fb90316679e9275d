"""Reloading: what changed is taken whole or not at all, and mistakes are named."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bridge.calls.rules import Route
from bridge.config import Configuration, load_configuration
from bridge.server import reload as module
from bridge.server.reload import Reloader, ReloadOptions
from bridge.server.slot_store import StoreDown
from tests.kit import logs
from tests.kit.server import until

QUICK = ReloadOptions(poll_s=0.01, settle_s=0.001)


class Database:
    """Routes that are kept elsewhere."""

    def __init__(self) -> None:
        self.rows: list[bytes] = []
        self.number = 0
        self.down = False
        self.loads = 0

    async def version(self) -> object:
        if self.down:
            raise StoreDown("down")
        return self.number

    async def load(self) -> Sequence[bytes]:
        self.loads += 1
        return self.rows


class Place:
    """A folder with a bridge.toml and an .env, and who reads them."""

    def __init__(self, folder: Path) -> None:
        self.toml, self.dotenv = folder / "bridge.toml", folder / ".env"
        self.toml.write_text('log_level = "info"\n')
        self.applied: list[Configuration] = []
        self.results: list[bool] = []
        self.database = Database()

    def load(self) -> Configuration:
        return load_configuration({}, self.toml, self.dotenv)

    def reloader(self, **more: Any) -> Reloader:
        return Reloader(
            self.load(),
            self.load,
            (self.toml, self.dotenv),
            self.applied.append,
            self.database,
            QUICK,
            self.results.append,
            **more,
        )

    def write(self, text: str) -> None:
        """Write the file so that it has certainly changed."""
        before = self.toml.stat().st_mtime_ns
        self.toml.write_text(text)
        os.utime(self.toml, ns=(before + 1_000_000, before + 1_000_000))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# --- settings ------------------------------------------------------------------------------------------------


async def test_a_changed_file_is_taken_in(place: Place) -> None:
    reloader = place.reloader()
    place.write('log_level = "debug"\nworkspace_concurrency = 3\n[[routes]]\nnumber = "*"\nagent = "a"\n')
    with logs.captured() as lines:
        await reloader.poll()
    [applied] = place.applied
    assert applied is reloader.current
    assert (applied.settings.log_level, applied.settings.workspace_concurrency) == ("debug", 3)
    assert applied.routing.routes == (Route(number="*", agent="a"),)
    assert place.results == [True]
    [line] = lines
    assert (line["event"], line["settings"], line["routes_changed"]) == (
        "configuration_reloaded", ["workspace_concurrency", "log_level"], True,
    )  # fmt: skip


async def test_an_unchanged_file_is_not_read_again(place: Place) -> None:
    reloader = place.reloader()
    await reloader.poll()
    await reloader.poll()
    assert place.results == []


async def test_secrets_can_be_rotated_and_do_not_show(place: Place) -> None:
    reloader = place.reloader()
    place.dotenv.write_text("TWILIO_AUTH_TOKEN=hunter2,hunter3\n")
    with logs.captured() as lines:
        await reloader.poll()
    assert place.applied[0].settings.twilio_keys.auth_tokens == ("hunter2", "hunter3")
    assert lines[-1]["settings"] == ["twilio_auth_token"]
    assert "hunter" not in str(lines)


async def test_a_file_that_goes_away_is_a_change(place: Place) -> None:
    place.dotenv.write_text("ELEVENLABS_AGENT_ID=agent_1\n")
    reloader = place.reloader()
    place.dotenv.unlink()
    await reloader.poll()
    assert place.applied[0].settings.elevenlabs_agent_id is None


async def test_a_bad_file_changes_nothing_and_every_mistake_is_named(place: Place) -> None:
    reloader = place.reloader()
    before = reloader.current
    place.write('log_level = "loud"\n[[routes]]\nnumber = "*"\noverflow = "qeue"\n')
    with logs.captured() as lines:
        await reloader.poll()
    assert reloader.current is before
    assert (place.applied, place.results) == ([], [False])
    [line] = lines
    assert line["event"] == "configuration_rejected"
    assert "LOG_LEVEL (from " in line["detail"]
    assert "routes[1](*).overflow is 'qeue'; give one of reject, queue, divert" in line["detail"]
    place.write('log_level = "error"\n')
    await reloader.poll()
    assert place.applied[0].settings.log_level == "error"


async def test_what_was_opened_at_the_start_waits_for_a_restart(place: Place) -> None:
    reloader = place.reloader()
    place.write('bridge_port = 9999\ndata_dir = "elsewhere"\nlog_level = "debug"\n')
    with logs.captured() as lines:
        await reloader.poll()
    settings = place.applied[0].settings
    assert (settings.bridge_port, settings.data_dir, settings.log_level) == (8080, Path("data"), "debug")
    assert lines[0]["event"] == "restart_needed"
    assert lines[0]["settings"] == ["bridge_port", "data_dir"]
    place.write('log_level = "debug"\n')
    with logs.captured() as lines:
        await reloader.poll()
    assert [line["event"] for line in lines] == ["configuration_reloaded"]
    assert len(place.applied) == 1


async def test_a_file_is_read_once_nobody_writes_to_it_any_more(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    reloader = place.reloader()
    place.write("")
    looks = 0
    look = module._stamp

    def writing(path: Path) -> Any:
        nonlocal looks
        looks += 1
        if looks == 4:  # the first look at the second round
            place.write('log_level = "debug"\n')
        return look(path)

    monkeypatch.setattr(module, "_stamp", writing)
    await reloader.poll()
    assert place.results == [True]
    assert place.applied[0].settings.log_level == "debug"


async def test_a_file_that_is_always_written_to_is_read_all_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    reloader = place.reloader()
    looks = iter(range(1000))
    monkeypatch.setattr(module, "_stamp", lambda path: (next(looks), 0, 0))
    await reloader.poll()
    assert place.results == [True]


# --- when ----------------------------------------------------------------------------------------------------


async def test_a_hangup_signal_reloads_at_once(place: Place) -> None:
    reloader = place.reloader()
    reloader._options = ReloadOptions(poll_s=60.0)
    with reloader.on_hangup():
        watch = asyncio.create_task(reloader.run())
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: place.results == [True])
        watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    assert place.applied == []


async def test_the_watch_goes_on_after_a_bug(place: Place) -> None:
    reloader = place.reloader()
    failures = iter([True])

    def apply(configuration: Configuration) -> None:
        if next(failures, False):
            raise RuntimeError("broken")
        place.applied.append(configuration)

    reloader._apply = apply
    with logs.captured() as lines:
        watch = asyncio.create_task(reloader.run())
        place.write('log_level = "debug"\n')
        await until(lambda: any(line["event"] == "bug" for line in lines))
        assert reloader.current.settings.log_level == "info"
        place.write('log_level = "error"\n')
        await until(lambda: place.applied)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
    assert place.applied[0].settings.log_level == "error"


# --- the database's routes -----------------------------------------------------------------------------------


async def test_routes_of_the_database_are_merged_when_their_version_changes(place: Place) -> None:
    place.write('[[routes]]\nnumber = "*"\nagent = "file"\n')
    reloader = place.reloader()
    place.database.rows, place.database.number = [b'{"number":"*","agent":"db"}'], 1
    assert await reloader.refresh_routes()
    assert place.applied[-1].routing.find("twilio", "+1") == Route(number="*", agent="db")
    await reloader.poll()
    assert (place.database.loads, len(place.applied)) == (1, 1)
    place.database.rows, place.database.number = [], 2
    await reloader.poll()
    assert place.applied[-1].routing.find("twilio", "+1") == Route(number="*", agent="file")


async def test_a_changed_file_keeps_the_databases_routes(place: Place) -> None:
    reloader = place.reloader()
    place.database.rows = [b'{"number":"+49*"}']
    await reloader.poll(forced=True)
    place.write('[[routes]]\nnumber = "+43*"\n')
    await reloader.poll()
    assert {entry.route.number for entry in reloader.current.routing.listed()} == {"+49*", "+43*"}


async def test_a_row_that_is_no_route_is_skipped_and_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROUTES", 2)
    reloader = place.reloader()
    place.database.rows = [b'{"agent":"a"}', b'{"number":"+49*"}', b'{"number":"+43*"}']
    with logs.captured() as lines:
        assert await reloader.refresh_routes()
    assert reloader.current.routing.database == (Route(number="+49*"),)
    assert [(line["event"], line.get("detail")) for line in lines] == [
        ("too_many_routes", "3 in the database, 2 are used"),
        (
            "route_skipped",
            "row 1 of the database: number is missing; give one such as +4930*, sip:sales@* or *",
        ),
        ("routes_reloaded", None),
    ]


async def test_while_the_database_is_down_the_routes_stay(place: Place) -> None:
    reloader = place.reloader()
    place.database.rows = [b'{"number":"+49*"}']
    await reloader.refresh_routes()
    place.database.down = True
    with logs.captured() as lines:
        assert not await reloader.refresh_routes()
        assert not await reloader.refresh_routes()
    assert [line["event"] for line in lines] == ["routes_unknown"]
    assert reloader.current.routing.database == (Route(number="+49*"),)
    place.database.down = False
    assert await reloader.refresh_routes()
    place.database.down = True
    with logs.captured() as lines:
        await reloader.refresh_routes()
    assert [line["event"] for line in lines] == ["routes_unknown"]


async def test_without_a_database_there_is_nothing_to_refresh(place: Place) -> None:
    reloader = Reloader(place.load(), place.load, (place.toml,), place.applied.append)
    assert await reloader.refresh_routes(forced=True)
    place.write('log_level = "debug"\n')
    assert await reloader.reload()
    assert len(place.applied) == 1


async def test_a_system_without_the_signal_does_without(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP")
    with place.reloader().on_hangup():
        pass
