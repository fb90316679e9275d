"""Health, metrics and the demo's files: who sees what, and when the bridge calls itself ready."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge import __version__, outcome
from bridge.calls.carriers import ALL_CARRIERS
from bridge.calls.routing import Resolved
from bridge.config import Configuration
from tests.kit.offline import asked
from tests.kit.server import settings_for

KEY = "a-key-of-the-operator"
PRIVATE = (("/metrics", "metrics"), ("/demo/call.svg", "demo"))


async def test_alive() -> None:
    async with asked() as at:
        response = await at.client.get("/healthz")
        at.bridge.admission.draining = True
        assert (await at.client.get("/healthz")).status_code == 200
    assert response.json() == {"status": "ok", "version": __version__}


async def test_ready() -> None:
    settings = {"PUBLIC_URL": "https://bridge.example.com", "BRIDGE_API_KEY": KEY, "WORKSPACE_CONCURRENCY": "5"}
    async with asked(BRIDGE_MAX_CALLS="7", **settings) as at:
        await at.bridge.take_slot("a", "", Resolved("agent_1"), "inbound")
        response = await at.client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {
        "ready": True,
        "reason": "",
        "instance": at.bridge.instance_id,
        "active_calls": 1,
        "max_calls": 7,
        "workspace": {"calls": 1, "limit": 5, "burst": 0, "waiting": 0},
        "limits_in": "memory",
        "database": "none",
        "carriers": sorted(ALL_CARRIERS),
        "problems": [],
    }


async def test_full_is_not_broken() -> None:
    async with asked(BRIDGE_MAX_CALLS="1") as at:
        await at.bridge.take_slot("a", "", Resolved("agent_1"), "inbound")
        response = await at.client.get("/readyz")
    assert response.status_code == 200
    assert (response.json()["ready"], response.json()["reason"]) == (False, "capacity")
    assert response.json()["active_calls"] == 1


async def test_draining_is_not_ready() -> None:
    async with asked() as at:
        at.bridge.admission.draining = True
        response = await at.client.get("/readyz")
        text = (await at.client.get("/metrics")).text
    assert response.status_code == 503
    assert (response.json()["ready"], response.json()["reason"]) == (False, "draining")
    assert "bridge_ready 0.0" in text


async def test_what_is_still_to_be_set_is_said() -> None:
    async with asked(ELEVENLABS_AGENT_ID="", TWILIO_AUTH_TOKEN="") as at:
        problems = (await at.client.get("/readyz")).json()["problems"]
        page = (await at.client.get("/")).text
    assert [problem.split(":")[0] for problem in problems] == [
        "Set ELEVENLABS_AGENT_ID",
        "Set TWILIO_AUTH_TOKEN, GENESYS_API_KEY or VONAGE_SIGNATURE_SECRET",
        "Set PUBLIC_URL",
        "Set BRIDGE_API_KEY",
    ]
    assert "Set TWILIO_AUTH_TOKEN" in page


async def test_metrics_are_prometheus_text() -> None:
    async with asked(BRIDGE_MAX_CALLS="7") as at:
        at.bridge.count_refusal("twilio", outcome.AGENT_LOST)
        response = await at.client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "bridge_max_calls 7.0" in response.text
    assert "bridge_ready 1.0" in response.text
    assert (
        'bridge_calls_ended_total{provider="twilio",reason="agent_lost",result="upstream_error"} 1.0' in response.text
    )


async def test_a_session_of_the_console_opens_metrics_and_the_demos_files(tmp_path: Path) -> None:
    async with asked(BRIDGE_API_KEY=KEY) as at:
        picture = tmp_path / "call.svg"
        picture.write_text("<svg/>")
        at.bridge.demo_files["call.svg"] = picture
        assert (await at.client.post("/sign-in", data={"key": KEY})).status_code == 303
        for path, _ in PRIVATE:
            assert (await at.client.get(path)).status_code == 200


@pytest.mark.parametrize(("path", "entrance"), PRIVATE)
async def test_a_key_closes_what_operators_see(path: str, entrance: str, tmp_path: Path) -> None:
    wrong: tuple[list[tuple[bytes, bytes]], ...] = (
        [],
        [(b"X-API-Key", b"wrong")],
        [(b"Authorization", b"Bearer")],
        [(b"X-API-Key", "ü".encode())],
    )
    right = ([(b"X-API-Key", KEY.encode())], [(b"Authorization", b"Bearer " + KEY.encode())])
    async with asked(BRIDGE_API_KEY=KEY) as at:
        picture = tmp_path / "call.svg"
        picture.write_text("<svg/>")
        at.bridge.demo_files["call.svg"] = picture
        for headers in wrong:
            response = await at.client.get(path, headers=headers)
            assert (response.status_code, KEY in response.text) == (403, False)
        for headers in right:
            assert (await at.client.get(path, headers=headers)).status_code == 200
        text = at.bridge.metrics.render().decode()
        assert f'bridge_refused_requests_total{{entrance="{entrance}"}} 4.0' in text


@pytest.mark.parametrize("key", ["for-looking", "for-everything"])
async def test_any_of_several_keys_may_look(key: str) -> None:
    async with asked(BRIDGE_API_KEY="read:for-looking,admin:for-everything") as at:
        for path in ("/metrics", "/"):
            assert (await at.client.get(path, headers={"xi-api-key": key})).status_code == 200
            assert (await at.client.get(path, headers={"X-API-Key": f"read:{key}"})).status_code in (401, 403)


async def test_a_key_that_was_taken_back_is_none_any_more() -> None:
    async with asked(BRIDGE_API_KEY=KEY) as at:
        assert (await at.client.get("/metrics", headers={"X-API-Key": KEY})).status_code == 200
        fresh = settings_for({"BRIDGE_API_KEY": "another-key"})
        at.bridge.apply(Configuration(fresh, at.bridge.routing))
        assert (await at.client.get("/metrics", headers={"X-API-Key": KEY})).status_code == 403
        assert (await at.client.get("/metrics", headers={"X-API-Key": "another-key"})).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/assets/console.css"])
async def test_probes_need_no_key(path: str) -> None:
    async with asked(BRIDGE_API_KEY=KEY) as at:
        assert (await at.client.get(path)).status_code == 200


async def test_without_authentication_no_key_is_asked_for() -> None:
    async with asked(BRIDGE_API_KEY=KEY, BRIDGE_AUTH="off") as at:
        assert (await at.client.get("/metrics")).status_code == 200


async def test_files_of_the_demo(tmp_path: Path) -> None:
    async with asked() as at:
        assert (await at.client.get("/demo/call.svg")).status_code == 404
        picture = tmp_path / "call.svg"
        picture.write_text("<svg/>")
        at.bridge.demo_files = {"call.svg": picture, "call.wav": tmp_path / "gone.wav"}
        response = await at.client.get("/demo/call.svg")
        assert (response.status_code, response.text) == (200, "<svg/>")
        assert "content-security-policy" in response.headers
        for name in ("call.wav", "..%2f..%2fetc%2fpasswd", "other"):
            assert (await at.client.get(f"/demo/{name}")).status_code == 404


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/redoc", "/twilio", "/twilio/media", "/v1/calls"])
async def test_nothing_else_is_there(path: str) -> None:
    async with asked() as at:
        assert (await at.client.get(path)).status_code == 404
