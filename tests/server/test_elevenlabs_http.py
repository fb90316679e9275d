"""The vendor's webhooks coming in: who is let in, what is joined, what goes on."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from bridge.auth.webhook import sign
from bridge.calls.record import CallRecord, OutboxEvent
from bridge.calls.webhook_report import ConversationReport
from bridge.server import elevenlabs_http
from bridge.server.audio_spool import AudioSpool, SpoolOptions
from bridge.server.elevenlabs_http import PATH, ElevenLabsWebhooks, WebhookInOptions
from bridge.server.store.database import open_database
from bridge.server.store.outbox import OutboxStore
from tests.kit import logs
from tests.kit.records import ended_record

SECRET = "wsec_vendor"
NOW = 1_739_537_400.0


def transcription(conversation_id: str = "conv_1", **data: Any) -> dict[str, Any]:
    given = {
        "agent_id": "agent_1",
        "conversation_id": conversation_id,
        "status": "done",
        "transcript": [{"role": "agent", "message": "Hej, Zoë", "time_in_call_secs": 0}],
        "metadata": {"start_time_unix_secs": 1, "call_duration_secs": 22, "cost": 296},
        "analysis": {
            "call_successful": "success",
            "transcript_summary": "They talked.",
            "evaluation_criteria_results": {"polite": {"criteria_id": "polite", "result": "success", "rationale": "r"}},
            "data_collection_results": {"city": {"data_collection_id": "city", "value": "Lund", "rationale": "r"}},
        },
        **data,
    }
    return {"type": "post_call_transcription", "event_timestamp": 1739537297, "data": given}


class Entrance:
    """The route with everything around it as a test wants it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.records: dict[str, CallRecord] = {"conv_1": ended_record(conversation_ids=["conv_1"], is_burst=True)}
        self.merged: list[tuple[CallRecord, ConversationReport]] = []
        self.sent: list[OutboxEvent] = []
        self.spool = AudioSpool(SpoolOptions(folder / "spool"))
        self.error: Exception | None = None
        self.webhooks = ElevenLabsWebhooks(
            WebhookInOptions(**{"secrets": (SECRET,), **options}),
            lookup=self.lookup,
            merge=self.merge,
            forward=self.forward,
            spool=self.spool,
            unix=lambda: NOW,
        )
        app = FastAPI()
        app.include_router(self.webhooks.router)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bridge")

    async def lookup(self, conversation_id: str) -> CallRecord | None:
        if self.error is not None:
            raise self.error
        return self.records.get(conversation_id)

    async def merge(self, record: CallRecord, report: ConversationReport) -> None:
        self.merged.append((record, report))

    async def forward(self, event: OutboxEvent) -> None:
        self.sent.append(event)

    async def post(self, event: Any, header: str | None = None, **headers: str) -> httpx.Response:
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        signature = sign(SECRET, body, NOW) if header is None else header
        given = {"ElevenLabs-Signature": signature, **headers} if signature else headers
        return await self.client.post(PATH, content=body, headers=given)


@pytest.fixture
async def entrance(tmp_path: Path) -> AsyncIterator[Entrance]:
    made = Entrance(tmp_path)
    async with made.client:
        yield made


@pytest.fixture(autouse=True)
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


# --- what is taken ---------------------------------------------------------------------------------------


async def test_a_transcription_is_joined_enriched_and_passed_on(entrance: Entrance) -> None:
    answer = await entrance.post(transcription())
    assert (answer.status_code, answer.content) == (200, b"")
    record, report = entrance.merged[0]
    assert record.id == "call1"
    assert (report.call_successful, report.summary, report.outputs()) == ("success", "They talked.", {"city": "Lund"})
    (sent,) = entrance.sent
    assert (sent.id, sent.call_id, sent.type) == (
        "evt_conv_1_post_call_transcription",
        "call1",
        "post_call_transcription",
    )
    body = json.loads(sent.body)
    bridge = body["data"].pop("bridge")
    assert body == transcription()
    assert bridge["call_id"] == "call1"
    assert (bridge["provider"], bridge["call_sid"], bridge["is_burst"]) == ("twilio", "CAcall1", True)
    assert (bridge["caller"], bridge["called"]) == ("+15550001", "+15550002")
    assert (bridge["result"], bridge["reason"]) == ("success", "caller_hangup")
    assert entrance.webhooks.figures.taken == 1


async def test_numbers_are_masked_when_that_is_set(tmp_path: Path) -> None:
    entrance = Entrance(tmp_path, redact_numbers=True)
    async with entrance.client:
        await entrance.post(transcription())
    bridge = json.loads(entrance.sent[0].body)["data"]["bridge"]
    assert (bridge["caller"], bridge["called"]) == ("+***001", "+***002")


