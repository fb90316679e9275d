"""The API in this process, standing on fakes: what tests of its topics share."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import msgspec
from fastapi import FastAPI

from bridge.auth.api_keys import GuessCounter, GuessLimits, KeyRing, parse_keys
from bridge.calls.record import CallRecord
from bridge.calls.routing import Defaults, Listed, RoutingTable, decode_route
from bridge.calls.rules import Route
from bridge.server.api.access import AccessControl
from bridge.server.api.examples import RECORD
from bridge.server.api.ports import (
    ApiPorts,
    AudioPort,
    CallsPort,
    ControlResult,
    PlacedCall,
    PlacementRefused,
    Refusal,
    TransferWish,
)
from bridge.server.api.router import create_api
from bridge.server.live_calls import LiveCall
from bridge.server.recording.library import OpenAudio
from bridge.server.recording.names import AudioNotFoundError
from bridge.server.recording.options import AudioFormat
from bridge.server.slot_store import Usage
from bridge.server.store.calls import Deleted
from bridge.server.store.delivery import Delivery
from bridge.server.store.listing import CallFilter, CallPage, QueryError
from tests.kit.clock import FakeClock

READ, ADMIN = "dashboard-key", "operator-key"


def record(call_id: str = RECORD.id, **changes: Any) -> CallRecord:
    """The example's call under this id, with changes; nothing of it is shared."""
    copy = msgspec.json.decode(msgspec.json.encode(RECORD), type=CallRecord)
    return msgspec.structs.replace(copy, id=call_id, **changes)


class Broken:
    """Raises what it is told to, whatever is asked of it."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def check(self) -> None:
        if self.error is not None:
            raise self.error


class FakeCalls(Broken):
    """Records in a dict; the cursor is the place in the list."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, CallRecord] = {}
        self.asked: list[tuple[CallFilter, str | None, int]] = []

    def add(self, *records: CallRecord) -> None:
        self.records.update({call.id: call for call in records})

    async def page(self, wanted: CallFilter, cursor: str | None, limit: int) -> CallPage:
        self.check()
        self.asked.append((wanted, cursor, limit))
        if cursor is not None and not cursor.isdecimal():
            raise QueryError("cursor: not one of ours; take next_cursor of the page before")
        start, found = int(cursor or 0), list(self.records.values())
        end = start + limit
        return CallPage(found[start:end], str(end) if end < len(found) else None)

    async def get(self, call_id: str) -> CallRecord | None:
        self.check()
        return self.records.get(call_id)

    async def by_conversation(self, conversation_id: str) -> CallRecord | None:
        return next((call for call in self.records.values() if conversation_id in call.conversation_ids), None)

    async def by_call_sid(self, call_sid: str) -> CallRecord | None:
        return next((call for call in self.records.values() if call_sid == call.call_sid), None)

    async def delete(self, call_id: str) -> Deleted | None:
        self.check()
        call = self.records.pop(call_id, None)
        return None if call is None else Deleted(call.recording)


class FakeLive(Broken):
    state: Literal["memory", "redis", "redis_down"] = "redis"

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[LiveCall] = []

    async def all(self) -> Sequence[LiveCall]:
        self.check()
        return self.calls


