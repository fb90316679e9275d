"""The console over HTTP, in this process: who gets in, what a change needs, what pages show to whom."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx
import msgspec
import pytest

from bridge.calls.record import CallRecord
from bridge.calls.routing import Resolved
from bridge.config import Configuration
from bridge.server.api.examples import RECORD
from bridge.server.app import create_app
from bridge.server.console import desk as desk_module
from bridge.server.console.desk import Desk
from bridge.server.live_calls import LiveCalls
from bridge.server.operator_api import access_of
from bridge.server.reload import Reloader
from bridge.server.service import Bridge
from bridge.web.html import CONSOLE_CSP
from tests.kit.offline import asked, keeping_bridge
from tests.kit.server import settings_for
from tests.kit.sessions import Table

KEYS = {"BRIDGE_API_KEY": "read:look-only-key,admin:operator-key"}
BROWSER = {"Accept": "text/html,application/xhtml+xml"}
ELSEWHERE = {"Sec-Fetch-Site": "cross-site"}
PAGES = ("/", "/calls", "/calls/none", "/health")
NASTY = "\"><script>alert('1')</script>&"


@dataclass
class Kept:
    """A console with a database."""

    bridge: Bridge
    client: httpx.AsyncClient

    async def sign_in(self, key: str = "operator-key") -> str:
        """Sign in; returns the token that changes need."""
        assert (await self.client.post("/sign-in", data={"key": key})).status_code == 303
        return token_of((await self.client.get("/health")).text)

    async def add(self, **changes: object) -> CallRecord:
        """Store the example's call with these changes."""
        copy = msgspec.json.decode(msgspec.json.encode(RECORD), type=CallRecord)
        record = msgspec.structs.replace(copy, **changes)
        assert self.bridge.parts.storage is not None
        await self.bridge.parts.storage.calls.save([(record, ())])
        return record


def token_of(page: str) -> str:
    found = re.search(r'data-csrf="([^"]+)"', page)
    assert found is not None
    return found[1]


@contextlib.asynccontextmanager
async def kept(folder: Path, **settings: str) -> AsyncIterator[Kept]:
    async with keeping_bridge(folder, KEYS | settings) as bridge:
        app = create_app(bridge, cast(Reloader, object()))  # only asked when routes are changed
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            yield Kept(bridge, client)


# --- who gets in ---


@pytest.mark.parametrize("path", PAGES)
async def test_a_stranger_is_led_to_the_sign_in_and_sees_nothing(path: str) -> None:
    async with asked(**KEYS) as at:
        answer = await at.client.get(path, headers=BROWSER)
        assert answer.status_code == 303
        signing_in = await at.client.get(
            str(httpx.URL(f"http://127.0.0.1:8080{path}").join(answer.headers["location"]))
        )
        assert (signing_in.status_code, 'name="key"' in signing_in.text) == (200, True)
        assert (await at.client.get(path)).status_code == 401, "no browser: no redirect"
        assert 'bridge_refused_requests_total{entrance="console"} 2.0' in at.bridge.metrics.render().decode()


async def test_what_pages_load_is_closed_to_strangers_too() -> None:
    async with asked(**KEYS) as at:
        for path in ("events", "doctor", "calls/a1/picture.svg", "calls/a1/listen", "calls/a1/audio"):
            answer = await at.client.get(f"/console/{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "sign_in"), path
        assert (await at.client.post("/console/calls/a1/hangup")).status_code == 401


async def test_signing_in_gives_a_cookie_that_scripts_and_other_sites_do_not_see() -> None:
    async with asked(PUBLIC_URL="https://bridge.example.com/eu", **KEYS) as at:
        headers = {"Host": "bridge.example.com"}
        answer = await at.client.post("/sign-in", data={"key": "operator-key", "then": "health"}, headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, "./health")
    cookie = answer.headers["set-cookie"].lower()
    assert {"httponly", "secure", "samesite=strict", "path=/eu/"} <= {part.strip() for part in cookie.split(";")}
    assert "operator-key" not in cookie


async def test_a_cookie_is_not_secure_where_there_is_no_tls_to_send_it_by() -> None:
    async with asked(**KEYS) as at:
        answer = await at.client.post("/sign-in", data={"key": "operator-key"})
        assert "secure" not in answer.headers["set-cookie"].lower()
        assert "path=/;" in answer.headers["set-cookie"].lower().replace("path=/", "path=/;", 1)


async def test_nobody_is_led_to_another_site_after_signing_in() -> None:
    async with asked(**KEYS) as at:
        for then in ("//evil.example", "https://evil.example", "calls/../../x", "javascript:alert(1)"):
            answer = await at.client.post("/sign-in", data={"key": "operator-key", "then": then})
            assert answer.headers["location"] == "./"


async def test_wrong_keys_are_refused_and_guesses_limited() -> None:
    async with asked(**KEYS) as at:
        for _ in range(10):
            answer = await at.client.post("/sign-in", data={"key": "guess"})
            assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
            assert 'role="alert"' in answer.text and "guess" not in answer.text
        answer = await at.client.post("/sign-in", data={"key": "operator-key"})
        assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (429, True)


async def test_forms_have_a_bound_and_a_type() -> None:
    async with asked(**KEYS) as at:
        assert (await at.client.post("/sign-in", data={"key": "x" * 5000})).status_code == 413
        assert (await at.client.post("/sign-in", json={"key": "operator-key"})).status_code == 415
        assert (await at.client.post("/sign-in", data={})).status_code in (401, 415)
        many = "&".join(f"a{n}=1" for n in range(50))
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await at.client.post("/sign-in", content=many, headers=form)).status_code == 400


