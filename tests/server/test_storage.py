"""What outlives a process: opened and closed in order, with what a dead one left taken up and told of."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from bridge.calls.record import Recording
from bridge.errors import ConfigError
from bridge.server import storage as storage_module
from bridge.server.recording.encoders import WavEncoder
from bridge.server.service import Bridge
from bridge.server.storage import Storage, outbox_options, retention_of
from bridge.server.store.calls import CallStore
from bridge.server.store.database import open_database
from bridge.server.store.instances import Instances
from bridge.server.store.retention import Retention
from bridge.server.store.schema import INSTANCES, OUTBOX
from tests.kit import logs, twilio
from tests.kit.offline import keeping_bridge
from tests.kit.records import call_record, ended_record, outbox_event
from tests.kit.server import settings_for, until
from tests.kit.sessions import Table
from tests.kit.webhooks import SECRET, always, receiver

PCM = bytes(range(256)) * 250
"""Two seconds of stereo at 8 kHz."""


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


def hooks_to(url: str, **more: str) -> dict[str, str]:
    return {"WEBHOOK_URL": url, "WEBHOOK_SECRET": SECRET, "EGRESS_ALLOW": "127.0.0.1", **more}


@contextlib.asynccontextmanager
async def keeping(folder: Path, given: dict[str, str] | None = None) -> AsyncIterator[tuple[Bridge, Storage]]:
    async with keeping_bridge(folder, {"BRIDGE_AUTH": "off", **(given or {})}) as bridge:
        assert bridge.parts.storage is not None
        yield bridge, bridge.parts.storage


@contextlib.asynccontextmanager
async def before_the_start(folder: Path) -> AsyncIterator[CallStore]:
    """The database as a process that is gone left it."""
    database = open_database(None, folder)
    await database.upgrade()
    yield CallStore(database)
    await database.close()


# --- settings to options ---------------------------------------------------------------------------------


def test_how_long_what_is_kept() -> None:
    given = {"RETENTION_RECORDS_DAYS": "9", "RETENTION_TRANSCRIPTS_DAYS": "3", "RETENTION_AUDIO_DAYS": "0"}
    assert retention_of(settings_for(given)) == Retention(9, 3, 0)


def test_where_events_go() -> None:
    given = hooks_to("https://hooks.example/x", WEBHOOK_HEADERS='{"X-Key": "k"}', WEBHOOK_MAX_AGE_H="2")
    options = outbox_options(settings_for(given))
    assert (options.url, options.secret, options.headers) == ("https://hooks.example/x", SECRET, {"X-Key": "k"})
    assert options.give_up_after_s == 7200.0


def test_events_without_a_secret_go_out_unsigned() -> None:
    assert outbox_options(settings_for({"WEBHOOK_URL": "https://hooks.example/x"})).secret == ""


# --- life ------------------------------------------------------------------------------------------------


async def test_the_last_record_is_written_before_the_end(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (bridge, _):
        table = await Table(bridge).activate()
        table.hang_up()
        call_id = table.session.call_id
    async with keeping(tmp_path) as (_, storage):
        record = await storage.calls.get(call_id)
        assert record is not None
        assert (record.state, record.reason) == ("ended", "caller_hangup")


async def test_a_process_that_stops_leaves_no_sign_of_life_behind(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (bridge, storage):
        name = bridge.instance_id
        async with storage.database.read() as connection:
            alive = [row.id for row in await connection.execute(INSTANCES.select())]
        assert alive == [name]
    async with before_the_start(tmp_path) as store, store._database.read() as connection:
        rows = {row.id: row.seen_at for row in await connection.execute(INSTANCES.select())}
    assert rows.get(name, 0.0) < time.time() - 60, "whoever is retired need not be waited for"


async def test_what_the_database_has_against_it_is_said(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (_, storage):
        assert storage.state == "ok"
        storage.ledger.trouble = "database is locked"
        assert storage.state == "database is locked"
        storage.ledger.trouble = ""


async def test_a_database_that_does_not_let_go_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(storage_module, "FLUSH_TIMEOUT_S", 0.05)
    async with keeping(tmp_path) as (_, storage):

        async def fail(*_args: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(storage.calls, "save_encoded", fail)
        monkeypatch.setattr(storage.instances, "retire", fail)
        storage.ledger.put(ended_record("call_1"), (outbox_event("call_1"),))
    [lost] = [line for line in lines if line["event"] == "records_lost"]
    assert (lost["lost_records"], lost["lost_events"]) == (1, 1)


@pytest.mark.parametrize("url", ["sqlite:////proc/none/bridge.sqlite3"])
async def test_a_database_that_cannot_be_opened_is_told_in_words(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        async with keeping(tmp_path, {"DATABASE_URL": url}):
            pass


# --- webhooks --------------------------------------------------------------------------------------------


@pytest.mark.e2e
async def test_events_of_a_call_are_delivered_in_order_and_signed(tmp_path: Path) -> None:
    async with receiver() as hooks, keeping(tmp_path, hooks_to(hooks.url)) as (bridge, storage):
        assert storage.worker is not None
        table = await Table(bridge).activate()
        table.hang_up()
        await until(lambda: len(hooks.taken) == 4, "not all came")
        assert hooks.problems() == []
        assert [kind for _, kind in hooks.events()] == [
            "call.started",
            "call.answered",
            "call.ended",
            "post_call_transcription",
        ]


@pytest.mark.e2e
async def test_what_could_not_be_delivered_is_delivered_by_the_next_process(tmp_path: Path) -> None:
    async with receiver(always(503)) as hooks:
        async with keeping(tmp_path, hooks_to(hooks.url)) as (bridge, _):
            table = await Table(bridge).activate()
            table.hang_up()
            await until(lambda: hooks.received, "nobody tried")
        hooks.behaviour = always(200)
        async with keeping(tmp_path, hooks_to(hooks.url)) as (_, storage):
            # Without waiting for the pause that follows a failure.
            async with storage.database.write() as connection:
                await connection.execute(update(OUTBOX).values(next_attempt_at=0.0))
            assert storage.worker is not None
            storage.worker.notify()
            await until(lambda: len(hooks.taken) == 4, "they were forgotten")
        assert [kind for _, kind in hooks.events()][0] == "call.started"
        assert hooks.problems() == []


@pytest.mark.e2e
async def test_a_recording_is_sent_with_its_event(tmp_path: Path) -> None:
    async with receiver() as hooks:
        given = hooks_to(hooks.url, RECORDING="on", WEBHOOK_EVENTS="post_call_audio")
        async with keeping(tmp_path, given) as (bridge, _):
            table = await Table(bridge).activate()
            table.session.on_message(twilio.media(b"\x01" * 160))
            table.hang_up()
            await table.settled()
            await until(lambda: hooks.taken, "no audio came")
        assert hooks.problems() == []
        [(_, kind)] = hooks.events()
        assert kind == "post_call_audio"
        assert hooks.taken[0].chunked


# --- what a dead process left ----------------------------------------------------------------------------


def left_over(folder: Path, call_id: str) -> Path:
    """The unfinished recording of a process that died."""
    recordings = folder / "recordings"
    recordings.mkdir(exist_ok=True)
    part = recordings / f"{call_id}.wav.part"
    part.write_bytes(WavEncoder(8000).header(0) + PCM)
    return recordings / f"{call_id}.wav"


async def test_an_unfinished_recording_is_entered_into_its_calls_record(tmp_path: Path) -> None:
    async with before_the_start(tmp_path) as store:
        growing = Recording(location="call_1.wav", format="wav")
        await store.save([(ended_record("call_1", recording=growing), ())])
    whole = left_over(tmp_path, "call_1")
    async with keeping(tmp_path) as (_, storage):
        assert await storage.ledger.flush(5.0)
        record = await storage.calls.get("call_1")
        assert record is not None and record.recording is not None
        assert (record.recording.location, record.recording.duration_ms) == ("call_1.wav", 2000)
        assert record.reason == "caller_hangup"
    assert whole.is_file()


async def test_the_recording_of_a_call_that_nobody_has_closed_yet_waits_for_that(tmp_path: Path) -> None:
    async with before_the_start(tmp_path) as store:
        await store.save([(call_record("call_1"), ())])
    left_over(tmp_path, "call_1")
    async with keeping(tmp_path) as (_, storage):
        record = await storage.calls.get("call_1")
        assert record is not None and record.recording is not None
        assert (record.state, record.recording.location) == ("active", "call_1.wav")


async def test_the_recording_of_a_call_that_is_not_known_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    whole = left_over(tmp_path, "call_1")
    async with keeping(tmp_path):
        pass
    assert not whole.exists()
    assert list(whole.parent.iterdir()) == []


@pytest.mark.e2e
async def test_the_calls_of_a_dead_process_are_closed_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    async with before_the_start(tmp_path) as store:
        await store.save([(call_record("call_1", conversation_ids=["conv_1"], events_sent=2), ())])
        async with store._database.write() as connection:
            await connection.execute(update(INSTANCES).values(seen_at=time.time() - 3600))
    monkeypatch.setattr(Instances, "steady", property(lambda _: True))
    async with receiver() as hooks, keeping(tmp_path, hooks_to(hooks.url)) as (_, storage):
        await until(lambda: len(hooks.taken) == 2, "nobody was told")
        record = await storage.calls.get("call_1")
        assert record is not None
        assert (record.result, record.reason) == ("server_error", "instance_lost")
        assert hooks.events() == [
            ("evt_call_1_call.ended", "call.ended"),
            ("evt_call_1_post_call_transcription", "post_call_transcription"),
        ]
        assert hooks.problems() == []
    [line] = [line for line in lines if line["event"] == "lost_call_closed" and "call_id" in line]
    assert (line["call_id"], line["instance_id"]) == ("call_1", "instance1")
