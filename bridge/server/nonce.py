"""``GET /.well-known/telephony-bridge?nonce=...``: lets ``bridge doctor`` see whether an address leads to this process.

The doctor asks the bridge where it listens and once more by its public address. Both answers hold the same proof only
where both come from one process; and each repeats path and query as they arrived, so that a proxy that rewrites them
is found out before a carrier's signature fails on it.

It is open to everybody. The key of the proof is random and new with every process, so proofs say nothing about any
setting, and what is repeated is the asker's own request.

Source: RFC 8615 (well-known URIs), RFC 2104 (HMAC).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

NONCE_PATH = "/.well-known/telephony-bridge"
MAX_TARGET_CHARS = 1024
"""Of path and query that are repeated; the doctor's have some hundred."""

_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True)
class Nonces:
    """Proves that answers come from one process."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def proof(self, nonce: str) -> str:
        """Hex HMAC-SHA256 of the nonce."""
        return hmac.new(self.key, nonce.encode(), hashlib.sha256).hexdigest()


def nonce_router(nonces: Nonces | None = None) -> APIRouter:
    """The route, also for anything below its path: ``app.include_router(nonce_router())``."""
    known = nonces if nonces is not None else Nonces()
    router = APIRouter()

    async def answer(request: Request) -> Response:
        """The proof of a nonce, and the request's path and query as they arrived."""
        path = request.scope["raw_path"].decode("latin-1")
        query = request.scope["query_string"].decode("latin-1")
        target = f"{path}?{query}" if query else path
        given = request.query_params.getlist("nonce")
        if len(given) != 1 or not _NONCE.fullmatch(given[0]) or len(target) > MAX_TARGET_CHARS:
            return Response("give one nonce of 16 to 64 letters and digits\n", 400, _HEADERS, "text/plain")
        body = {"nonce": given[0], "proof": known.proof(given[0]), "target": target}
        return JSONResponse(body, headers=_HEADERS)

    for path in (NONCE_PATH, NONCE_PATH + "/{rest:path}"):
        router.add_api_route(path, answer, methods=["GET"], response_model=None, include_in_schema=False)
    return router
