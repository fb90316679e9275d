"""Who may see and do what in the console, and whether a change really comes from one of its own pages.

Three ways in: a session (a cookie), an API key in a header as for the API, and none at all with BRIDGE_AUTH=off. While
no key is configured nobody gets in. A change must come from the same origin (Fetch Metadata, RFC 6454) and, in a
session, carry the session's token, which other origins cannot read.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from bridge.auth.api_keys import Access, Scope, presented_keys
from bridge.server.api.access import OPEN_ACCESS, AccessControl, refuse_other_origins
from bridge.server.api.errors import ApiError
from bridge.server.console.sessions import SESSION_S, ConsoleSession, Sessions
from bridge.server.service import Bridge
from bridge.web.html import Viewer

COOKIE = "bridge_console"
TOKEN_HEADER = "X-CSRF-Token"  # noqa: S105
NONCE_BYTES = 16
MAX_FORM_BYTES = 4096
"""A key or a target of a transfer."""
MAX_FIELDS = 10

ENTRANCE = "console"
"""The name of this entrance in ``bridge_refused_total``."""

ROLES = {Scope.ADMIN: "admin", Scope.READ: "read only"}


class SignInNeeded(Exception):
    """Nobody has signed in."""

    def __init__(self, *, ended: bool) -> None:
        super().__init__("sign in")
        self.ended = ended
        """Whether there was a session, which is over."""


class NoKeySet(Exception):
    """No key is configured, so nobody can sign in."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whose request it is."""

    access: Access
    session: ConsoleSession | None = None

    @property
    def is_admin(self) -> bool:
        """Whether they may act."""
        return self.access.scope is Scope.ADMIN

    @property
    def viewer(self) -> Viewer:
        """For the pages."""
        session = self.session
        role = ROLES[self.access.scope] if self.access.key_id else ""
        return Viewer(self.is_admin, role, session.csrf if session is not None else "", session is not None)


class Gate:
    """Lets visitors in. Belongs to one event loop."""

    def __init__(
        self, bridge: Bridge, access: AccessControl, sessions: Sessions, unix: Callable[[], float] = time.time
    ) -> None:
        self._bridge = bridge
        self._access = access
        self._sessions = sessions
        self._unix = unix

    async def enter(self, request: Request, needed: Scope = Scope.READ) -> Visitor:
        """The visitor. Raises ``NoKeySet``, ``SignInNeeded``, or ``ApiError`` for keys that do not do."""
        try:
            visitor = await self._visitor(request)
            if not visitor.access.scope.covers(needed):
                raise ApiError(403, "admin_key_needed", "This needs an admin key; the one you gave may only read.")
        except (ApiError, SignInNeeded):
            self._count()
            raise
        return visitor

    async def _visitor(self, request: Request) -> Visitor:
        settings, headers = self._bridge.settings, request.headers
        if settings.bridge_auth == "off":
            return Visitor(OPEN_ACCESS)
        if not settings.api_keys:
            raise NoKeySet
        presented = presented_keys(
            headers.getlist("authorization"), headers.getlist("x-api-key"), headers.getlist("xi-api-key")
        )
        if presented:
            return Visitor(self._access.identify(request, presented))
        session = await self._session(request)
        if session is None:
            raise SignInNeeded(ended=bool(request.cookies.get(COOKIE)))
        return Visitor(Access(session.scope, session.key_id), session)

    async def has_session(self, request: Request) -> bool:
        """Whether the request comes from somebody who has signed in."""
        return await self._session(request) is not None

    async def _session(self, request: Request) -> ConsoleSession | None:
        cookie = request.cookies.get(COOKIE, "")
        return await self._sessions.read(cookie, self._unix()) if cookie else None

    def still_in(self, visitor: Visitor) -> bool:
        """Whether somebody who was let in before may stay, as far as that can be told at once."""
        if visitor.session is not None:
            return self._sessions.holds(visitor.session, self._unix())
        return self._bridge.settings.bridge_auth == "off" or bool(visitor.access.key_id)

    async def enter_to_change(
        self, request: Request, form: dict[str, str] | None = None, needed: Scope = Scope.ADMIN
    ) -> Visitor:
        """``enter`` for a change; the token is in its header, or in the ``form``."""
        self.check_origin(request)
        visitor = await self.enter(request, needed)
        if visitor.session is not None:
            given = request.headers.get(TOKEN_HEADER) or (form or {}).get("csrf", "")
            if not hmac.compare_digest(given.encode("utf-8", "replace"), visitor.session.csrf.encode()):
                self._count()
                raise ApiError(403, "no_token", "The page is out of date: load it again, then repeat what you did.")
        return visitor

    def check_origin(self, request: Request) -> None:
        """403 for a change that another origin's page asks for."""
        try:
            refuse_other_origins(request)
        except ApiError:
            self._count()
            raise

    async def sign_in(self, request: Request, key: str) -> str:
        """The ``Set-Cookie`` header for whoever gives this key. Raises ``ApiError``, ``NoKeySet``."""
        self.check_origin(request)
        if not self._bridge.settings.api_keys:
            raise NoKeySet
        try:
            access = self._access.identify(request, (key,) if key else ())
        except ApiError:
            self._count()
            raise
        cookie = await self._sessions.issue(access.key_id, secrets.token_bytes(NONCE_BYTES), self._unix())
        self._bridge.log.info("console_signed_in", key_id=access.key_id, role=access.scope.value)
        return self._set_cookie(request, cookie, int(SESSION_S))

    async def sign_out(self, request: Request, visitor: Visitor) -> str:
        """End the session; the ``Set-Cookie`` header that removes it."""
        if visitor.session is not None:
            await self._sessions.end(visitor.session, self._unix())
            self._bridge.log.info("console_signed_out", key_id=visitor.access.key_id)
        return self._set_cookie(request, "", 0)

    def _set_cookie(self, request: Request, value: str, max_age_s: int) -> str:
        public = urlsplit(self._bridge.settings.public_base_url)
        response = Response()
        # Below a prefix only, where the address is the public one: neighbours on that host do not get the cookie.
        is_public = request.headers.get("host", "").lower() == public.netloc.lower()
        response.set_cookie(
            COOKIE,
            value,
            max_age=max_age_s,
            path=f"{public.path}/" if is_public else "/",
            secure=public.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return response.headers["set-cookie"]

    def _count(self) -> None:
        self._bridge.metrics.refused.labels(ENTRANCE).inc()


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a posted form, read no further than its bound. Raises ``ApiError``."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise ApiError(415, "not_a_form", "This takes a form as browsers send it.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise ApiError(413, "form_too_big", f"A form has at most {MAX_FORM_BYTES} bytes here.")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="replace", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise ApiError(400, "no_form", "The form cannot be read.") from None
    return dict(pairs)
