"""What is said, posted as the old connector did it; and that no target can touch a call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from bridge.providers.vonage import SPEC
from bridge.server.egress import EgressRefused
from bridge.server.said_posts import MAX_WAITING, SaidPosts, may_post_to
from tests.kit import convai, logs
from tests.kit import vonage as wire
from tests.kit.offline import offline_bridge
from tests.kit.server import until
from tests.kit.sessions import Table

URL = "https://hooks.example.com/results?tenant=a"


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


class Target:
    """Whoever is posted to; answers as told, or never."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        self.requests: list[httpx.Request] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(await request.aread())
        await self.go_on.wait()
        answer = self.answers.pop(0) if self.answers else httpx.Response(200)
        if isinstance(answer, Exception):
            raise answer

        async def body() -> AsyncIterator[bytes]:
            yield b""

        return httpx.Response(answer.status_code, headers=answer.headers, content=body())

    def posts(self, room: int = 10) -> SaidPosts:
        return SaidPosts(self.client, URL, "u-1", asyncio.Semaphore(room), call_id="c1")


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://hooks.example.com/x", True),
        ("https://HOOKS.example.com:8443/x", True),
        ("http://hooks.example.com./x", True),
        ("https://a.b.example.org/", True),
        ("https://example.org/", False),
        ("https://evilexample.org/", False),
        ("https://hooks.example.com.evil.example/", False),
        ("https://hooks.example.com@evil.example/", False),
        ("https://evil.example/?hooks.example.com", False),
        ("https://evil.example#hooks.example.com", False),
        ("ftp://hooks.example.com/", False),
        ("file:///etc/passwd", False),
        ("http://127.0.0.1/", False),
        ("//hooks.example.com", False),
        ("", False),
    ],
)
def test_where_posts_may_go(url: str, may: bool) -> None:
    assert may_post_to(url, ("hooks.example.com", "*.example.org")) is may
    assert not may_post_to(url, ())


async def test_the_old_connectors_posts_to_the_letter() -> None:
    target = Target()
    posts = target.posts()
    posts.said("user", "Hällo")
    posts.said("agent", 'How "are" you?')
    await posts.finish()
    assert target.bodies == [
        '{"type":"user_transcript","transcript":"Hällo","call_uuid":"u-1"}'.encode(),
        b'{"type":"agent_response","response":"How \\"are\\" you?","call_uuid":"u-1"}',
    ]
    assert {(str(request.url), request.method) for request in target.requests} == {(URL, "POST")}
    assert target.requests[0].headers["content-type"] == "application/json"
    assert posts.lost == 0


@pytest.mark.parametrize(
    "fault",
    [
        httpx.Response(500),
        httpx.Response(404),
        httpx.Response(307, headers={"Location": "http://169.254.169.254/"}),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        EgressRefused("not on the public internet"),
        RuntimeError("a bug"),
    ],
    ids=str,
)
async def test_a_post_that_fails_is_lost_and_the_next_one_goes(
    fault: httpx.Response | Exception, lines: list[dict[str, Any]]
) -> None:
    target = Target(fault, fault)
    posts = target.posts()
    for word in ("a", "b", "c"):
        posts.said("user", word)
    await posts.finish()
    assert [json.loads(body)["transcript"] for body in target.bodies] == ["a", "b", "c"], "once each, in order"
    assert posts.lost == 2
    assert [line["event"] for line in lines].count("said_not_posted") == 1
    assert "example.com" not in str(lines)


async def test_a_target_that_hangs_holds_a_bounded_number_and_the_end_does_not_wait_for_it() -> None:
    target = Target()
    target.go_on.clear()
    posts = target.posts()
    for number in range(MAX_WAITING + 20):
        posts.said("user", str(number))
    assert posts.lost == 20
    await posts.finish(within_s=0.01)
    assert posts.lost == MAX_WAITING + 20
    assert len(target.bodies) == 1


