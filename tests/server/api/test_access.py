"""Who is let in: keys and scopes, strangers who guess, pages of other origins."""

from __future__ import annotations

import pytest

from bridge.auth.api_keys import KeyRing, parse_keys
from tests.server.api.api_fakes import ADMIN, READ, record, refusal, running_api

NO_KEY, WRONG = (401, "no_api_key", ""), (401, "wrong_api_key", "")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {READ}"},
        {"authorization": f"bearer {READ}"},
        {"X-API-Key": READ},
        {"xi-api-key": READ},
        {"xi-api-key": "the vendor's", "Authorization": f"Bearer {READ}"},
    ],
)
async def test_a_key_is_taken_from_each_header(headers: dict[str, str]) -> None:
    async with running_api(key="") as api:
        assert (await api.get("/v1/calls", headers=headers)).status_code == 200
        assert api.refused == []


async def test_without_a_key_nothing_is_shown() -> None:
    async with running_api(key="") as api:
        api.calls.add(record())
        for path in ("/v1/calls", "/v1/live", "/v1/usage", "/v1/routes", "/v1/webhooks/dead", "/v1/nowhere", "/v1"):
            response = await api.get(path)
            assert refusal(response) == NO_KEY
            assert response.headers["www-authenticate"] == 'Bearer realm="telephony bridge"'
        assert api.refused == ["api"] * 7


async def test_a_key_that_reads_may_not_change_anything() -> None:
    async with running_api(key=READ) as api:
        api.calls.add(record("a1"))
        assert (await api.get("/v1/calls/a1")).status_code == 200
        for method, path in (
            ("DELETE", "/v1/calls/a1"),
            ("POST", "/v1/calls/a1/hangup"),
            ("POST", "/v1/calls/a1/recording/pause"),
            ("POST", "/v1/calls/a1/recording/resume"),
            ("PUT", "/v1/routes"),
            ("DELETE", "/v1/routes?number=1"),
            ("POST", "/v1/webhooks/dead/replay"),
        ):
            assert await api.refusal(method, path) == (403, "admin_key_needed", "")
        assert "a1" in api.calls.records
        assert api.control.orders == []


async def test_a_key_that_reads_guesses_nothing_by_being_refused() -> None:
    async with running_api(key=READ) as api:
        for _ in range(20):
            assert await api.refusal("POST", "/v1/calls/a1/hangup") == (403, "admin_key_needed", "")
        assert (await api.get("/v1/calls")).status_code == 200


async def test_while_no_key_is_configured_the_api_is_closed() -> None:
    async with running_api(keys="", key="anything") as api:
        response = await api.get("/v1/calls")
    assert refusal(response) == (403, "api_key_not_set", "")
    assert "BRIDGE_API_KEY" in response.text


async def test_with_auth_off_everything_is_open() -> None:
    async with running_api(keys="", key="", auth_on=False) as api:
        api.calls.add(record("a1"))
        assert (await api.get("/v1/calls")).status_code == 200
        assert (await api.client.delete("/v1/calls/a1")).status_code == 204


async def test_keys_can_be_rotated() -> None:
    async with running_api(key=ADMIN) as api:
        api.access.ring = KeyRing(parse_keys("new-key"))
        assert await api.refusal("GET", "/v1/calls") == WRONG
        assert (await api.get("/v1/calls", headers={"X-API-Key": "new-key"})).status_code == 200


async def test_who_guesses_too_often_is_not_listened_to() -> None:
    async with running_api(key="") as api:
        for number in range(10):
            assert refusal(await api.get("/v1/calls", headers={"X-API-Key": f"guess{number}"})) == WRONG
        response = await api.get("/v1/calls", headers={"X-API-Key": ADMIN})
        assert refusal(response) == (429, "too_many_attempts", "")
        assert response.headers["retry-after"] == "61"
        assert api.refused == ["api"] * 11
        api.clock.advance(60.0)
        assert (await api.get("/v1/calls", headers={"X-API-Key": ADMIN})).status_code == 200


async def test_to_ask_without_a_key_is_no_guess() -> None:
    async with running_api(key="") as api:
        for _ in range(20):
            assert refusal(await api.get("/v1/calls")) == NO_KEY
        assert (await api.get("/v1/calls", headers={"X-API-Key": ADMIN})).status_code == 200


@pytest.mark.parametrize("key", [b"\xff\xfe", b"x" * 5000, "schlüssel".encode(), b"Bearer", b"\xf0\x9f\x98\x80"])
async def test_a_key_of_any_bytes_is_merely_wrong(key: bytes) -> None:
    async with running_api(key="") as api:
        assert refusal(await api.get("/v1/calls", headers=[(b"x-api-key", key)])) == WRONG


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[bad"},
    ],
)
async def test_a_page_of_another_origin_changes_nothing(headers: dict[str, str]) -> None:
    async with running_api(keys="", key="", auth_on=False) as api:
        assert await api.refusal("POST", "/v1/calls/a1/hangup", headers=headers) == (403, "cross_origin", "")
        assert api.control.orders == []
        response = await api.get("/v1/calls", headers=headers)
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://bridge.test"}, {}])
async def test_our_own_pages_and_scripts_may(headers: dict[str, str]) -> None:
    async with running_api() as api:
        assert (await api.client.post("/v1/calls/a1/hangup", headers=headers)).status_code == 200
