"""The feed of live calls: what a console is told, once and for all of them; and its streams."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bridge.server.console import feed as feed_module
from bridge.server.console import stream as stream_module
from bridge.server.console.feed import Feed
from bridge.server.console.stream import EventStream
from bridge.server.live_calls import LiveCall
from bridge.server.service import Bridge
from tests.kit.console import Browser
from tests.kit.offline import offline_bridge
from tests.kit.server import until
from tests.kit.sessions import Table


def call(call_id: str = "c1", **changes: Any) -> LiveCall:
    given: dict[str, Any] = {
        "call_id": call_id,
        "instance_id": "elsewhere",
        "provider": "twilio",
        "direction": "inbound",
        "caller": "+4930777888",
        "called": "+15550100",
        "agent_id": "agent_1",
        "state": "active",
        "started_at": 1000.0,
    }
    return LiveCall(**(given | changes))


class Live:
    """A register of live calls."""

    state = "redis"

    def __init__(self) -> None:
        self.calls: list[LiveCall] = []
        self.error: Exception | None = None

    async def all(self, most: int) -> list[LiveCall]:
        if self.error is not None:
            raise self.error
        return self.calls[:most]


def made() -> tuple[Feed, Live, Bridge, dict[str, Any]]:
    bridge, live, gauges = offline_bridge(BRIDGE_AUTH="off"), Live(), {"active": 1}
    bridge.live = live  # type: ignore[assignment]  # all that a feed asks of it
    return Feed(bridge, lambda: dict(gauges), lambda: 5000.0), live, bridge, gauges


def told(feed: Feed, seen: int, *, masked: bool = False) -> dict[str, Any]:
    message = feed.message(seen, masked=masked)
    return json.loads(message) if message else {}


ROW = [
    1,
    "active",
    0,
    0,
    0,
    -1,
    "c1",
    "twilio",
    "inbound",
    "+4930777888",
    "+15550100",
    "agent_1",
    0,
    1000.0,
    "elsewhere",
]


async def test_a_new_console_is_told_everything_and_then_what_changes() -> None:
    feed, live, _, gauges = made()
    live.calls = [call()]
    await feed.look()
    whole = {"now": 5000.0, "whole": True, "rows": [ROW], "gauges": {"active": 1, "hidden": 0}}
    assert told(feed, 0) == whole
    assert told(feed, feed.number) == {}
    seen = feed.number
    gauges["active"] = 2
    live.calls = [call(), call("c2")]
    await feed.look()
    assert told(feed, seen) == {"now": 5000.0, "rows": [[2, *ROW[1:6], "c2", *ROW[7:]]], "gauges": {"active": 2}}
    seen = feed.number
    live.calls = [call("c2", state="draining")]
    await feed.look()
    assert told(feed, seen) == {"now": 5000.0, "rows": [[2, "draining", *ROW[2:6], "c2", *ROW[7:]]], "gone": [1]}
    assert told(feed, seen - 1)["whole"] is True, "who has missed a look is told everything"
    assert feed.message(0, masked=False) is feed.message(0, masked=False), "encoded once"


async def test_numbers_are_masked_where_they_must_be_and_encoded_once_where_not() -> None:
    feed, live, _, gauges = made()
    live.calls = [call()]
    await feed.look()
    assert told(feed, 0, masked=True)["rows"][0][9:11] == ["+***888", "+***100"]
    seen = feed.number
    gauges["active"] = 3
    await feed.look()
    assert feed.message(seen, masked=True) is feed.message(seen, masked=False)


async def test_calls_of_this_process_have_a_pulse() -> None:
    bridge = offline_bridge(BRIDGE_AUTH="off")
    table = await Table(bridge).activate()
    feed = Feed(bridge, dict)
    await feed.look()
    row = told(feed, 0)["rows"][0]
    assert (row[1], row[6], row[14]) == ("active", table.session.call_id, "")
    seen = feed.number
    table.session._ear.listen(0.0)
    assert table.session._ear._vad is not None
    table.session._ear._vad.talking = True
    await feed.look()
    assert [pulse[:3] for pulse in told(feed, seen)["pulses"]] == [[1, "active", 1]]
    table.hang_up()
    seen = feed.number
    await feed.look()
    assert told(feed, seen)["gone"] == [1]


async def test_the_list_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "MAX_SHOWN", 150)
    feed, live, _, _ = made()
    live.calls = [call(f"c{number}") for number in range(200)]
    await feed.look()
    assert (len(told(feed, 0)["rows"]), told(feed, 0)["gauges"]["hidden"]) == (150, 1)


async def test_it_looks_only_while_somebody_watches_and_goes_on_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_module, "LOOK_EVERY_S", 0.01)
    feed, live, _, _ = made()
    live.error = OSError("away")
    assert feed.number == 0
    with feed.watched(), feed.watched():
        assert feed.watchers == 2
        await feed.after(0, 0.05)
        assert feed.number == 0, "nothing was seen"
        live.error = None
        await feed.after(0, 1.0)
        assert feed.number > 0
    assert (feed.watchers, feed.number) == (0, 0)
    await asyncio.sleep(0.03)
    assert feed.number == 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(stream_module, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(stream_module, "WRITE_TIMEOUT_S", 0.1)


async def streamed(
    browser: Browser, feed: Feed, *, still_in: Any = lambda: True, is_closing: Any = lambda: False
) -> None:
    stream = EventStream(feed, masked=False, still_in=still_in, is_closing=is_closing)
    async with asyncio.timeout(5.0):
        await stream({"type": "http"}, browser.receive, browser.send)


@pytest.mark.usefixtures("quick")
async def test_a_stream_tells_until_its_browser_goes() -> None:
    feed, live, _, _ = made()
    live.calls = [call()]
    browser = Browser()
    task = asyncio.create_task(streamed(browser, feed))
    await until(lambda: len(browser.events) >= 4)
    browser.is_gone.set()
    await task
    assert browser.started[b"content-type"].startswith(b"text/event-stream")
    assert browser.events[0] == "retry: 1000"
    assert json.loads(browser.events[1].removeprefix("data: "))["whole"] is True
    assert "whole" not in json.loads(browser.events[2].removeprefix("data: "))
    assert feed.watchers == 0


@pytest.mark.usefixtures("quick")
async def test_a_stream_whose_session_is_over_says_so_and_ends() -> None:
    browser = Browser()
    await streamed(browser, made()[0], still_in=lambda: False)
    assert browser.events[-1] == "event: over\ndata: session"
    assert browser.is_over


@pytest.mark.usefixtures("quick")
async def test_a_stream_does_not_hold_up_the_end_of_the_process_nor_live_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    browser = Browser()
    await streamed(browser, made()[0], is_closing=lambda: True)
    assert browser.is_over
    monkeypatch.setattr(stream_module, "LIFE_S", 0.05)
    browser = Browser()
    await streamed(browser, made()[0])
    assert browser.is_over


@pytest.mark.usefixtures("quick")
async def test_a_browser_that_does_not_read_is_given_up() -> None:
    feed, browser = made()[0], Browser()
    task = asyncio.create_task(streamed(browser, feed))
    await until(lambda: browser.events)
    browser.reads.clear()
    await task
    assert (feed.watchers, browser.is_over) == (0, False)


@pytest.mark.usefixtures("quick")
async def test_silence_is_broken_by_a_beat() -> None:
    feed, live, _, _ = made()
    live.error = OSError("away")
    browser = Browser()
    task = asyncio.create_task(streamed(browser, feed))
    await until(lambda: "event: beat\ndata:" in browser.events)
    browser.is_gone.set()
    await task