async def test_a_failure_is_passed_on(entrance: Entrance) -> None:
    failure = {
        "type": "call_initiation_failure",
        "event_timestamp": 1759931652,
        "data": {
            "agent_id": "xyz",
            "conversation_id": "conv_1",
            "failure_reason": "busy",
            "metadata": {"type": "sip", "body": {"sip_status_code": 486, "error_reason": "busy", "call_sid": "x"}},
        },
    }
    assert (await entrance.post(failure)).status_code == 200
    assert json.loads(entrance.sent[0].body)["data"]["failure_reason"] == "busy"
    assert entrance.merged == []


async def test_an_unknown_conversation_is_passed_on_as_it_is(entrance: Entrance) -> None:
    assert (await entrance.post(transcription("conv_of_the_website"))).status_code == 200
    sent = entrance.sent[0]
    assert (sent.call_id, json.loads(sent.body)["data"]["bridge"]) == ("conv_of_the_website", None)
    assert (entrance.merged, entrance.webhooks.figures.unknown_conversations) == ([], 1)


async def test_an_unknown_type_is_taken_and_dropped(entrance: Entrance, lines: list[dict[str, Any]]) -> None:
    assert (await entrance.post({"type": "voice_removal_notice", "data": {}})).status_code == 200
    assert entrance.sent == []
    assert lines[0]["event"] == "webhook_in_ignored"


async def test_without_a_webhook_url_events_are_only_joined(tmp_path: Path) -> None:
    entrance = Entrance(tmp_path)
    entrance.webhooks._forward = None
    async with entrance.client:
        assert (await entrance.post(transcription())).status_code == 200
    assert (len(entrance.merged), entrance.sent) == (1, [])


async def test_types_that_are_not_wanted_are_only_joined(tmp_path: Path) -> None:
    entrance = Entrance(tmp_path, events=frozenset({"post_call_audio"}))
    async with entrance.client:
        assert (await entrance.post(transcription())).status_code == 200
    assert (len(entrance.merged), entrance.sent) == (1, [])


async def test_a_repetition_leaves_one_event(tmp_path: Path) -> None:
    database = open_database(None, tmp_path)
    await database.upgrade()
    store = OutboxStore(database)
    entrance = Entrance(tmp_path)
    entrance.webhooks._forward = store.add_next
    try:
        async with entrance.client:
            for _ in range(3):
                assert (await entrance.post(transcription())).status_code == 200
        assert [item.id for item in await store.of_call("call1")] == ["evt_conv_1_post_call_transcription"]
    finally:
        await database.close()


# --- audio -----------------------------------------------------------------------------------------------


def audio_event(audio: bytes, conversation_id: str = "conv_1") -> bytes:
    data = {"agent_id": "a", "conversation_id": conversation_id, "full_audio": base64.b64encode(audio).decode()}
    return json.dumps({"type": "post_call_audio", "event_timestamp": 1739537319, "data": data}).encode()


async def no_recording(_location: str) -> AsyncIterator[bytes]:
    yield b"a recording of ours"


@pytest.mark.parametrize("size_bytes", [1, 1_000, 3_000_001])
async def test_audio_goes_through_a_file(entrance: Entrance, size_bytes: int) -> None:
    audio = (bytes(range(256)) * (size_bytes // 256 + 1))[:size_bytes]
    assert (await entrance.post(audio_event(audio))).status_code == 200
    (sent,) = entrance.sent
    assert (sent.audio, sent.audio_format) == ("spool/evt_conv_1.mp3", "mp3")
    assert json.loads(sent.body)["data"] == {"agent_id": "a", "conversation_id": "conv_1", "full_audio": ""}
    assert sent.body.endswith(b'"full_audio":""}}')
    opened = entrance.spool.opener(no_recording)
    assert b"".join([piece async for piece in opened(sent.audio)]) == audio


@pytest.mark.parametrize("written", ["", "a", "%%%%", "QUJD\\/", None, 7])
async def test_audio_that_is_none_is_refused(entrance: Entrance, written: object) -> None:
    event = {"type": "post_call_audio", "data": {"conversation_id": "c", "full_audio": written}}
    answer = await entrance.post(event)
    assert answer.status_code == 400
    assert answer.text in ("the event has no audio\n", "the event's audio is no base64\n")


async def test_a_full_spool_is_said(entrance: Entrance, tmp_path: Path) -> None:
    entrance.webhooks._spool = AudioSpool(SpoolOptions(tmp_path / "spool", max_bytes=10))
    answer = await entrance.post(audio_event(b"x" * 100))
    assert (answer.status_code, answer.text) == (503, "more than 10 bytes of audio wait to be passed on\n")
    assert entrance.sent == []


# --- who is let in ---------------------------------------------------------------------------------------


async def test_a_wrong_signature_is_refused(entrance: Entrance, lines: list[dict[str, Any]]) -> None:
    for header in (sign("other", b"{}", NOW), "nonsense", ""):
        answer = await entrance.post(b"{}", header)
        assert (answer.status_code, answer.text) == (401, "unauthorized\n")
    stale = await entrance.post(transcription(), sign(SECRET, json.dumps(transcription()).encode(), NOW - 1801))
    assert stale.status_code == 401
    assert [line["detail"] for line in lines][-1] == "the signature is too old"
    assert (entrance.sent, entrance.webhooks.figures.refused) == ([], 4)


async def test_without_a_secret_it_says_what_to_set(tmp_path: Path) -> None:
    entrance = Entrance(tmp_path, secrets=())
    async with entrance.client:
        answer = await entrance.post(transcription())
    expected = "set ELEVENLABS_WEBHOOK_SECRET to the secret of the webhook in ElevenLabs' settings\n"
    assert (answer.status_code, answer.text) == (503, expected)


async def test_a_rotated_secret_is_taken_as_long_as_both_are_set(tmp_path: Path) -> None:
    entrance = Entrance(tmp_path, secrets=("wsec_new", SECRET))
    async with entrance.client:
        assert (await entrance.post(transcription())).status_code == 200


async def test_with_verification_off_everything_is_let_in(tmp_path: Path) -> None:
    entrance = Entrance(tmp_path, secrets=(), verify=False)
    async with entrance.client:
        assert (await entrance.post(transcription(), "")).status_code == 200
    assert len(entrance.sent) == 1


# --- bad bodies and faults -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is no JSON object"),
        (b"[]", "the body is no JSON object"),
        (b'{"type":"post_call_transcription"', "the body is no JSON object"),
        (b'{"type":' + b"[" * 100_000, "the body is no JSON object"),
        (b"{}", "the event has no type"),
        (b'{"type":7}', "the event has no type"),
        (b'{"type":"post_call_transcription"}', "the event has no data"),
        (b'{"type":"post_call_transcription","data":{}}', "the event names no conversation"),
        (b'{"type":"post_call_transcription","data":{"conversation_id":""}}', "the event names no conversation"),
        (b'{"type":"post_call_transcription","data":{"conversation_id":1}}', "the event names no conversation"),
        (b'{"type":"\xff"}', "the event has no type"),
    ],
)
async def test_a_body_that_is_no_event_is_refused(entrance: Entrance, body: bytes, words: str) -> None:
    answer = await entrance.post(body)
    assert (answer.status_code, answer.text) == (400, words + "\n")