async def test_another_sites_page_signs_nobody_in() -> None:
    async with asked(**KEYS) as at:
        for headers in (ELSEWHERE, {"Origin": "https://evil.example"}):
            answer = await at.client.post("/sign-in", data={"key": "operator-key"}, headers=headers)
            assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


async def test_without_a_key_it_says_what_to_set_and_shows_no_call() -> None:
    async with asked() as at:
        page = await at.client.get("/")
        assert page.status_code == 200
        assert "Set BRIDGE_API_KEY" in page.text and 'id="rows"' not in page.text and "live.js" not in page.text
        for path in ("/calls", "/health", "/console/events"):
            assert (await at.client.get(path)).status_code == 403
        assert (await at.client.post("/sign-in", data={"key": ""})).status_code == 403


async def test_without_authentication_everybody_on_this_machine_is_an_admin() -> None:
    async with asked(BRIDGE_AUTH="off") as at:
        page = (await at.client.get("/")).text
        assert 'data-admin="yes"' in page and "Sign out" not in page and 'id="rows"' in page
        assert (await at.client.post("/health/run", data={"csrf": ""}, headers=ELSEWHERE)).status_code == 403


async def test_keys_in_headers_do_as_for_the_api() -> None:
    async with asked(**KEYS) as at:
        read, admin = {"X-API-Key": "look-only-key"}, {"Authorization": "Bearer operator-key"}
        assert 'data-admin="no"' in (await at.client.get("/", headers=read)).text
        assert 'data-admin="yes"' in (await at.client.get("/", headers=admin)).text
        assert (await at.client.get("/console/doctor", headers=read)).status_code == 403
        assert (await at.client.get("/", headers={"X-API-Key": "wrong"})).status_code == 401


# --- sessions ---


async def test_a_session_lasts_until_its_key_goes(tmp_path: Path) -> None:
    async with kept(tmp_path) as at:
        await at.sign_in()
        assert (await at.client.get("/calls")).status_code == 200
        given = {"BRIDGE_API_KEY": "admin:another", "DATA_DIR": str(tmp_path), "TWILIO_AUTH_TOKEN": "x" * 32}
        at.bridge.apply(Configuration(settings_for(given), at.bridge.routing))
        answer = await at.client.get("/calls", headers=BROWSER)
        assert (answer.status_code, "ended=yes" in answer.headers["location"]) == (303, True)


async def test_signing_out_needs_the_token_and_ends_the_session_for_good(tmp_path: Path) -> None:
    async with kept(tmp_path) as at:
        token = await at.sign_in()
        cookie = at.client.cookies["bridge_console"]
        assert (await at.client.post("/sign-out", data={"csrf": "wrong"})).status_code == 403
        answer = await at.client.post("/sign-out", data={"csrf": token})
        assert (answer.status_code, 'bridge_console=""' in answer.headers["set-cookie"]) == (303, True)
        at.client.cookies.clear()
        copied = await at.client.get("/calls", headers={"Cookie": f"bridge_console={cookie}"})
        assert copied.status_code == 401


# --- changes ---


