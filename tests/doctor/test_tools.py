"""The checks' tools: where the bridge is, what is looked at once, which texts are secret."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from bridge.auth.sip_digest_client import SipAccount
from bridge.doctor.tools import DoctorOptions, listed, secrets_of, secrets_of_trunks, words_of
from bridge.sip.trunks import Inbound, Outbound, Trunk
from tests.kit.doctor import tools_for
from tests.kit.server import settings_for


@pytest.mark.parametrize(
    ("host", "at", "url"),
    [
        ("127.0.0.1", "", "http://127.0.0.1:8080"),
        ("0.0.0.0", "", "http://127.0.0.1:8080"),
        ("::", "", "http://[::1]:8080"),
        ("10.1.2.3", "", "http://10.1.2.3:8080"),
        ("0.0.0.0", "http://bridge:8080/", "http://bridge:8080"),
    ],
)
async def test_where_the_bridge_listens(host: str, at: str, url: str) -> None:
    async with tools_for(options=DoctorOptions(at=at), BRIDGE_HOST=host) as tools:
        assert tools.local_url == url


async def test_what_several_ask_is_looked_at_once() -> None:
    looked = 0

    async def look() -> int:
        nonlocal looked
        looked += 1
        number = looked
        await asyncio.sleep(0)
        return number

    async with tools_for() as tools:
        both = await asyncio.gather(tools.once("a", look), tools.once("a", look), tools.once("b", look))
    assert tuple(both) == (1, 1, 2)


async def test_one_that_gives_up_leaves_it_running_for_the_others() -> None:
    go_on = asyncio.Event()

    async def look() -> str:
        await go_on.wait()
        return "seen"

    async with tools_for() as tools:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await tools.once("a", look)
        go_on.set()
        assert await tools.once("a", look) == "seen"


async def test_what_nobody_waits_for_ends_with_the_tools() -> None:
    ended = asyncio.Event()

    async def look() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with tools_for() as tools:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await tools.once("a", look)
    assert ended.is_set()


def test_secrets_are_known_whole_and_by_entry() -> None:
    settings = settings_for({"TWILIO_AUTH_TOKEN": "old-token,new-token", "ELEVENLABS_API_KEY": "sk_1"})
    assert set(secrets_of(settings)) == {"old-token,new-token", "old-token", "new-token", "sk_1"}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectTimeout("to 10.1.2.3"), "no connection in time"),
        (httpx.ReadTimeout("x"), "no answer in time"),
        (httpx.ConnectError("to 10.1.2.3"), "no connection"),
        (httpx.RemoteProtocolError("what it sent"), "RemoteProtocolError"),
    ],
)
def test_failures_in_words_without_addresses(error: Exception, words: str) -> None:
    assert words_of(error) == words


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(["a", "b", "c"], most=2) == "a, b and 1 more"


def test_secrets_of_trunks_from_the_file() -> None:
    office = Trunk(
        "office",
        Inbound(username="office", passwords=("first-word", "second-word")),
        Outbound("sip.example.com", account=SipAccount("bridge", "third-word"), headers=(("X-Token", "fourth-word"),)),
    )
    assert secrets_of_trunks([office, Trunk("bare", outbound=Outbound("sip.example.com")), Trunk("none")]) == (
        "first-word", "second-word", "fourth-word", "third-word",
    )  # fmt: skip