async def test_a_body_over_the_bound_is_refused_at_once_and_on_the_way(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elevenlabs_http, "MAX_BODY_BYTES", 1_000)
    assert (await entrance.post(b"x" * 1_001)).status_code == 413

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    header = {"ElevenLabs-Signature": sign(SECRET, b"", NOW)}
    answer = await entrance.client.post(PATH, content=pieces(), headers=header)
    assert (answer.status_code, answer.text) == (413, "body too large\n")


async def test_an_event_without_audio_has_a_bound_of_its_own(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elevenlabs_http, "MAX_FORWARDED_BYTES", 100)
    assert (await entrance.post(transcription())).status_code == 413


async def test_a_slow_body_is_cut_off(entrance: Entrance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elevenlabs_http, "BODY_TIMEOUT_S", 0.05)

    async def drip() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    header = {"ElevenLabs-Signature": sign(SECRET, b"", NOW)}
    assert (await entrance.client.post(PATH, content=drip(), headers=header)).status_code == 408


async def test_large_bodies_take_turns(entrance: Entrance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders of large bodies wait for each other; small events pass them."""
    monkeypatch.setattr(elevenlabs_http, "LARGE_BODY_TIMEOUT_S", 5.0)
    entrance.webhooks._large = asyncio.Semaphore(1)
    begun = asyncio.Event()
    go_on = asyncio.Event()
    body = audio_event(b"x" * 1_500_000)

    async def stuck() -> AsyncIterator[bytes]:
        yield body[:-10]
        begun.set()
        await go_on.wait()
        yield body[-10:]

    headers = {"ElevenLabs-Signature": sign(SECRET, body, NOW)}
    first = asyncio.create_task(entrance.client.post(PATH, content=stuck(), headers=headers))
    await begun.wait()
    second = asyncio.create_task(entrance.post(audio_event(b"y" * 1_500_000, "conv_2")))
    assert (await entrance.post(transcription())).status_code == 200
    assert not first.done()
    assert not second.done()
    go_on.set()
    assert [(await first).status_code, (await second).status_code] == [200, 200]


async def test_a_database_that_fails_lets_the_vendor_try_again(entrance: Entrance, lines: list[dict[str, Any]]) -> None:
    entrance.error = OSError(28, "No space left on device")
    answer = await entrance.post(transcription())
    assert (answer.status_code, answer.text) == (503, "try again later\n")
    assert entrance.webhooks.figures.failed == 1
    assert "No space left" in lines[0]["detail"]


async def test_nothing_of_the_event_is_logged(entrance: Entrance, lines: list[dict[str, Any]]) -> None:
    began_s = time.monotonic()
    await entrance.post(transcription())
    text = str(lines)
    assert time.monotonic() - began_s < 5.0
    assert not any(word in text for word in ("1555000", "Zoë", "Lund", "talked"))