async def test_an_order_needs_an_admin_the_same_origin_and_the_token(tmp_path: Path) -> None:
    async with kept(tmp_path, BRIDGE_AUTH="on") as at:
        token = await at.sign_in()
        path, as_json = "/console/calls/a1/hangup", {"Content-Type": "application/json"}
        assert (await at.client.post(path, headers=as_json)).status_code == 403
        assert (await at.client.post(path, headers={**as_json, "X-CSRF-Token": "wrong"})).status_code == 403
        assert (await at.client.post(path, headers={**as_json, "X-CSRF-Token": token, **ELSEWHERE})).status_code == 403
        answer = await at.client.post(path, headers={**as_json, "X-CSRF-Token": token})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_such_call")
        token = await at.sign_in("look-only-key")
        answer = await at.client.post(path, headers={**as_json, "X-CSRF-Token": token})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "admin_key_needed")


async def test_only_what_is_listed_is_passed_on_to_the_api(tmp_path: Path) -> None:
    async with kept(tmp_path) as at:
        token = await at.sign_in()
        record = await at.add(recording=None)
        assert (await at.client.get(f"/console/calls/{record.id}/webhooks")).json() == {"events": []}
        assert (await at.client.get(f"/console/calls/{record.id}/audio")).json()["error"]["code"] == "no_recording"
        for path in ("transcript", "events", "..%2Fusage"):
            assert (await at.client.get(f"/console/calls/{record.id}/{path}")).status_code == 404
        deletion = f"/console/calls/{record.id}/delete"
        assert (await at.client.post(deletion, headers={"X-CSRF-Token": token})).status_code == 404
        assert (await at.client.delete(f"/v1/calls/{record.id}")).status_code == 401, "the cookie is not for the API"


async def test_a_live_call_is_hung_up() -> None:
    async with asked(BRIDGE_AUTH="off") as at:
        table = await Table(at.bridge).activate()
        assert (await at.client.get(f"/calls/{table.session.call_id}")).status_code == 200
        table.hang_up()
        await table.settled()


# --- pages ---


async def test_pages_have_a_strict_policy_and_are_kept_by_nobody(tmp_path: Path) -> None:
    async with kept(tmp_path) as at:
        record = await at.add()
        await at.sign_in()
        for path in ("/", "/calls", f"/calls/{record.id}", "/health", "/sign-in", "/calls/none"):
            answer = await at.client.get(path)
            assert answer.headers["content-security-policy"] == CONSOLE_CSP, path
            assert answer.headers["cache-control"] == "no-store"
            assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=|https?://(?!127)", answer.text), path
    assert CONSOLE_CSP.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in CONSOLE_CSP


async def test_numbers_are_masked_for_those_who_may_only_read(tmp_path: Path) -> None:
    async with kept(tmp_path) as at:
        record = await at.add(caller="+4930777888", detail="asked for +4930777888")
        for key, is_shown in (("operator-key", True), ("look-only-key", False)):
            await at.sign_in(key)
            for path in ("/calls", f"/calls/{record.id}"):
                page = (await at.client.get(path)).text
                assert ("+4930777888" in page, "+***888" in page) == (is_shown, not is_shown)


async def test_an_admin_sees_masked_numbers_too_where_redaction_is_on(tmp_path: Path) -> None:
    async with kept(tmp_path, REDACT_NUMBERS="on") as at:
        await at.add(caller="+4930777888")
        await at.sign_in()
        assert "+4930777888" not in (await at.client.get("/calls")).text


async def test_text_of_callers_is_never_markup(tmp_path: Path) -> None:
    async with kept(tmp_path) as at:
        journal = msgspec.json.decode(msgspec.json.encode(RECORD.journal), type=type(RECORD.journal))
        journal.said("user", NASTY, 1.0)
        journal.tool_called(NASTY, "t9", {NASTY: NASTY}, 2.0)
        journal.tool_answered("t9", NASTY, 2.1, is_error=True)
        journal.step(NASTY, NASTY, 3.0)
        record = await at.add(caller=NASTY, called=NASTY, agent_id=NASTY, detail=NASTY, journal=journal, call_sid=NASTY)
        await at.sign_in()
        for path in ("/calls", f"/calls/{record.id}", f"/console/calls/{record.id}/picture.svg"):
            page = await at.client.get(path)
            assert page.status_code == 200
            assert "<script>alert" not in page.text and "&lt;script&gt;" in page.text, path