async def test_calls_share_the_room() -> None:
    target = Target()
    target.go_on.clear()
    room = asyncio.Semaphore(2)
    calls = [SaidPosts(target.client, URL, str(number), room) for number in range(5)]
    for call in calls:
        call.said("user", "a")
    await until(lambda: len(target.bodies) == 2)
    await asyncio.sleep(0)
    assert len(target.bodies) == 2
    target.go_on.set()
    for call in calls:
        await call.finish()
    assert len(target.bodies) == 5


async def test_nothing_said_is_nothing_to_wait_for() -> None:
    await Target().posts().finish()


# --- in a call -----------------------------------------------------------------------------------------------


async def talking(target: Target | None, allow: str = "hooks.example.com", **headers: Any) -> Table:
    """A call over Vonage whose agent is ready."""
    bridge = offline_bridge(BRIDGE_AUTH="off", VONAGE_WEBHOOK_ALLOW=allow)
    bridge.parts.egress = None if target is None else target.client
    table = Table(bridge, spec=SPEC)
    table.session.on_message(wire.connected(token=None, **headers))
    await until(lambda: table.agent.sent, "the agent was not told of the call")
    table.session.from_agent(convai.metadata("pcm_16000", "pcm_16000"))
    return table


def variables(table: Table) -> dict[str, Any]:
    return dict(json.loads(table.agent.sent[0])["dynamic_variables"])


async def test_a_call_posts_what_is_said_and_the_agent_never_sees_where() -> None:
    target = Target()
    table = await talking(target, webhook_url=URL, plan="gold")
    table.session.from_agent(convai.user_transcript("Hello?"))
    table.session.from_agent(convai.agent_response("Hi!"))
    table.session.on_lost(1000, "")
    await table.settled()
    assert [json.loads(body) for body in target.bodies] == [
        {"type": "user_transcript", "transcript": "Hello?", "call_uuid": wire.UUID},
        {"type": "agent_response", "response": "Hi!", "call_uuid": wire.UUID},
    ]
    assert variables(table)["plan"] == "gold"
    assert "webhook_url" not in variables(table)


async def test_the_id_that_the_peer_knows_goes_with_the_posts() -> None:
    target = Target()
    table = await talking(target, webhook_url=URL, peer_uuid="peer-1", uuid="leg-1")
    table.session.from_agent(convai.agent_response("Hi!"))
    await until(lambda: target.bodies)
    assert json.loads(target.bodies[0])["call_uuid"] == "leg-1", "headers of ours come first"
    table.session.on_lost(1000, "")
    await table.settled()


@pytest.mark.parametrize(("allow", "guarded"), [("", True), ("other.example.com", True), ("hooks.example.com", False)])
async def test_an_address_that_is_not_allowed_is_ignored(
    allow: str, guarded: bool, lines: list[dict[str, Any]]
) -> None:
    target = Target()
    table = await talking(target if guarded else None, allow, webhook_url=URL)
    table.session.from_agent(convai.agent_response("Hi!"))
    table.session.on_lost(1000, "")
    await table.settled()
    assert target.bodies == []
    assert "webhook_url" not in variables(table)
    assert "webhook_url_ignored" in [line["event"] for line in lines]
    assert "hooks.example.com" not in str(lines)


async def test_a_dead_target_does_not_touch_the_call() -> None:
    target = Target()
    target.go_on.clear()
    table = await talking(target, webhook_url=URL)
    for number in range(200):
        table.session.from_agent(convai.user_transcript(str(number)))
    table.session.from_agent(convai.audio(wire.frame() * 2))
    assert table.carrier.binary, "the agent is heard all the same"
    assert not table.session.call.is_over
    table.session.on_lost(1000, "")
    assert table.ends == {"success/caller_hangup": 1}
    target.go_on.set()
    await table.settled()


async def test_other_carriers_parameters_of_this_name_are_the_operators_own() -> None:
    table = Table(offline_bridge(BRIDGE_AUTH="off"))
    await table.activate(webhook_url=URL)
    assert variables(table)["webhook_url"] == URL
