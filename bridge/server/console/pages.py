"""The console's pages: from what the bridge knows to what ``bridge.web`` draws."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from bridge import __version__
from bridge.calls.carriers import ALL_CARRIERS
from bridge.calls.record import CallRecord
from bridge.config import Settings
from bridge.outcome import DRAINING
from bridge.server.api.errors import ApiError, no_such_call
from bridge.server.api.query import CALL_ID, parse_filter, parse_query
from bridge.server.api.views import Views
from bridge.server.console.doctor import DoctorRuns
from bridge.server.console.gate import Visitor
from bridge.server.console.picture import Pictures, audio_at_s
from bridge.server.facts import record_of
from bridge.server.problems import problems_of
from bridge.server.service import Bridge
from bridge.server.store.listing import QueryError
from bridge.web.call import CallPage, render_call
from bridge.web.calls import CallsPage, render_calls
from bridge.web.health import HealthPage, render_health
from bridge.web.html import PAGE_HEADERS, Frame
from bridge.web.live import Address, DemoLinks, LivePage, render_live

if TYPE_CHECKING:
    from bridge.server.storage import Storage

PER_PAGE = 50
"""Stored calls on a page."""
FILTERS = ("caller", "called", "agent_id", "since", "until", "provider", "result", "direction", "cursor")
_SIP_PROVIDER = "sip"

ADDRESSES = (
    ("Twilio", "A call comes in: Webhook, HTTP POST", "http", "/twilio/voice"),
    ("Twilio", "media socket, which the webhook’s answer names by itself", "ws", "/twilio/media"),
    ("Vonage", "Answer URL of the application", "http", "/vonage/answer"),
    ("Vonage", "Event URL of the application", "http", "/vonage/events"),
    ("Genesys", "Audio Connector, base connection URI", "ws", "/genesys/"),
)
"""Carrier, where in its pages, scheme, path."""


@dataclass(slots=True)
class Pages:
    """Makes the pages for visitors who may see them."""

    bridge: Bridge
    pictures: Pictures
    doctor: DoctorRuns

    def frame(self, title: str, here: str, root: str, visitor: Visitor | None, *scripts: str) -> Frame:
        """What stands around a page."""
        ready = self.bridge.admission.would_refuse() is None
        viewer = visitor.viewer if visitor is not None else None
        return Frame(title, root, __version__, here, viewer, scripts, ready)

    # --- live ---

    def live(self, visitor: Visitor | None) -> Response:
        """The first page; without a visitor, what anybody may know."""
        bridge, settings = self.bridge, self.bridge.settings
        base, ws = settings.public_base_url, settings.public_ws_url
        page = LivePage(
            problems=problems_of(settings),
            active_calls=bridge.admission.active,
            max_calls=settings.bridge_max_calls,
            ended=tuple(sorted(bridge.ended_counts.items())),
            uptime_s=monotonic() - bridge.started_s,
            addresses=(
                *(
                    Address(carrier, place, (base if scheme == "http" else ws) + path)
                    for carrier, place, scheme, path in ADDRESSES
                ),
                *_sip_addresses(settings),
            ),
            shows_calls=visitor is not None,
            can_transfer=bool(settings.transfer_allow),
            demo=DemoLinks() if bridge.demo_files else None,
        )
        scripts = ("live.js",) if visitor is not None else ()
        return html(render_live(self.frame("Live calls", "live", "./", visitor, *scripts), page))

    # --- stored calls ---

    async def calls(self, request: Request, visitor: Visitor) -> Response:
        """The list of stored calls."""
        storage, frame = self._storage(), self.frame("Calls", "calls", "./", visitor)
        views, providers = self._views(visitor), sorted(ALL_CARRIERS)
        query: Mapping[str, str] = {}
        try:
            query = parse_query(request.scope["query_string"], FILTERS)
            page = await storage.calls.page(parse_filter(query), query.get("cursor"), PER_PAGE)
        except (ApiError, QueryError) as error:
            return html(render_calls(frame, CallsPage((), None, query, providers, str(error))), 400)
        shown = [views.summary(record) for record in page.calls]
        return html(render_calls(frame, CallsPage(shown, page.next_cursor, query, providers)))

    async def call(self, call_id: str, visitor: Visitor) -> Response:
        """One call."""
        record = await self.find(call_id)
        bridge, now = self.bridge, time.time()
        page = CallPage(
            call=self._views(visitor).detail(record),
            deliveries=await self._storage().outbox.of_call(record.id) if bridge.parts.storage is not None else (),
            now=now,
            audio_at_s=audio_at_s(record),
            is_here=call_id in bridge.sessions,
            has_ladder=record.provider.startswith(_SIP_PROVIDER),
            has_flight=bridge.flight_desk is not None,
            can_transfer=bool(bridge.settings.transfer_allow),
        )
        return html(render_call(self.frame("Call", "calls", "../", visitor, "call.js"), page))

    async def picture(self, call_id: str) -> str:
        """The picture of one call as SVG."""
        return await self.pictures.svg(await self.find(call_id), time.time())

    async def find(self, call_id: str) -> CallRecord:
        """A call: as it stands now, where it goes on here; else its record. Raises ``ApiError``."""
        if not CALL_ID.fullmatch(call_id):
            raise ApiError(404, "no_such_call", "This is no id of a call.")
        session = self.bridge.sessions.get(call_id)
        if session is not None and session.call.info is not None:
            return record_of(call_id, session.call, session.facts)
        record = await self._storage().calls.get(call_id)
        if record is None:
            raise no_such_call(call_id)
        return record

    def _storage(self) -> Storage:
        storage = self.bridge.parts.storage
        if storage is None:
            raise ApiError(404, "no_records", "This bridge keeps no records.")
        return storage

    def _views(self, visitor: Visitor) -> Views:
        return Views(self.masks(visitor))

    def masks(self, visitor: Visitor) -> bool:
        """Whether this visitor sees masked numbers."""
        return self.bridge.settings.redact_numbers or not visitor.is_admin

    # --- health ---

    def health(self, visitor: Visitor) -> Response:
        """What the doctor has found, and what is known anyway."""
        doctor = self.doctor
        page = HealthPage(
            problems=problems_of(self.bridge.settings),
            facts=self._facts(),
            checks=doctor.checks if visitor.is_admin else None,
            is_running=doctor.is_running,
            finished_at=doctor.finished_at,
            problem=doctor.problem if visitor.is_admin else "",
        )
        return html(render_health(self.frame("Health", "health", "./", visitor, "health.js"), page))

    def _facts(self) -> tuple[tuple[str, str, bool], ...]:
        bridge = self.bridge
        refusal, usage = bridge.admission.would_refuse(), bridge.admission.usage()
        storage = bridge.parts.storage
        calls = "new calls are taken" if refusal is None else f"no new call is taken: {refusal.reason}"
        stores = {
            "memory": "counted in this process",
            "redis": f"counted in Redis, shared by {usage.instances} processes",
            "redis_down": "Redis does not answer: counted in this process until it is back",
        }
        facts = [
            ("Calls", calls, refusal is None),
            ("Limits", stores[usage.store], usage.store != "redis_down"),
            ("Live calls", stores[bridge.live.state].replace("counted", "listed"), bridge.live.state != "redis_down"),
        ]
        if storage is not None:
            is_up = storage.state == "ok"
            words = "records are written" if is_up else "the database does not answer; records wait in memory"
            facts.append(("Database", words, is_up))
        return tuple(facts)

    # --- gauges ---

    def gauges(self) -> dict[str, Any]:
        """What the gauges of the first page show, for the event stream."""
        bridge, limits = self.bridge, self.bridge.settings.limits
        usage, refusal, storage = bridge.admission.usage(), bridge.admission.would_refuse(), bridge.parts.storage
        burst_room = 0
        if bridge.settings.burst and usage.limit is not None:
            burst_room = max(0, min(limits.burst_cap, limits.burst_factor * usage.limit) - usage.limit)
        is_down = "redis_down" in (usage.store, bridge.live.state)
        return {
            "ready": refusal is None,
            "draining": refusal is DRAINING,
            "active": usage.active,
            "max_calls": usage.max_calls,
            "calls": usage.calls,
            "limit": usage.limit,
            "burst": usage.burst,
            "burst_cap": burst_room,
            "burst_minutes": round(usage.burst_minutes_today, 1),
            "waiting": usage.waiting,
            "instances": usage.instances,
            "store": "redis_down" if is_down else usage.store,
            "database": "none" if storage is None else "ok" if storage.state == "ok" else "down",
        }


def html(document: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A page as an answer."""
    return HTMLResponse(document, status, {**PAGE_HEADERS, **(headers or {})})


def _sip_addresses(settings: Settings) -> Iterator[Address]:
    """Where SIP trunks reach this bridge, by each transport that is on."""
    if not settings.has_sip:
        return
    host = settings.sip_announced_host
    host = f"[{host}]" if ":" in host else host
    ports = (("udp", settings.sip_udp_port), ("tcp", settings.sip_tcp_port), ("tls", settings.sip_tls_port))
    for transport, port in ports:
        if port is not None:
            yield Address("SIP", f"trunk, over {transport.upper()}", f"sip:{host}:{port};transport={transport}")
