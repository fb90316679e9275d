"""Settings turned into the options of each part, and the parts' lives: opened in order, closed whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path

import httpx
import pytest

from bridge.calls import webhooks
from bridge.calls.personalization import PersonalizationRequest
from bridge.calls.record import Recording
from bridge.config import Settings
from bridge.errors import ConfigError
from bridge.server import egress
from bridge.server.admission import AdmissionOptions
from bridge.server.call_tokens import MemoryTokens, RedisTokens
from bridge.server.parts import (
    RESERVED_S,
    Events,
    NoRecords,
    Parts,
    admission_options,
    event_options,
    instance_name,
    local_parts,
    open_parts,
    personalizer_options,
    recording_options,
)
from bridge.server.personalizer import Failed, Outcome
from bridge.server.recording.options import RecordingOptions, S3Options
from tests.kit.records import call_record, ended_record, finished_recording
from tests.kit.redis import RedisServer, prefix
from tests.kit.server import settings_for

TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
HOOKS = {"WEBHOOK_URL": "https://hooks.example/x", "WEBHOOK_SECRET": "s"}


# --- settings to options ---------------------------------------------------------------------------------


def test_an_instance_has_a_new_name_at_every_start() -> None:
    settings = settings_for({"INSTANCE_ID": "eu-1"})
    first, second = instance_name(settings), instance_name(settings)
    assert first != second
    assert first.startswith("eu-1-") and len(first) == len("eu-1-") + 8
    assert len(instance_name(settings_for({}))) <= 69


def test_limits_follow_clock_and_policy() -> None:
    assert admission_options(settings_for({})) == AdmissionOptions(UTC, fail_open=True, hold_s=RESERVED_S)
    options = admission_options(
        settings_for({"TIMEZONE": "Europe/Berlin", "LIMITS_WHEN_REDIS_DOWN": "fail_closed", "CALL_TOKEN_TTL_S": "9"})
    )
    assert (str(options.zone), options.fail_open, options.hold_s) == ("Europe/Berlin", False, 9.0)


def test_the_personalization_webhook() -> None:
    given = {
        "PERSONALIZATION_URL": "https://crm.example/hook",
        "PERSONALIZATION_HEADERS": '{"X-Key": "k"}',
        "PERSONALIZATION_TIMEOUT_S": "2",
    }
    options = personalizer_options(settings_for(given))
    assert (options.url, options.headers, options.timeout_s) == ("https://crm.example/hook", {"X-Key": "k"}, 2.0)
    assert options.remember_s > 3600, "a caller may have waited for an hour before the agent is told"
    assert personalizer_options(settings_for({})).url == ""


def test_where_recordings_go() -> None:
    assert recording_options(settings_for({"DATA_DIR": "/srv/b"})) == RecordingOptions(Path("/srv/b/recordings"))
    given = {
        "RECORDING_DIR": "/mnt/audio",
        "RECORDING_FORMAT": "mp3",
        "RECORDING_S3_URL": "s3://calls/eu/",
        "RECORDING_S3_REGION": "eu-central-1",
        "RECORDING_S3_ACCESS_KEY": "id",
        "RECORDING_S3_SECRET_KEY": "secret",
    }
    bucket = S3Options("calls", "eu", region="eu-central-1", access_key_id="id", secret_access_key="secret")
    assert recording_options(settings_for(given)) == RecordingOptions(Path("/mnt/audio"), "mp3", bucket)
    elsewhere = recording_options(
        settings_for({"RECORDING_S3_URL": "s3://calls", "RECORDING_S3_ENDPOINT": "https://minio.example"})
    ).s3
    assert elsewhere == S3Options("calls", endpoint_url="https://minio.example", path_style=True)


def test_no_events_without_an_address() -> None:
    assert event_options(settings_for({})) is webhooks.NO_WEBHOOKS
    assert event_options(settings_for(HOOKS)).events == frozenset(webhooks.ALL_EVENTS)
    chosen = event_options(settings_for({**HOOKS, "WEBHOOK_EVENTS": "call.ended", "REDACT_NUMBERS": "on"}))
    assert (chosen.events, chosen.redact_numbers) == (frozenset({"call.ended"}), True)


def test_every_moment_makes_its_events() -> None:
    events, now = Events(event_options(settings_for(HOOKS))), 1_700_000_100.0
    record = ended_record(conversation_ids=["conv_1"])
    made = [
        *events.on_started(record, now),
        *events.on_answered(record, now),
        *events.on_transferred(record, now, "sales"),
        *events.on_ended(record, now),
    ]
    record.recording = finished_recording()
    made += events.on_recorded(record, now)
    assert [event.type for event in made] == [
        "call.started",
        "call.answered",
        "call.transferred",
        "call.ended",
        "post_call_transcription",
        "post_call_audio",
    ]
    assert [event.sequence for event in made] == [1, 2, 3, 4, 5, 6]
    assert b'"sales"' in made[2].body
    events.options = webhooks.NO_WEBHOOKS
    assert events.on_ended(record, now) == ()


@pytest.mark.parametrize(
    ("recording", "told"),
    [(None, False), (finished_recording(), True), (Recording(location="a.wav", format="wav"), False)],
)
def test_the_audio_of_a_call_that_others_close_is_told_with_its_end(recording: Recording | None, told: bool) -> None:
    """Otherwise the recording is complete only after the end, and has a moment of its own."""
    events = Events(event_options(settings_for(HOOKS)))
    made = events.on_ended(ended_record(conversation_ids=["conv_1"], recording=recording), 1_700_000_100.0)
    assert ("post_call_audio" in [event.type for event in made]) is told


# --- parts that need nothing -----------------------------------------------------------------------------


async def test_parts_in_memory() -> None:
    async with httpx.AsyncClient() as http:
        parts = local_parts(settings_for({"BRIDGE_MAX_CALLS": "3"}), http, TLS)
        assert isinstance(parts.records, NoRecords)
        parts.records.put(call_record(), ())
        assert parts.admission.limits.max_calls == 3
        assert parts.tokens.state == parts.shared.state == parts.live.state == "memory"
        assert (parts.recorder, parts.storage, parts.redis, parts.egress) == (None, None, None, None)


async def test_what_a_reload_changes() -> None:
    async with httpx.AsyncClient() as http:
        parts = local_parts(settings_for({}), http, TLS)
        fresh = settings_for({"ELEVENLABS_API_KEY": "new", "PERSONALIZATION_URL": "https://crm.example/x"})
        parts.apply(fresh, {})
        assert parts.agents.settings is parts.results.settings is fresh
        assert parts.personalizer.options.url == "https://crm.example/x"


# --- all parts -------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def opened(folder: Path, **given: str) -> AsyncIterator[Parts]:
    """All parts, with nothing left of them afterwards."""
    settings: Settings = settings_for({"DATA_DIR": str(folder / "data"), **given})
    before = asyncio.all_tasks()
    async with (
        httpx.AsyncClient() as http,
        open_parts(settings, http, TLS, Events(event_options(settings))) as parts,
    ):
        yield parts
    assert asyncio.all_tasks() == before


async def test_all_parts_work_and_what_was_put_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as parts:
        assert parts.storage is not None and parts.recorder is not None
        assert parts.records is parts.storage.ledger
        assert (parts.storage.state, parts.storage.worker, parts.redis) == ("ok", None, None)
        assert isinstance(parts.tokens, MemoryTokens)
        parts.records.put(ended_record("call_1", instance_id=parts.instance_id), ())
        first = parts.instance_id
    async with opened(tmp_path) as parts:
        assert parts.storage is not None
        assert parts.instance_id != first
        record = await parts.storage.calls.get("call_1")
        assert record is not None
        assert record.instance_id == first


@pytest.mark.parametrize(("allow", "reached"), [("", False), ("127.0.0.1", True)])
async def test_outgoing_requests_do_not_reach_this_machine_unless_allowed(
    tmp_path: Path, allow: str, reached: bool
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with opened(tmp_path, EGRESS_ALLOW=allow) as parts:
            assert parts.egress is not None
            if reached:
                assert (await egress.request(parts.egress, "GET", url, headers={})).status == 204
            else:
                with pytest.raises(egress.EgressRefused):
                    await egress.request(parts.egress, "GET", url, headers={})


async def test_the_personalization_webhook_goes_the_guarded_way(tmp_path: Path) -> None:
    async with opened(tmp_path, PERSONALIZATION_URL="http://127.0.0.1:9/hook") as parts:
        wanted = PersonalizationRequest(caller_id="", agent_id="a", called_number="", call_sid="CA1")
        parts.personalizer.start("CA1", wanted)
        answer = await parts.personalizer.result("CA1")
        assert isinstance(answer, Failed)
        assert answer.outcome is Outcome.REFUSED


async def test_a_changed_webhook_secret_signs_from_now_on(tmp_path: Path) -> None:
    async with opened(tmp_path, **HOOKS) as parts:
        assert parts.storage is not None and parts.storage.worker is not None
        assert parts.storage.worker.options.secret == "s"
        parts.apply(settings_for({**HOOKS, "WEBHOOK_SECRET": "t"}), {})
        assert parts.storage.worker.options.secret == "t"


@pytest.mark.parametrize("setting", ["DATA_DIR", "RECORDING_DIR"])
async def test_a_folder_that_cannot_be_ends_it_with_words_and_without_remains(tmp_path: Path, setting: str) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    before = asyncio.all_tasks()
    with pytest.raises(ConfigError):
        async with opened(tmp_path, **{setting: str(blocked / "below")}):
            pass
    assert asyncio.all_tasks() == before


@pytest.mark.e2e
async def test_with_redis_everything_shared_is_there(tmp_path: Path, shared_redis: RedisServer) -> None:
    name = prefix()
    async with opened(tmp_path, REDIS_URL=shared_redis.url, REDIS_PREFIX=name) as parts:
        assert isinstance(parts.tokens, RedisTokens)
        assert parts.tokens.state == parts.shared.state == parts.live.state == "redis"
        assert parts.admission.usage().store == "redis"
        assert parts.redis is not None and parts.redis.is_up


@pytest.mark.e2e
async def test_without_the_redis_that_was_promised_it_starts_all_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path, REDIS_URL="redis://127.0.0.1:1/0") as parts:
        assert parts.shared.state == "redis_down"
        assert parts.admission.usage().store == "redis_down"
        assert parts.admission.would_refuse() is None
