"""The nonce route: the same proof from one process only, and the request's target as it arrived."""

from __future__ import annotations

import hashlib
import hmac

import httpx
import pytest
from fastapi import FastAPI

from bridge.server.nonce import MAX_TARGET_CHARS, NONCE_PATH, Nonces, nonce_router

NONCE = "abcdefghijklmnop"


def client(nonces: Nonces | None = None) -> httpx.AsyncClient:
    app = FastAPI()
    app.include_router(nonce_router(nonces))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bridge.example.com")


async def test_the_proof_is_keyed_by_the_process() -> None:
    async with client(Nonces(b"k" * 32)) as asked:
        response = await asked.get(f"{NONCE_PATH}?nonce={NONCE}")
    assert response.status_code == 200
    assert response.json() == {
        "nonce": NONCE,
        "proof": hmac.new(b"k" * 32, NONCE.encode(), hashlib.sha256).hexdigest(),
        "target": f"{NONCE_PATH}?nonce={NONCE}",
    }
    assert response.headers["cache-control"] == "no-store"


async def test_two_processes_give_two_proofs() -> None:
    async with client() as one, client() as other:
        proofs = [(await each.get(f"{NONCE_PATH}?nonce={NONCE}")).json()["proof"] for each in (one, other)]
    assert proofs[0] != proofs[1]


async def test_path_and_query_come_back_letter_by_letter() -> None:
    target = f"{NONCE_PATH}/%7Ea%2Fb?nonce={NONCE}&x=a%20b+c&y="
    async with client() as asked:
        assert (await asked.get(target)).json()["target"] == target


@pytest.mark.parametrize(
    "query",
    ["", "nonce=", "nonce=short", f"nonce={'a' * 65}", f"nonce={NONCE}%0d%0a", f"nonce={NONCE}&nonce={NONCE}",
     f"nonce={NONCE}&x={'a' * MAX_TARGET_CHARS}"],
)  # fmt: skip
async def test_what_is_no_nonce_is_refused(query: str) -> None:
    async with client() as asked:
        response = await asked.get(f"{NONCE_PATH}?{query}")
    assert (response.status_code, response.text) == (400, "give one nonce of 16 to 64 letters and digits\n")


def test_the_key_is_not_shown() -> None:
    assert repr(Nonces(b"secret")) == "Nonces()"
