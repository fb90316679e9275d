"""Clocks: readings over the network and what is made of them."""

from __future__ import annotations

import httpx
import pytest

from bridge.doctor.clocks import check_agent_clock, date_of, judge_clock, reading
from tests.kit.doctor import NOW_S, told, tools_for

DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
MEND = "Synchronise this machine's clock (chrony or systemd-timesyncd) and look again."


def test_a_reading_is_good_to_half_the_round_trip_and_the_resolution() -> None:
    read = reading(105.0, 99.0, 101.0, resolution_s=1.0)
    assert (read.ahead_s, read.give_or_take_s) == (5.5, 1.5)


@pytest.mark.parametrize(
    ("theirs", "verdict", "seen"),
    [
        (100.0, "ok", "this clock and that of Redis agree to within 0.5 s"),
        (102.4, "ok", "this clock and that of Redis agree to within 1.9 s"),
        (103.0, "warning", "this clock is 2 s behind that of Redis"),
        (96.5, "warning", "this clock is 3 s ahead of that of Redis"),
        (110.5, "failed", "this clock is 10 s behind that of Redis"),
    ],
)
def test_differences(theirs: float, verdict: str, seen: str) -> None:
    finding = judge_clock("clock: Redis", "Redis", reading(theirs, 99.5, 100.5))
    assert told(finding) == (verdict, seen, "" if verdict == "ok" else MEND)


async def test_the_agents_host_tells_the_time_with_any_answer() -> None:
    async with tools_for(lambda _: httpx.Response(404, headers={"Date": DATE})) as tools:
        tools.unix = lambda: NOW_S + 60
        finding = await check_agent_clock(tools)
    assert told(finding) == ("failed", "this clock is 59 s ahead of that of the agent's host", MEND)


async def test_a_host_without_a_date() -> None:
    async with tools_for(lambda _: httpx.Response(200)) as tools:
        finding = await check_agent_clock(tools)
    assert told(finding) == ("skipped", "the agent's host gives no time: no Date header", "")


async def test_a_host_that_is_not_there() -> None:
    def gone(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("to 10.1.2.3")

    async with tools_for(gone) as tools:
        finding = await check_agent_clock(tools)
    assert told(finding) == ("skipped", "the agent's host gives no time: no connection", "")


@pytest.mark.parametrize(
    ("text", "unix_s"),
    [(DATE, NOW_S), ("Fri, 15 Jan 2027 08:00:00 -0000", NOW_S), ("", None), ("yesterday", None), ("Fri, 99 Jan", None)],
)
def test_http_dates(text: str, unix_s: float | None) -> None:
    assert date_of(text) == unix_s
