"""The HTTP side: health, metrics, the status page and the carriers' webhooks. Media never passes through here."""

from __future__ import annotations

from time import monotonic

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from bridge import __version__, outcome
from bridge.auth.api_keys import KeyRing, presented_keys
from bridge.calls.carriers import ALL_CARRIERS
from bridge.calls.picture_style import PICTURE_CSP
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
from bridge.web.status import STATUS_CSP, STATUS_CSS, DemoLinks, StatusPage, render_status

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
    operator = _Operator(bridge)
    for path, handler in (
        ("/healthz", operator.healthz),
        ("/readyz", operator.readyz),
        ("/metrics", operator.metrics),
        ("/", operator.status),
        ("/status.css", operator.stylesheet),
        ("/demo/{name}", operator.demo_file),
    ):
        app.add_api_route(path, handler, methods=["GET"], response_model=None)
    storage, recorder = bridge.parts.storage, bridge.parts.recorder
    if storage is not None and recorder is not None and reloader is not None:
        vendor = vendor_webhooks(bridge, storage)
        app.include_router(vendor.router)
        access = access_of(bridge)
        app.include_router(api_router(bridge, storage, recorder, access, reloader))  # last: it has every path of /v1

        def follow() -> None:
            access.ring = KeyRing(bridge.settings.api_keys)
            vendor.options = webhook_in_options(bridge)

        bridge.on_apply.append(follow)
    return app


class _Operator:
    """The routes for whoever runs the bridge."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def healthz(self) -> Response:
        """Alive: the process answers."""
        return JSONResponse({"status": "ok", "version": __version__})

    async def readyz(self) -> Response:
        """Ready: new calls are taken. 503 while draining or full, with the reason."""
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
        refusal = self._refuse_stranger(request, "metrics")
        if refusal is not None:
            return refusal
        return Response(self._bridge.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def status(self, request: Request) -> Response:
        """The status page; behind the API key when one is set."""
        refusal = self._refuse_stranger(request, "status")
        if refusal is not None:
            return refusal
        bridge = self._bridge
        page = StatusPage(
            version=__version__,
            ready=bridge.admission.would_refuse() is None,
            problems=problems_of(bridge.settings),
            active_calls=bridge.admission.active,
            max_calls=bridge.settings.bridge_max_calls,
            ended=tuple(sorted(bridge.ended_counts.items())),
            uptime_s=monotonic() - bridge.started_s,
            voice_url=bridge.settings.public_base_url + "/twilio/voice",
            media_url=bridge.settings.public_ws_url + "/twilio/media",
            demo=DemoLinks() if bridge.demo_files else None,
        )
        paused = "pause" in request.query_params
        headers = {**PAGE_HEADERS, "Content-Security-Policy": STATUS_CSP}
        return HTMLResponse(render_status(page, paused=paused), headers=headers)

    async def stylesheet(self) -> Response:
        """The status page's style."""
        return Response(STATUS_CSS, media_type="text/css", headers={"X-Content-Type-Options": "nosniff"})

    async def demo_file(self, name: str, request: Request) -> Response:
        """A recording or picture of the demo; behind the API key when one is set."""
        refusal = self._refuse_stranger(request, "demo")
        if refusal is not None:
            return refusal
        path = self._bridge.demo_files.get(name)
        if path is None or not path.is_file():
            return Response("no such file\n", status_code=404, media_type="text/plain")
        return FileResponse(path, headers={**PAGE_HEADERS, "Content-Security-Policy": PICTURE_CSP})

    def _refuse_stranger(self, request: Request, entrance: str) -> Response | None:
        """403 unless the request carries BRIDGE_API_KEY (as Bearer token or X-API-Key), if one is set."""
        settings, given = self._bridge.settings, request.headers
        if not settings.api_keys or settings.bridge_auth == "off":
            return None
        keys = presented_keys(given.getlist("authorization"), given.getlist("x-api-key"), given.getlist("xi-api-key"))
        if KeyRing(settings.api_keys).authorize(keys) is not None:
            return None
        self._bridge.metrics.refused.labels(entrance).inc()
        return Response("forbidden: give BRIDGE_API_KEY as X-API-Key\n", status_code=403, media_type="text/plain")
