"""The API and the vendor's entrance on a bridge that keeps records: that they are wired to the right things."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from bridge.auth.tokens import CallClaims
from bridge.auth.webhook import HEADER, sign
from bridge.calls.routing import RoutingTable
from bridge.config import Configuration
from bridge.server import operator_api
from bridge.server.app import create_app
from bridge.server.elevenlabs_http import PATH
from bridge.server.operator_api import webhook_in_options
from bridge.server.service import Bridge
from bridge.server.watch import watching
from tests.kit import convai, twilio
from tests.kit.offline import keeping_bridge, offline_bridge
from tests.kit.server import AUTH_TOKEN, settings_for
from tests.kit.sessions import Table

READ, ADMIN = "key-for-looking", "key-for-everything"
KEYS = {"BRIDGE_API_KEY": f"read:{READ},admin:{ADMIN}"}
VENDOR = "wsec_vendor"
CALLER = "+15557654321"


@contextlib.asynccontextmanager
async def operated(
    folder: Path, given: dict[str, str] | None = None, **settings: str
) -> AsyncIterator[tuple[Bridge, httpx.AsyncClient]]:
    """A bridge with everything, and its operator, who has the key that may do everything."""
    async with (
        keeping_bridge(folder, {**KEYS, **(given or {}), **settings}) as bridge,
        watching(bridge, None) as reloader,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(bridge, reloader)),
            base_url="http://bridge.test",
            headers={"X-API-Key": ADMIN},
        ) as client,
    ):
        yield bridge, client


async def a_call(bridge: Bridge, *, call_sid: str = twilio.CALL_SID) -> Table:
    """A call in progress, let in without a token."""
    issued = await bridge.tokens.issue(call_sid, CallClaims(caller=CALLER, called="+15550199", direction="inbound"))
    return await Table(bridge).activate(call_sid, token=issued.token)


async def written(bridge: Bridge) -> None:
    storage = bridge.parts.storage
    assert storage is not None
    assert await storage.ledger.flush(5.0)


# --- the API ---------------------------------------------------------------------------------------------


async def test_a_call_is_listed_while_it_is_on_and_afterwards(tmp_path: Path) -> None:
    async with operated(tmp_path) as (bridge, client):
        table = await a_call(bridge)
        call_id = table.session.call_id
        live = (await client.get("/v1/live")).json()
        assert [call["id"] for call in live["calls"]] == [call_id]
        assert (await client.get("/v1/usage")).json()["used"] == 1
        assert (await client.post(f"/v1/calls/{call_id}/hangup")).status_code == 200
        assert bridge.ended_counts == {"success/operator_hangup": 1}
        await written(bridge)
        listed = (await client.get("/v1/calls")).json()["calls"]
        assert [(call["id"], call["reason"], call["caller"]) for call in listed] == [
            (call_id, "operator_hangup", CALLER)
        ]
        assert (await client.get("/v1/live")).json()["calls"] == []


async def test_numbers_are_masked_when_that_is_set(tmp_path: Path) -> None:
    async with operated(tmp_path, REDACT_NUMBERS="on") as (bridge, client):
        table = await a_call(bridge)
        assert CALLER[:-4] not in (await client.get("/v1/live")).text
        table.hang_up()
        await written(bridge)
        assert CALLER[:-4] not in (await client.get("/v1/calls")).text


async def test_a_route_that_is_put_is_in_force_at_once(tmp_path: Path) -> None:
    async with operated(tmp_path) as (bridge, client):
        before = bridge.routing.resolve("twilio", "+15550199", "", bridge.defaults)
        assert before.agent_id == "agent_1"
        answer = await client.put("/v1/routes", json={"number": "+15550199", "agent": "agent_7"})
        assert answer.status_code == 200
        assert bridge.routing.resolve("twilio", "+15550199", "", bridge.defaults).agent_id == "agent_7"
        listed = (await client.get("/v1/routes")).json()["routes"]
        assert [(entry["number"], entry["source"]) for entry in listed] == [("+15550199", "database")]
        answer = await client.delete("/v1/routes", params={"number": "+15550199"})
        assert answer.status_code == 204
        assert bridge.routing.resolve("twilio", "+15550199", "", bridge.defaults).agent_id == "agent_1"


async def test_a_route_is_checked_against_the_settings_of_now(tmp_path: Path) -> None:
    route = {"number": "*", "overflow": "divert"}
    async with operated(tmp_path) as (bridge, client):
        assert (await client.put("/v1/routes", json=route)).status_code == 422
        bridge.apply(Configuration(settings_for({**KEYS, "OVERFLOW_DIVERT_TO": "+15550111"}), bridge.routing))
        assert (await client.put("/v1/routes", json=route)).status_code == 200


async def test_who_may_do_what(tmp_path: Path) -> None:
    async with operated(tmp_path) as (bridge, client):
        reading = {"X-API-Key": READ}
        assert (await client.get("/v1/calls", headers=reading)).status_code == 200
        assert (await client.put("/v1/routes", json={"number": "*"}, headers=reading)).status_code == 403
        assert (await client.get("/v1/calls", headers={"X-API-Key": "made-up"})).status_code == 401
        assert (await client.get("/metrics", headers=reading)).status_code == 200
        text = bridge.metrics.render().decode()
        assert 'bridge_refused_requests_total{entrance="api"}' in text


async def test_keys_are_rotated_without_a_restart(tmp_path: Path) -> None:
    async with operated(tmp_path) as (bridge, client):
        fresh = settings_for({"BRIDGE_API_KEY": "the-next-key", "TWILIO_AUTH_TOKEN": AUTH_TOKEN})
        bridge.apply(Configuration(fresh, RoutingTable()))
        assert (await client.get("/v1/calls")).status_code == 401
        assert (await client.get("/v1/calls", headers={"X-API-Key": "the-next-key"})).status_code == 200


async def test_the_description_needs_no_key(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, client):
        for path in ("/openapi.json", "/docs"):
            assert (await client.get(path, headers={"X-API-Key": ""})).status_code == 200
        assert (await client.get("/v1/none")).status_code == 404


@pytest.mark.parametrize(("auth", "is_open"), [("on", False), ("off", True)])
async def test_without_keys_the_api_is_closed_and_without_authentication_open(
    tmp_path: Path, auth: str, is_open: bool
) -> None:
    async with operated(tmp_path, BRIDGE_API_KEY="", BRIDGE_AUTH=auth) as (_, client):
        for headers in ({"X-API-Key": ""}, {"X-API-Key": ADMIN}):
            assert ((await client.get("/v1/calls", headers=headers)).status_code == 200) is is_open


async def test_ready_says_how_the_database_is(tmp_path: Path) -> None:
    async with operated(tmp_path) as (bridge, client):
        assert (await client.get("/readyz")).json()["database"] == "ok"
        storage = bridge.parts.storage
        assert storage is not None
        storage.ledger.trouble = "database is locked"
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["database"]) == (200, "database is locked")


# --- the vendor's webhooks -------------------------------------------------------------------------------


async def report(client: httpx.AsyncClient, secret: str = VENDOR) -> httpx.Response:
    """The vendor's report on the conversation of ``tests.kit.convai``."""
    body = json.dumps(
        {
            "type": "post_call_transcription",
            "event_timestamp": 1739537297,
            "data": {
                "agent_id": "agent_1",
                "conversation_id": convai.CONVERSATION_ID,
                "status": "done",
                "transcript": [],
                "metadata": {"start_time_unix_secs": 1, "call_duration_secs": 22},
                "analysis": {"data_collection_results": {"wish": {"data_collection_id": "wish", "value": "refund"}}},
            },
        }
    ).encode()
    return await client.post(PATH, content=body, headers={HEADER: sign(secret, body, time.time())})


