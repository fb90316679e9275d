"""Who may use the API: the key of a request, the scope that an operation needs, and strangers who guess.

Call data is sensitive, so the API is closed while no key is configured. Browsers cannot be
made to act for a stranger either: requests that change something must come from the same origin, if from a page
at all. That matters on a machine of trials, where BRIDGE_AUTH=off lets everything in.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request

from bridge.auth.api_keys import Access, GuessCounter, KeyRing, Scope, presented_keys
from bridge.server.api.errors import ApiError

ENTRANCE = "api"
"""The name of this entrance in ``bridge_refused_total``."""

VOUCHED = "bridge.vouched"
"""Entry of the ASGI scope with the ``Access`` of a request that the console has checked already; no client can set it.
"""

OPEN_ACCESS = Access(Scope.ADMIN, "")
"""Everybody's, with BRIDGE_AUTH=off."""

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="telephony bridge"'}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class AccessControl:
    """Decides about every request. ``ring`` may be replaced at any time, to rotate keys."""

    def __init__(
        self,
        ring: KeyRing,
        guesses: GuessCounter,
        clock: Callable[[], float],
        *,
        auth_on: bool = True,
        on_refused: Callable[[str], None],
    ) -> None:
        """``clock`` is monotonic, in seconds; ``on_refused`` is told the entrance of every refusal."""
        self.ring = ring
        self._guesses = guesses
        self._clock = clock
        self._auth_on = auth_on
        self._on_refused = on_refused

    def check(self, request: Request, needed: Scope) -> Access:
        """What this request may do, at least ``needed``. Raises ``ApiError`` 401, 403 or 429."""
        try:
            refuse_other_origins(request)
            if not self._auth_on:
                return OPEN_ACCESS
            vouched: Access | None = request.scope.get(VOUCHED)
            return self._access(request, needed) if vouched is None else _covered(vouched, needed)
        except ApiError:
            self._on_refused(ENTRANCE)
            raise

    def _access(self, request: Request, needed: Scope) -> Access:
        if not len(self.ring):
            raise ApiError(
                403,
                "api_key_not_set",
                "The API is closed because no key is configured: set BRIDGE_API_KEY and restart or reload the bridge.",
            )
        headers = request.headers
        presented = presented_keys(
            headers.getlist("authorization"), headers.getlist("x-api-key"), headers.getlist("xi-api-key")
        )
        return _covered(self.identify(request, presented), needed)

    def identify(self, request: Request, presented: tuple[str, ...]) -> Access:
        """Whose keys these are. Raises ``ApiError``: too many guesses from there, no key, a wrong one."""
        source, now = request.client.host if request.client else "", self._clock()
        wait_s = self._guesses.wait_s(source, now)
        if wait_s > 0:
            raise ApiError(
                429,
                "too_many_attempts",
                "Too many wrong keys came from this address; come back after the seconds in Retry-After.",
                headers={"Retry-After": str(int(wait_s) + 1)},
            )
        if not presented:
            raise ApiError(
                401,
                "no_api_key",
                "Give a key of BRIDGE_API_KEY as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'.",
                headers=_CHALLENGE,
            )
        access = self.ring.authorize(presented)
        if access is None:
            self._guesses.count(source, now)
            raise ApiError(401, "wrong_api_key", "This key is none of those in BRIDGE_API_KEY.", headers=_CHALLENGE)
        return access


def _covered(access: Access, needed: Scope) -> Access:
    if not access.scope.covers(needed):
        raise ApiError(403, "admin_key_needed", "This needs an admin key; the one given may only read.")
    return access


def refuse_other_origins(request: Request) -> None:
    """403 for a request of another site's page that would change something.

    Browsers say it themselves (Fetch Metadata, section 2.3); older ones only name the origin (RFC 6454).
    """
    if request.method in _SAFE:
        return
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        same = site in {"same-origin", "none"}
    else:
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        same = origin is None or origin.partition("://")[2].lower() == host.lower()
    if not same:
        raise ApiError(403, "cross_origin", "Pages of another origin may not change anything here.")