async def test_stored_calls_are_filtered_and_paged(tmp_path: Path) -> None:
    async with kept(tmp_path) as at:
        for number in range(60):
            await at.add(id=f"{number:016x}", created_at=1e9 + number, provider="twilio" if number % 2 else "vonage")
        await at.sign_in()
        first = (await at.client.get("/calls")).text
        assert first.count("<tr") == 51
        older = re.search(r'rel="next" href="([^"]+)"', first)
        assert older is not None
        second = (await at.client.get("/" + older[1].replace("&amp;", "&"))).text
        assert second.count("<tr") == 11 and 'rel="next"' not in second
        assert (await at.client.get("/calls?provider=vonage")).text.count("<tr") == 31
        wrong = await at.client.get("/calls?since=yesterday")
        assert (wrong.status_code, 'role="alert"' in wrong.text) == (400, True)
        assert (await at.client.get("/calls?cursor=x")).status_code == 400


async def test_a_database_that_is_away_gives_a_page_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kept(tmp_path) as at:
        await at.sign_in()
        assert at.bridge.parts.storage is not None

        async def away(*_: object) -> None:
            raise OSError("gone")

        monkeypatch.setattr(at.bridge.parts.storage.calls, "page", away)
        answer = await at.client.get("/calls")
        assert (answer.status_code, "does not answer" in answer.text, "gone" in answer.text) == (503, True, False)


async def test_a_bridge_without_records_has_live_calls_only() -> None:
    async with asked(BRIDGE_AUTH="off") as at:
        assert (await at.client.get("/calls")).status_code == 404
        assert (await at.client.get("/calls/..x")).status_code == 404


async def test_the_first_page_says_what_the_status_page_did(tmp_path: Path) -> None:
    async with asked(PUBLIC_URL="https://bridge.example.com/eu", ELEVENLABS_AGENT_ID="", **KEYS) as at:
        at.bridge.ended_counts["upstream_error/agent_lost"] = 3
        at.bridge.demo_files["call.svg"] = tmp_path
        await at.bridge.take_slot("a", "", Resolved("agent_1"), "inbound")
        page = (await at.client.get("/", headers={"X-API-Key": "look-only-key"})).text
    for words in (
        "https://bridge.example.com/eu/twilio/voice",
        "wss://bridge.example.com/eu/twilio/media",
        "https://bridge.example.com/eu/vonage/answer",
        "wss://bridge.example.com/eu/genesys/",
        "Set ELEVENLABS_AGENT_ID",
        "upstream_error/agent_lost",
        "./demo/call.svg",
        '<span id="g-active">1</span>',
    ):
        assert words in page, words


async def test_files_are_served_with_a_tag_and_nothing_else_is() -> None:
    async with asked(**KEYS) as at:
        first = await at.client.get("/assets/live.js")
        assert first.headers["content-type"] == "text/javascript; charset=utf-8"
        again = await at.client.get("/assets/live.js", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        for name in ("__init__.py", "..%2Fhtml.py", "other.js"):
            assert (await at.client.get(f"/assets/{name}")).status_code == 404


async def test_stores_that_are_away_are_told_to_consoles_and_on_the_health_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LiveCalls, "state", "redis_down")
    async with asked(BRIDGE_AUTH="off", WORKSPACE_CONCURRENCY="10", BURST="on") as at:
        gauges = Desk(at.bridge, access_of(at.bridge)).pages.gauges()
        assert (gauges["store"], gauges["database"], gauges["limit"], gauges["burst_cap"]) == (
            "redis_down",
            "none",
            10,
            20,
        )
        assert "Redis does not answer" in (await at.client.get("/health")).text
        at.bridge.admission.draining = True
        gauges = Desk(at.bridge, access_of(at.bridge)).pages.gauges()
        assert (gauges["ready"], gauges["draining"]) == (False, True)


async def test_streams_end_with_the_calls_of_a_process_that_stops() -> None:
    async with asked(BRIDGE_AUTH="off") as at:
        desk = Desk(at.bridge, access_of(at.bridge))
        table = await Table(at.bridge).activate()
        at.bridge.admission.draining = True
        assert not desk.is_closing, "whoever watches sees the last calls end"
        table.hang_up()
        await table.settled()
        assert desk.is_closing


async def test_so_many_consoles_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "MAX_STREAMS", 0)
    async with asked(BRIDGE_AUTH="off") as at:
        answer = await at.client.get("/console/events")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        monkeypatch.setattr(desk_module, "MAX_STREAMS", 1)
        assert (await at.client.head("/console/events")).status_code == 204


async def test_the_counters_are_metrics() -> None:
    async with asked(**KEYS) as at:
        text = at.bridge.metrics.render().decode()
    assert "bridge_console_streams 0.0" in text
    assert "bridge_console_listeners 0.0" in text
    assert "bridge_console_listened_total 0.0" in text
