"""The HTTP side: health, metrics, the console, the API and the carriers' webhooks. Media never passes through here."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from bridge import __version__, outcome
from bridge.auth.api_keys import KeyRing, presented_keys
from bridge.calls.carriers import ALL_CARRIERS
from bridge.calls.picture_style import PICTURE_CSP
from bridge.server.console.desk import Desk
from bridge.server.console.gate import Gate
from bridge.server.console.router import Routes
from bridge.server.nonce import nonce_router
from bridge.server.operator_api import access_of, api_router, vendor_webhooks, webhook_in_options
from bridge.server.problems import problems_of
from bridge.server.reload import Reloader
from bridge.server.service import Bridge
from bridge.server.twilio_forms import TwilioForms
from bridge.server.twilio_http import TwilioWebhooks
from bridge.server.twilio_transfers import TwilioTransferWebhooks
from bridge.server.vonage_hooks import VonageHooks
from bridge.server.vonage_http import VonageWebhooks
from bridge.server.vonage_transfers import VonageTransferWebhooks

PAGE_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


def create_app(bridge: Bridge, reloader: Reloader | None = None) -> FastAPI:
    """The ASGI application around a bridge; the API is part of it where records are kept."""
    app = FastAPI(title="Telephony bridge", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(TwilioWebhooks(bridge, bridge.outbound).router)
    app.include_router(TwilioTransferWebhooks(bridge, TwilioForms(bridge)).router)
    hooks = VonageHooks(bridge)
    app.include_router(VonageWebhooks(bridge, hooks, bridge.outbound).router)
    app.include_router(VonageTransferWebhooks(bridge, hooks).router)
    app.include_router(nonce_router())
    access = access_of(bridge)
    desk = Desk(bridge, access)
    operator = _Operator(bridge, desk.gate)
    for path, handler in (
        ("/healthz", operator.healthz),
        ("/readyz", operator.readyz),
        ("/metrics", operator.metrics),
        ("/demo/{name}", operator.demo_file),
    ):
        app.add_api_route(path, handler, methods=["GET"], response_model=None)
    app.include_router(Routes(desk).router())
    storage, recorder = bridge.parts.storage, bridge.parts.recorder
    if storage is not None and recorder is not None and reloader is not None:
        vendor = vendor_webhooks(bridge, storage)
        app.include_router(vendor.router)
        app.include_router(api_router(bridge, storage, recorder, access, reloader))  # last: it has every path of /v1

        def follow() -> None:
            vendor.options = webhook_in_options(bridge)

        bridge.on_apply.append(follow)

    def rotate_keys() -> None:
        access.ring = KeyRing(bridge.settings.api_keys)

    bridge.on_apply.append(rotate_keys)
    return app


class _Operator:
    """The routes for whoever runs the bridge."""

    def __init__(self, bridge: Bridge, gate: Gate) -> None:
        self._bridge = bridge
        self._gate = gate

    async def healthz(self) -> Response:
        """Alive: the process answers."""
        return JSONResponse({"status": "ok", "version": __version__})

    async def readyz(self) -> Response:
        """Ready: new calls are taken. 503 while draining; full is said, too, and is no 503."""
        bridge = self._bridge
        refusal = bridge.admission.would_refuse()
        usage = bridge.admission.usage()
        body = {
            "ready": refusal is None,
            "reason": refusal.reason if refusal is not None else "",
            "instance": bridge.instance_id,
            "active_calls": bridge.admission.active,
            "max_calls": bridge.settings.bridge_max_calls,
            "workspace": {"calls": usage.calls, "limit": usage.limit, "burst": usage.burst, "waiting": usage.waiting},
            "limits_in": usage.store,
            "database": "none" if bridge.parts.storage is None else bridge.parts.storage.state,
            "carriers": sorted(ALL_CARRIERS),
            "problems": problems_of(bridge.settings),
        }
        # Full is not broken: an orchestrator must not restart a bridge for having work. It only takes no more.
        return JSONResponse(body, status_code=200 if refusal is not outcome.DRAINING else 503)

    async def metrics(self, request: Request) -> Response:
        """Prometheus metrics; behind the API key when one is set. They hold counts, never numbers or words."""
        refusal = await self._refuse_stranger(request, "metrics")
        if refusal is not None:
            return refusal
        return Response(self._bridge.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def demo_file(self, name: str, request: Request) -> Response:
        """A recording or picture of the demo; behind the API key when one is set."""
        refusal = await self._refuse_stranger(request, "demo")
        if refusal is not None:
            return refusal
        path = self._bridge.demo_files.get(name)
        if path is None or not path.is_file():
            return Response("no such file\n", status_code=404, media_type="text/plain")
        return FileResponse(path, headers={**PAGE_HEADERS, "Content-Security-Policy": PICTURE_CSP})

    async def _refuse_stranger(self, request: Request, entrance: str) -> Response | None:
        """If a key is set: 403 unless the request carries one (as Bearer token or X-API-Key), or a session of the
        console's."""
        settings, given = self._bridge.settings, request.headers
        if not settings.api_keys or settings.bridge_auth == "off":
            return None
        keys = presented_keys(given.getlist("authorization"), given.getlist("x-api-key"), given.getlist("xi-api-key"))
        if KeyRing(settings.api_keys).authorize(keys) is not None or await self._gate.has_session(request):
            return None
        self._bridge.metrics.refused.labels(entrance).inc()
        return Response("forbidden: give BRIDGE_API_KEY as X-API-Key\n", status_code=403, media_type="text/plain")
