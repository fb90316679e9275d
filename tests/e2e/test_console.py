"""The console in a real browser: live updates, roles, actions, listening, playback, a policy that nothing breaks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.media.format import ULAW_8K
from bridge.server.console import stream
from bridge.server.console.doctor import DoctorRuns
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import Say, Scenario, WaitForCaller
from tests.kit.audio import make_tone
from tests.kit.caller import WireCaller
from tests.kit.server import DEADLINE_S, RunningBridge, Start, until

playwright = pytest.importorskip("playwright.async_api", reason="the browser's driver is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]

KEYS = {"BRIDGE_API_KEY": "read:look-only-key,admin:operator-key"}
SAID = make_tone(1000, 600, ULAW_8K) + ULAW_8K.silence(160 * 40)
TALK = Scenario(
    name="talk",
    steps=(
        Say(text="Good <b>morning</b>.", tone_hz=700, duration_ms=400),
        WaitForCaller(),
        Say(text="<script>alert('agent')</script>", tone_hz=700, duration_ms=3000),
        WaitForCaller(),
    ),
)
NASTY = "<img src=x onerror=alert(1)>"
AXE = Path(os.environ.get("AXE_CORE", ""))
SHOWS_RESULT_MS = 10_000
LAYOUT_PX = 2
"""A page may not be wider than its window by more."""


def axe() -> str:
    """The checker's script."""
    return AXE.read_text("utf-8")


class Trouble:
    """What a browser complains of."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def watch(self, page: Any) -> None:
        page.on("console", lambda message: self.words.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.words.append(str(error)))
        page.on("dialog", lambda dialog: self.words.append(f"a dialog: {dialog.message}"))


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    async with playwright.async_playwright() as driver:
        arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
        launched = await driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        await launched.close()


@contextlib.asynccontextmanager
async def console(browser: Any, at: RunningBridge, key: str, **options: Any) -> AsyncIterator[tuple[Any, Trouble]]:
    """A signed-in console's page; at the end nothing may have gone wrong in it."""
    context = await browser.new_context(**options)
    page, trouble = await context.new_page(), Trouble()
    page.set_default_timeout(SHOWS_RESULT_MS)
    trouble.watch(page)
    await page.add_init_script(
        "window.violations = []; document.addEventListener('securitypolicyviolation',"
        " (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));"
    )
    await page.goto(at.http_url)
    if key:
        await page.fill("#key", key)
        await page.click("button.primary")
    try:
        yield page, trouble
        assert await page.evaluate("window.violations") == []
        assert trouble.words == []
    finally:
        await context.close()