async def test_what_the_vendor_reports_is_added_to_its_call(tmp_path: Path) -> None:
    async with operated(tmp_path, ELEVENLABS_WEBHOOK_SECRET=VENDOR) as (bridge, client):
        table = await a_call(bridge)
        table.hang_up()
        await written(bridge)
        assert (await report(client)).status_code == 200
        await written(bridge)
        storage = bridge.parts.storage
        assert storage is not None
        record = await storage.calls.get(table.session.call_id)
        assert record is not None
        assert (record.reason, record.outputs["wish"]) == ("caller_hangup", "refund")
        assert await storage.outbox.of_call(record.id) == [], "there is nobody to tell"


async def test_a_report_never_puts_back_an_older_version_of_its_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is locked when the call ends, and the vendor's report comes before it lets go."""
    monkeypatch.setattr(operator_api, "CATCH_UP_S", 0.05)
    async with operated(tmp_path, ELEVENLABS_WEBHOOK_SECRET=VENDOR) as (bridge, client):
        storage = bridge.parts.storage
        assert storage is not None
        table = await a_call(bridge)
        await written(bridge)

        async def fail(*_args: object) -> None:
            raise OSError("database is locked")

        with monkeypatch.context() as locked:
            locked.setattr(storage.calls, "save_encoded", fail)
            table.hang_up()
            assert (await report(client)).status_code == 503, "the vendor is to try again"
        await written(bridge)
        assert (await report(client)).status_code == 200
        await written(bridge)
        record = await storage.calls.get(table.session.call_id)
        assert record is not None
        assert (record.reason, record.outputs["wish"]) == ("caller_hangup", "refund")


async def test_what_the_vendor_reports_is_passed_on(tmp_path: Path) -> None:
    hooks = {"WEBHOOK_URL": "http://127.0.0.1:9/hook", "WEBHOOK_SECRET": "s", "EGRESS_ALLOW": "127.0.0.1"}
    async with operated(tmp_path, hooks, ELEVENLABS_WEBHOOK_SECRET=VENDOR) as (bridge, client):
        table = await a_call(bridge)
        table.hang_up()
        await written(bridge)
        for _ in range(2):  # the vendor repeats what it is not sure of
            assert (await report(client)).status_code == 200
        storage = bridge.parts.storage
        assert storage is not None
        events = await storage.outbox.of_call(table.session.call_id)
        assert [event.type for event in events][:2] == ["call.started", "call.answered"]
        assert len({event.id for event in events}) == len(events)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))


@pytest.mark.parametrize(("secret", "status"), [("", 503), (VENDOR, 401)])
async def test_a_stranger_reports_nothing(tmp_path: Path, secret: str, status: int) -> None:
    async with operated(tmp_path, ELEVENLABS_WEBHOOK_SECRET=secret) as (_, client):
        assert (await report(client, "made-up")).status_code == status


async def test_the_vendors_secret_is_rotated_without_a_restart(tmp_path: Path) -> None:
    async with operated(tmp_path, ELEVENLABS_WEBHOOK_SECRET=VENDOR) as (bridge, client):
        assert (await report(client)).status_code == 200
        bridge.apply(Configuration(settings_for({**KEYS, "ELEVENLABS_WEBHOOK_SECRET": "the-next"}), RoutingTable()))
        assert (await report(client)).status_code == 401
        assert (await report(client, "the-next")).status_code == 200


def test_nothing_is_verified_without_authentication() -> None:
    assert webhook_in_options(offline_bridge(BRIDGE_AUTH="off")).verify is False
    assert webhook_in_options(offline_bridge(ELEVENLABS_WEBHOOK_SECRET="a,b")).secrets == ("a", "b")
