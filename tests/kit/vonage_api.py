"""Vonage's Voice API as a transport that answers what a test says and writes down what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa

from bridge.auth.vonage_application import TokenMint
from bridge.server.vonage_rest import VonageApiOptions, VonageRest

APPLICATION = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
KEY = rsa.generate_private_key(65537, 2048)
NOW = 1_760_000_000.0

Answer = httpx.Response | Exception


@dataclass
class FakeApi:
    """What was asked, in order, and what is answered, in order; 204 when there is nothing more."""

    answers: list[Answer] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else httpx.Response(204)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)

    @property
    def asked(self) -> list[tuple[str, str, Any]]:
        """Method, address and body of every request."""
        return [(request.method, str(request.url), json.loads(request.content)) for request in self.requests]

    def rest(
        self,
        options: VonageApiOptions | None = None,
        *,
        mint: TokenMint | None = None,
        handle: Callable[[httpx.Request], Any] | None = None,
    ) -> VonageRest:
        client = httpx.AsyncClient(transport=httpx.MockTransport(handle or self.handle))
        return VonageRest(client, mint or new_mint(), options, sleep=self.sleep)


def new_mint() -> TokenMint:
    """Tokens ``j1``, ``j2`` and so on."""
    numbers = count(1)
    return TokenMint(KEY, APPLICATION, unix=lambda: NOW, new_jti=lambda: f"j{next(numbers)}")