async def comes_true(page: Any, expression: str) -> None:
    """Wait until this holds in the page, whose policy forbids the driver's own way of waiting."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not await page.evaluate(expression):
        assert time.monotonic() < deadline_s, expression
        await asyncio.sleep(0.05)


async def talking(start: Start, **settings: str) -> RunningBridge:
    return await start(options=AgentOptions(scenario=TALK), **cast(Any, KEYS | settings))


async def test_a_call_appears_speaks_and_goes_without_a_reload(start: Start, browser: Any) -> None:
    at = await talking(start)
    async with console(browser, at, "operator-key") as (page, _):
        await page.get_by_text("No calls at the moment.").wait_for()
        async with WireCaller(at, caller="+15550142") as caller:
            await caller.dial_in()
            row = page.locator("#rows tr")
            await row.get_by_text("+15550142").wait_for()
            await row.get_by_text("active").wait_for()
            assert await page.locator("#g-active").inner_text() == "1"
            assert await page.locator("#count").inner_text() == "1"
            length = await row.locator("td").nth(7).inner_text()
            await caller.talk(SAID)
            await comes_true(page, "document.querySelector('#rows .speaks').textContent.includes('Agent')")
            assert await row.locator("td").nth(7).inner_text() != length
            await page.fill("#q", "no such number")
            await page.get_by_text("No call matches.").wait_for()
            await page.fill("#q", "0142")
            await row.wait_for()
        await page.get_by_text("No calls at the moment.").wait_for()
        assert await page.locator("#g-active").inner_text() == "0"


async def test_who_may_only_read_sees_masked_numbers_and_no_actions(start: Start, browser: Any) -> None:
    at = await talking(start)
    async with console(browser, at, "look-only-key") as (page, trouble), WireCaller(at, caller="+15550142") as caller:
        await caller.dial_in()
        await page.locator("#rows").get_by_text("+***142").wait_for()
        assert "+15550142" not in await page.content()
        assert await page.locator("[data-action]").count() == 0
        call_id = next(iter(at.bridge.sessions))
        status = await page.evaluate(
            "(id) => fetch(`console/calls/${id}/hangup`, {method: 'POST', body: '{}', headers: {'X-CSRF-Token':"
            " document.body.dataset.csrf, 'Content-Type': 'application/json'}}).then((answer) => answer.status)",
            call_id,
        )
        assert status == 403 and call_id in at.bridge.sessions
        trouble.words.clear()  # the browser says that it was refused


async def test_an_admin_hangs_up_and_is_told_what_cannot_be_transferred(start: Start, browser: Any) -> None:
    at = await talking(start)
    async with console(browser, at, "operator-key") as (page, trouble), WireCaller(at, caller="+15550142") as caller:
        await caller.dial_in()
        await page.get_by_role("button", name="Transfer the call of +15550142").click()
        await page.fill("#transfer-to", "+4930123456")
        await page.locator("#transfer button.primary").click()
        await page.locator("#toast").get_by_text("The transfer was not made").wait_for()
        trouble.words.clear()
        await page.get_by_role("button", name="Hang up the call of +15550142").click()
        await page.locator("#hangup").get_by_role("button", name="Keep the call").click()
        assert len(at.bridge.sessions) == 1
        await page.get_by_role("button", name="Hang up the call of +15550142").click()
        await page.locator("#hangup").get_by_role("button", name="Hang up").click()
        await page.get_by_text("The call was ended.").wait_for()
        await until(lambda: not at.bridge.sessions, "the call goes on")
        assert at.ends() == ["success/operator_hangup"]


async def test_an_admin_listens_and_nobody_else_notices(start: Start, browser: Any) -> None:
    at = await talking(start)
    async with console(browser, at, "operator-key") as (page, _):
        async with WireCaller(at, caller="+15550142") as caller:
            await caller.dial_in()
            await page.get_by_role("button", name="Listen to the call of +15550142").click()
            await page.locator("#player").wait_for()
            await until(lambda: at.logged("listening_began"), "nobody listens")
            for _ in range(3):
                await caller.talk(SAID)
            await comes_true(page, "Number(document.getElementById('player').dataset.played) > 1000")
            assert "bridge_console_listeners 1.0" in at.bridge.metrics.render().decode()
        await page.get_by_text("The call is over.").wait_for()
        assert await page.locator("#player").is_hidden()
        await until(lambda: at.logged("listening_ended"), "somebody still listens")


async def test_the_page_of_a_call_plays_from_a_turn_and_shows_text_as_text(start: Start, browser: Any) -> None:
    at = await talking(start, RECORDING="on")
    async with WireCaller(at, caller=NASTY) as caller:
        await caller.dial_in()
        await caller.talk(SAID)
        await until(lambda: len(caller.heard) > 3 * 8000, "the agent does not answer")
    await until(lambda: not at.bridge.sessions)
    await at.ended()
    async with console(browser, at, "operator-key") as (page, _):
        await page.get_by_role("link", name="Calls", exact=True).click()
        await page.get_by_role("link", name=NASTY).click()
        await page.get_by_text("<script>alert('agent')</script>").wait_for()
        await comes_true(page, "document.querySelector('.picture img').naturalWidth > 0")
        await comes_true(page, "document.getElementById('audio').duration > 1")
        await page.locator(".turns .seek").last.click()
        await comes_true(page, "document.getElementById('audio').currentTime > 0.2")
        await page.locator(".turns li[aria-current=true]").last.wait_for()
        assert await page.locator("#playhead").is_visible()
        assert await page.locator(".turns script, .turns img, h1 img").count() == 0


async def test_the_doctor_is_called_and_shows_what_it_found(
    start: Start, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"checks": [{"name": "clock", "verdict": "failed", "seen": NASTY, "advice": "Set it."}]}
    asked: list[Sequence[str]] = []

    async def output(_: DoctorRuns, options: Sequence[str]) -> bytes:
        asked.append(options)
        await asyncio.sleep(0.5)
        return json.dumps(found).encode()

    monkeypatch.setattr(DoctorRuns, "_output", output)
    at = await talking(start)
    async with console(browser, at, "operator-key") as (page, _):
        await page.get_by_role("link", name="Health", exact=True).click()
        await page.get_by_role("button", name="Run the doctor").click()
        await page.get_by_text("The doctor is looking").wait_for()
        await page.get_by_text(NASTY).wait_for()
        await page.get_by_text("1 failed").wait_for()
    assert asked == [("--at", at.http_url, "--no-conversation")]


async def test_a_console_finds_its_bridge_again(start: Start, browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LIFE_S", 1.0)
    at = await talking(start)
    async with console(browser, at, "operator-key") as (page, trouble):
        await page.get_by_text("No calls at the moment.").wait_for()
        await page.route("**/console/events", lambda route: route.abort())
        await page.locator("#banner").get_by_text("does not answer").wait_for(timeout=30_000)
        await page.unroute("**/console/events")
        await page.locator("#banner").wait_for(state="hidden", timeout=30_000)
        trouble.words.clear()  # the browser says that it was offline


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_fit_and_can_be_used_without_a_mouse(start: Start, browser: Any, scheme: str, width: int) -> None:
    at = await talking(start)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    async with console(browser, at, "operator-key", **options) as (page, _), WireCaller(at) as caller:
        await caller.dial_in()
        await page.locator("#rows tr").wait_for()
        for path in ("", "calls", f"calls/{next(iter(at.bridge.sessions))}", "health"):
            await page.goto(f"{at.http_url}/{path}")
            wide = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= LAYOUT_PX, f"/{path} is {wide} px wider than the window"
            assert await page.evaluate(UNNAMED) == [], path
            await page.keyboard.press("Tab")
            assert await page.evaluate("document.activeElement.textContent") == "Skip to content"
            assert await page.evaluate(LANDMARKS) == [1, 1, 1, 1], path


@pytest.mark.skipif(not AXE.is_file(), reason="AXE_CORE names no axe.min.js")
async def test_an_accessibility_checker_finds_nothing(start: Start, browser: Any) -> None:
    at = await talking(start)
    async with console(browser, at, "operator-key") as (page, _), WireCaller(at) as caller:
        await caller.dial_in()
        await page.locator("#rows tr").wait_for()
        for path in ("", "calls", f"calls/{next(iter(at.bridge.sessions))}", "health"):
            await page.goto(f"{at.http_url}/{path}")
            found = await page.evaluate(f"{axe()}; axe.run().then((seen) => seen.violations)")
            assert [violation["id"] for violation in found] == [], path


UNNAMED = """() => [...document.querySelectorAll("input:not([type=hidden]), select, button, a, img, audio, meter, svg")]
  .filter((each) => each.checkVisibility({visibilityProperty: true}))
  .filter((each) => !(each.getAttribute("aria-label") || each.labels?.length || each.alt || each.textContent.trim()))
  .map((each) => each.outerHTML)"""
"""Whatever can be used or looked at and has no name."""
LANDMARKS = """() => ["header.top", "main", "footer", "h1"].map((each) => document.querySelectorAll(each).length)"""
