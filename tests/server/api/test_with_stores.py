"""The API on the real stores: that they fit its ports, and that lists, ids and deletions reach the database."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from bridge.auth.api_keys import GuessCounter, GuessLimits, KeyRing, parse_keys
from bridge.calls.admission import Limits
from bridge.calls.record import OutboxEvent, Recording
from bridge.calls.routing import Defaults, RoutingTable
from bridge.server.admission import Admission
from bridge.server.api.access import AccessControl
from bridge.server.api.examples import LIVE_CALL
from bridge.server.api.ports import ApiPorts
from bridge.server.api.router import create_api
from bridge.server.api.stored_routes import StoredRoutes
from bridge.server.live_calls import LiveCalls
from bridge.server.recording.library import AudioLibrary
from bridge.server.store.calls import CallStore
from bridge.server.store.database import Database, open_database
from bridge.server.store.outbox import OutboxStore
from bridge.server.store.routes import RouteStore
from tests.server.api.api_fakes import ADMIN, FakeControl, record, refusal

pytestmark = pytest.mark.e2e


@contextlib.asynccontextmanager
async def client_on(database: Database, folder: Path, live: LiveCalls) -> AsyncIterator[httpx.AsyncClient]:
    table = RoutingTable()

    async def reload() -> None:
        pass

    ports = ApiPorts(
        calls=CallStore(database),
        live=live,
        audio=AudioLibrary(folder),
        routes=StoredRoutes(RouteStore(database), lambda: table, Defaults, reload),
        deliveries=OutboxStore(database),
        control=FakeControl(),
        usage=Admission(Limits(10)),
    )
    ring = KeyRing(parse_keys(ADMIN))
    app = FastAPI()
    access = AccessControl(ring, GuessCounter(GuessLimits()), lambda: 0.0, on_refused=print)
    app.include_router(create_api(ports, access, redact_numbers=False))
    headers = {"X-API-Key": ADMIN}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://bridge.test", headers=headers
    ) as client:
        yield client


async def test_the_whole_api_on_real_stores(tmp_path: Path) -> None:
    database = open_database(None, tmp_path)
    await database.upgrade()
    store, live = CallStore(database), LiveCalls(LIVE_CALL.instance_id)
    recording = Recording(location="c000.wav", format="wav", size_bytes=5, complete=True)
    (tmp_path / "c000.wav").write_bytes(b"sound")
    event = OutboxEvent(
        id="evt_c000_call.ended", call_id="c000", sequence=1, type="call.ended", created_at=1.0, body=b"{}"
    )
    records = [
        record(
            f"c{number:03}",
            created_at=1000.0 + number,
            ended_at=None if number == 249 else 2000.0,
            state="active" if number == 249 else "ended",
            call_sid=f"CA{number}",
            conversation_ids=[f"conv_{number}a", f"conv_{number}b"],
            caller="+4930123456" if number % 2 else "sip:alice@example.com",
            recording=recording if number == 0 else None,
        )
        for number in range(250)
    ]
    await store.save([(call, (event,) if call.id == "c000" else ()) for call in records])
    live.put(LIVE_CALL)
    try:
        async with client_on(database, tmp_path, live) as client:
            assert await every_id(client, "limit=100") == [f"c{number:03}" for number in reversed(range(250))]
            assert len(await every_id(client, "caller=+4930123456&limit=200")) == 125
            assert await every_id(client, "live=true") == ["c249"]
            assert await every_id(client, "conversation_id=conv_7a") == ["c007"]
            assert await every_id(client, "since=1970-01-01T00:16:42Z&until=1004") == ["c003", "c002"]
            assert refusal(await client.get("/v1/calls?cursor=AAAA")) == (400, "invalid_parameter", "cursor")
            assert (await client.get("/v1/calls/CA7?by=call_sid")).json()["id"] == "c007"
            assert (await client.get("/v1/calls/conv_7a?by=conversation_id")).json()["id"] == "c007"
            assert len((await client.get("/v1/calls/c007/events")).json()["events"]) == 7
            assert (await client.get("/v1/calls/c000/audio")).content == b"sound"
            (delivery,) = (await client.get("/v1/calls/c000/webhooks")).json()["events"]
            assert (delivery["type"], delivery["state"]) == ("call.ended", "pending")
            assert (await client.get("/v1/live")).json()["count"] == 1
            assert (await client.get("/v1/usage")).json()["instance_limit"] == 10
            assert (await client.put("/v1/routes", json={"number": "+49*"})).status_code == 200
            assert (await client.delete("/v1/routes?number=+49*")).status_code == 204
            assert (await client.post("/v1/webhooks/dead/replay", json={"all": True})).json() == {"replayed": 0}
            assert refusal(await client.delete("/v1/calls/c249")) == (409, "call_is_live", "")
            assert (await client.delete("/v1/calls/c000")).status_code == 204
            assert refusal(await client.get("/v1/calls/c000")) == (404, "no_such_call", "")
            assert not (tmp_path / "c000.wav").exists()
    finally:
        await database.close()


async def every_id(client: httpx.AsyncClient, query: str) -> list[str]:
    """Ids of all pages."""
    ids: list[str] = []
    cursor = ""
    while True:
        page = (await client.get(f"/v1/calls?{query}{cursor}")).json()
        ids += [call["id"] for call in page["calls"]]
        if page["next_cursor"] is None:
            return ids
        cursor = f"&cursor={page['next_cursor']}"