class FakeAudio(Broken):
    """Files by location; only what is needed to delete them. Reading is tested with the real library."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}

    async def open_audio(self, location: str, wanted: AudioFormat | None = None, range_header: str = "") -> OpenAudio:
        self.check()
        raise AudioNotFoundError("the folder has no such recording")

    async def delete_audio(self, location: str) -> None:
        self.check()
        self.files.pop(location, None)


class FakeRoutes(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.table = RoutingTable((Route(number="+1555*", agent="agent_of_the_file"),))

    def listed(self) -> Sequence[Listed]:
        return self.table.listed()

    async def put(self, document: bytes) -> Route:
        self.check()
        route = decode_route(document, Defaults())
        kept = [other for other in self.table.database if other.key != route.key]
        self.table = self.table.with_database([*kept, route])
        return route

    async def delete(self, number: str, provider: str) -> bool:
        kept = [other for other in self.table.database if other.key != (number, provider)]
        known = len(kept) < len(self.table.database)
        self.table = self.table.with_database(kept)
        return known


class FakeDeliveries(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[Delivery] = []
        self.replayed: list[Sequence[str] | None] = []

    async def of_call(self, call_id: str) -> Sequence[Delivery]:
        self.check()
        return [event for event in self.events if event.call_id == call_id]

    async def dead(self, limit: int) -> Sequence[Delivery]:
        return [event for event in self.events if event.state == "dead"][:limit]

    async def replay(self, ids: Sequence[str] | None) -> int:
        self.replayed.append(ids)
        return len([event for event in self.events if ids is None or event.id in ids])


class FakeControl(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.result = ControlResult.DONE
        self.wishes: list[TransferWish] = []
        self.refused_as = ""
        self.orders: list[tuple[str, str]] = []

    async def hang_up(self, call_id: str) -> ControlResult:
        return self._order("hang_up", call_id)

    async def transfer(self, call_id: str, wish: TransferWish) -> ControlResult | str:
        self.wishes.append(wish)
        return self.refused_as or self._order("transfer", call_id)

    async def pause_recording(self, call_id: str) -> ControlResult:
        return self._order("pause_recording", call_id)

    async def resume_recording(self, call_id: str) -> ControlResult:
        return self._order("resume_recording", call_id)

    def _order(self, name: str, call_id: str) -> ControlResult:
        self.check()
        self.orders.append((name, call_id))
        return self.result


class FakeOutbound(Broken):
    """Places every call, or refuses as told."""

    def __init__(self) -> None:
        super().__init__()
        self.placed: list[tuple[bytes, str]] = []
        self.refusal: Refusal | None = None

    async def place(self, body: bytes, key: str) -> PlacedCall:
        self.check()
        if self.refusal is not None:
            raise PlacementRefused(self.refusal)
        self.placed.append((body, key))
        return PlacedCall(call_id="9f86d081884c7d65", call_sid="CA1", status="queued")


class FakeUsage:
    def usage(self) -> Usage:
        return Usage(
            "redis", active=3, max_calls=10, calls=5, limit=20, burst=1, waiting=2, instances=2, agents={"a": 1, "b": 4}
        )


@dataclass
class Api:
    """The API, its fakes, and a client that carries the admin key."""

    app: FastAPI
    client: httpx.AsyncClient
    access: AccessControl
    clock: FakeClock
    refused: list[str]
    calls: FakeCalls = field(default_factory=FakeCalls)
    live: FakeLive = field(default_factory=FakeLive)
    audio: FakeAudio = field(default_factory=FakeAudio)
    routes: FakeRoutes = field(default_factory=FakeRoutes)
    deliveries: FakeDeliveries = field(default_factory=FakeDeliveries)
    control: FakeControl = field(default_factory=FakeControl)
    outbound: FakeOutbound = field(default_factory=FakeOutbound)
    forgotten: list[str] = field(default_factory=list)
    """Calls whose other files were deleted."""

    async def forget_files(self, call_id: str) -> None:
        self.forgotten.append(call_id)

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.get(path, **more)

    async def refusal(self, method: str, path: str, **more: Any) -> tuple[int, str, str]:
        """Status, code and field of a request that is refused; checks the shape of the refusal."""
        response = await self.client.request(method, path, **more)
        return refusal(response)


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    """Status, code and field of a refusal; checks its shape."""
    body = response.json()
    assert response.status_code >= 400
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert set(body) == {"error"}
    assert {"code", "message"} <= set(body["error"]) <= {"code", "message", "field"}
    assert body["error"]["message"]
    return response.status_code, body["error"]["code"], body["error"].get("field", "")


@contextlib.asynccontextmanager
async def running_api(
    *,
    redact: bool = False,
    keys: str = f"read:{READ},admin:{ADMIN}",
    auth_on: bool = True,
    key: str = ADMIN,
    calls: CallsPort | None = None,
    audio: AudioPort | None = None,
    places_calls: bool = True,
) -> AsyncIterator[Api]:
    """The API with these keys; its client carries ``key`` (empty = none). ``calls`` and ``audio`` replace fakes."""
    clock, refused = FakeClock(), list[str]()
    ring = KeyRing(parse_keys(keys) if keys else ())
    access = AccessControl(
        ring, GuessCounter(GuessLimits()), lambda: clock.now, auth_on=auth_on, on_refused=refused.append
    )
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    transport = httpx.ASGITransport(app, client=("192.0.2.1", 12345), raise_app_exceptions=True)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://bridge.test", headers={"X-API-Key": key} if key else {}
    ) as client:
        api = Api(app, client, access, clock, refused)
        ports = ApiPorts(
            calls=calls or api.calls,
            live=api.live,
            audio=audio or api.audio,
            routes=api.routes,
            deliveries=api.deliveries,
            control=api.control,
            usage=FakeUsage(),
            outbound=api.outbound if places_calls else None,
            leftovers=(api.forget_files,),
        )
        app.include_router(create_api(ports, access, redact_numbers=redact, public_url="https://bridge.example.com"))
        yield api
