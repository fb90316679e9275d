"""The console's routes, and what is true of all of them: who gets in, and what a refusal looks like."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from bridge import __version__
from bridge.auth.api_keys import Scope
from bridge.calls.picture_style import PICTURE_CSP
from bridge.server.api.errors import NO_STORE, ApiError
from bridge.server.api.operations import is_unavailable
from bridge.server.console.desk import Desk
from bridge.server.console.ear import ListenStream
from bridge.server.console.forward import ORDERS, PARTS, Forward
from bridge.server.console.gate import NoKeySet, SignInNeeded, Visitor, read_form
from bridge.server.console.pages import html
from bridge.server.console.stream import EventStream
from bridge.server.logs import get_logger
from bridge.server.store.faults import describe
from bridge.web.assets import ASSETS
from bridge.web.signin import render_sign_in, render_sorry

Handler = Callable[[Request, Visitor], Awaitable[Response]]

_NEXT = re.compile(r"(?:calls(?:/[A-Za-z0-9_-]{1,64})?|health)?")
"""Where one may be led after signing in."""
_NO_KEY = ApiError(403, "api_key_not_set", "Nobody can sign in because no key is configured: set BRIDGE_API_KEY.")


class Routes:
    """The handlers of all routes."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._gate, self._pages = desk.gate, desk.pages

    def router(self) -> APIRouter:
        """Everything of the console."""
        router = APIRouter()
        for path, endpoint, methods in (
            ("/", self._live, ["GET"]),
            ("/calls", self._page(lambda request, visitor: self._pages.calls(request, visitor)), ["GET"]),
            ("/calls/{id}", self._page(self._call), ["GET"]),
            ("/health", self._page(self._health), ["GET"]),
            ("/health/run", self._run_doctor, ["POST"]),
            ("/sign-in", self._sign_in_page, ["GET"]),
            ("/sign-in", self._sign_in, ["POST"]),
            ("/sign-out", self._sign_out, ["POST"]),
            ("/assets/{name}", _asset, ["GET"]),
            ("/console/events", self._data(self._events), ["GET"]),
            ("/console/doctor", self._data(self._doctor, Scope.ADMIN), ["GET"]),
            ("/console/calls/{id}/picture.svg", self._data(self._picture), ["GET"]),
            ("/console/calls/{id}/listen", self._data(self._listen, Scope.ADMIN), ["GET"]),
            ("/console/calls/{id}/{part}", self._data(self._part), ["GET"]),
            ("/console/calls/{id}/{order}", self._change(self._order), ["POST"]),
        ):
            router.routes.append(Route(path, endpoint, methods=methods, include_in_schema=False))
        return router

    # --- who gets in ---

    def _page(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """A page for visitors who may look."""

        async def endpoint(request: Request) -> Response:
            try:
                return await handler(request, await self._gate.enter(request))
            except Exception as error:  # every fault becomes a page; bugs are logged
                return _sorry(request, error)

        return endpoint

    def _data(self, handler: Handler, needed: Scope = Scope.READ) -> Callable[[Request], Awaitable[Response]]:
        """Something that pages load."""

        async def endpoint(request: Request) -> Response:
            try:
                return await handler(request, await self._gate.enter(request, needed))
            except Exception as error:  # as above
                return _error(request, error)

        return endpoint

    def _change(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Something that pages do."""

        async def endpoint(request: Request) -> Response:
            try:
                return await handler(request, await self._gate.enter_to_change(request))
            except Exception as error:  # as above
                return _error(request, error)

        return endpoint

    async def _sign_in_page(self, request: Request) -> Response:
        query = request.query_params
        page = render_sign_in("./", __version__, ended="ended" in query, then=_then(query.get("then", "")))
        return html(page)

    async def _sign_in(self, request: Request) -> Response:
        form: dict[str, str] = {}
        try:
            form = await read_form(request)
            cookie = await self._gate.sign_in(request, form.get("key", ""))
        except ApiError as error:
            words = "Give the key." if error.info.code == "no_api_key" else str(error)
            page = render_sign_in("./", __version__, problem=words, then=_then(form.get("then", "")))
            return html(page, error.status, error.headers)
        except NoKeySet:
            return _sorry(request, _NO_KEY)
        return RedirectResponse(f"./{_then(form.get('then', ''))}", 303, {"Set-Cookie": cookie, **NO_STORE})

    async def _sign_out(self, request: Request) -> Response:
        try:
            visitor = await self._gate.enter_to_change(request, await read_form(request), Scope.READ)
            cookie = await self._gate.sign_out(request, visitor)
        except (SignInNeeded, NoKeySet):
            return RedirectResponse("./", 303)
        except ApiError as error:
            return _sorry(request, error)
        return RedirectResponse("./", 303, {"Set-Cookie": cookie, **NO_STORE})

    # --- pages ---

    async def _live(self, request: Request) -> Response:
        try:
            return self._pages.live(await self._gate.enter(request))
        except NoKeySet:
            return self._pages.live(None)
        except Exception as error:  # as above
            return _sorry(request, error)

    async def _call(self, request: Request, visitor: Visitor) -> Response:
        return await self._pages.call(request.path_params["id"], visitor)

    async def _health(self, request: Request, visitor: Visitor) -> Response:
        return self._pages.health(visitor)

    async def _run_doctor(self, request: Request) -> Response:
        try:
            form = await read_form(request)
            visitor = await self._gate.enter_to_change(request, form)
        except Exception as error:  # as above
            return _sorry(request, error)
        self._desk.examine(conversation=form.get("conversation") == "yes", key_id=visitor.access.key_id)
        return RedirectResponse("../health", 303)

    # --- what pages load and do ---

    async def _events(self, request: Request, visitor: Visitor) -> Response:
        if self._desk.is_full:
            raise ApiError(
                503, "too_many_consoles", "Too many consoles watch this process.", headers={"Retry-After": "5"}
            )
        if request.method == "HEAD":
            return Response(status_code=204, headers=NO_STORE)
        return EventStream(
            self._desk.feed,
            masked=self._pages.masks(visitor),
            still_in=lambda: self._gate.still_in(visitor),
            is_closing=lambda: self._desk.is_closing,
        )

    async def _doctor(self, request: Request, visitor: Visitor) -> Response:
        return Response(
            b'{"running":true}' if self._desk.doctor.is_running else b'{"running":false}',
            headers=NO_STORE,
            media_type="application/json",
        )

    async def _picture(self, request: Request, visitor: Visitor) -> Response:
        svg = await self._pages.picture(request.path_params["id"])
        headers = {**NO_STORE, "Content-Security-Policy": PICTURE_CSP}
        return Response(svg, headers=headers, media_type="image/svg+xml")

    async def _listen(self, request: Request, visitor: Visitor) -> Response:
        session = self._desk.begin_listening(request.path_params["id"])
        return ListenStream(
            session,
            visitor.access.key_id,
            still_in=lambda: self._gate.still_in(visitor),
            on_over=self._desk.listening_over,
        )

    async def _part(self, request: Request, visitor: Visitor) -> Response:
        return _forward(request, visitor, request.path_params["part"], PARTS)

    async def _order(self, request: Request, visitor: Visitor) -> Response:
        call_id, order = request.path_params["id"], request.path_params["order"]
        answer = _forward(request, visitor, order, ORDERS)
        get_logger(call_id=call_id[:64]).info("console_order", order=order, key_id=visitor.access.key_id)
        return answer


def _forward(request: Request, visitor: Visitor, part: str, known: frozenset[str]) -> Response:
    call_id = request.path_params["id"]
    if part not in known or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", call_id):
        raise ApiError(404, "no_such_path", "There is nothing at this path.")
    return Forward(request, f"/v1/calls/{call_id}/{part}", visitor.access)


def _then(path: str) -> str:
    return path if _NEXT.fullmatch(path) else ""


def _root(request: Request) -> str:
    """The way from this page to the console's root, whatever prefix a proxy has taken off."""
    return "../" * request.url.path.strip("/").count("/") or "./"


def _sorry(request: Request, error: Exception) -> Response:
    """A page that says why not."""
    root = _root(request)
    if isinstance(error, SignInNeeded):
        then, ended = _then(request.url.path.strip("/")), error.ended
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):  # a browser
            query = urlencode({"then": then} | ({"ended": "yes"} if ended else {}))
            return RedirectResponse(f"{root}sign-in?{query}", 303, NO_STORE)
        return html(render_sign_in(root, __version__, ended=ended, then=then), 401)
    answer = _as_api_error(request, error)
    title = {403: "Not allowed", 404: "Not found", 503: "Not available now"}.get(answer.status, "")
    title = title or HTTPStatus(answer.status).phrase
    return html(render_sorry(root, __version__, title, str(answer)), answer.status, answer.headers)


def _error(request: Request, error: Exception) -> Response:
    """The same for what pages load, in the API's own shape."""
    if isinstance(error, SignInNeeded):
        error = ApiError(401, "sign_in", "Sign in to the console, or give an API key.")
    return _as_api_error(request, error).response()


def _as_api_error(request: Request, error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, NoKeySet):
        return _NO_KEY
    if is_unavailable(error):
        get_logger().warning("console_unavailable", path=request.url.path[:100], detail=describe(error))
        words = "The database, Redis or the recordings' store does not answer; try again, and see the bridge's log."
        return ApiError(503, "unavailable", words, headers={"Retry-After": "5"})
    get_logger().error("console_bug", path=request.url.path[:100], exc_info=error)
    return ApiError(500, "internal", "The bridge failed on its own; please report the traceback in its log.")


async def _asset(request: Request) -> Response:
    """A file of the console; open to everybody, as it holds no data."""
    found = ASSETS.get(request.path_params["name"])
    if found is None:
        return ApiError(404, "no_such_file", "There is no such file.").response()
    content, kind = found
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache", "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers={**headers, "Content-Security-Policy": "default-src 'none'"}, media_type=kind)
