"""What is said in a call, posted as it is said, for those who come from the connector that the agents' vendor names to
Vonage users: the same JSON to the same address, so that moving over is changing a URL.

    {"type": "user_transcript", "transcript": "...", "call_uuid": "..."}
    {"type": "agent_response", "response": "...", "call_uuid": "..."}

Source: nexmo-se/elevenlabs-agent-ws-connector, 2025-07-09 (there a post that fails ends the process).

What it is not: the operator's webhooks (``bridge.server.outbox``), which are signed, kept and repeated. Posts are sent
once, in the order of the talk, one at a time for each call; what a target does not take is lost, and a call never
notices. They go where a call's parameter ``webhook_url`` points, and that only to the hosts of VONAGE_WEBHOOK_ALLOW and
through the guarded client; redirects are not followed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING

import httpx
import msgspec

from bridge.providers import vonage
from bridge.providers.vonage_call import PARAM_PEER, PARAM_WEBHOOK
from bridge.server.egress import EgressFailed, EgressRefused, RequestLimits, check_url, request
from bridge.server.logs import get_logger

if TYPE_CHECKING:
    from bridge.server.session import Session

MAX_WAITING = 50
"""Posts of one call that wait for their target; a minute of talk has some ten. More are dropped."""
ATTEMPT_TIMEOUT_S = 5.0
PARALLEL = 10
"""Posts at once, all calls together: the connections are shared with the operator's other webhooks."""
ANSWER_BYTES = 1_024
"""Of the target's answer, which nobody looks at."""
LAST_POSTS_S = 10.0
"""How long after a call's end what was said in it is still being posted."""

_TYPES = {"user": ("user_transcript", "transcript"), "agent": ("agent_response", "response")}


def may_post_to(url: str, hosts: Collection[str]) -> bool:
    """Whether this address is on one of these hosts; ``*.example.org`` stands for all below it."""
    try:
        host = check_url(url).host.lower().rstrip(".")
    except EgressRefused:
        return False
    return any(host.endswith(each[1:]) if each.startswith("*.") else host == each for each in hosts)


class SaidPosts:
    """The posts of one call. Used inside the event loop."""

    def __init__(
        self, client: httpx.AsyncClient, url: str, call_uuid: str, room: asyncio.Semaphore, *, call_id: str = ""
    ) -> None:
        """``client`` is a guarded one (``egress.guarded_client``); ``room`` is shared by all calls."""
        self.lost = 0
        """Posts that nobody got."""
        self._client = client
        self._url = url
        self._call_uuid = call_uuid
        self._room = room
        self._waiting: deque[bytes] = deque()
        self._task: asyncio.Task[None] | None = None
        self._log = get_logger(call_id=call_id)

    def said(self, role: str, text: str) -> None:
        """Somebody said something: post it soon. Returns at once and never raises."""
        if len(self._waiting) >= MAX_WAITING:
            self._lose("too many wait")
            return
        kind, member = _TYPES[role]
        self._waiting.append(msgspec.json.encode({"type": kind, member: text, "call_uuid": self._call_uuid}))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._deliver())

    async def finish(self, within_s: float = LAST_POSTS_S) -> None:
        """The call is over: wait for what is under way, with a bound, then give up the rest."""
        if self._task is None:
            return
        _, late = await asyncio.wait({self._task}, timeout=within_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for _ in range(len(self._waiting)):
            self._waiting.popleft()
            self._lose("the call is over")

    async def _deliver(self) -> None:
        """Post until nothing waits."""
        try:
            while self._waiting:
                async with self._room:
                    problem = await self._post(self._waiting[0])
                if problem:
                    self._lose(problem)
                self._waiting.popleft()
        finally:
            self._task = None

    async def _post(self, body: bytes) -> str:
        """One post; why it came to nothing, empty = it was taken."""
        headers = {"Content-Type": "application/json"}
        limits = RequestLimits(ATTEMPT_TIMEOUT_S, ANSWER_BYTES, max_redirects=0)
        try:
            answer = await request(self._client, "POST", self._url, headers=headers, body=body, limits=limits)
        except (EgressRefused, EgressFailed) as error:
            return str(error)
        except Exception as error:  # the boundary where a bug of ours must not end the posts of a call
            return f"bug: {type(error).__name__}"
        return "" if answer.status < 300 else f"HTTP {answer.status}"

    def _lose(self, why: str) -> None:
        self.lost += 1
        if self.lost == 1:  # a dead target would fill the log with its calls' every word
            self._log.warning("said_not_posted", detail=why)


def begin_posts(session: Session) -> None:
    """The call is let in: post what is said in it, if it came with an address for that.

    The address is taken out of the call's parameters, because all of those reach the agent.
    """
    call, bridge = session.call, session.bridge
    info = call.info
    if info is None or info.provider != vonage.NAME or PARAM_WEBHOOK not in info.parameters:
        return
    rest = {name: value for name, value in info.parameters.items() if name != PARAM_WEBHOOK}
    url = info.parameters[PARAM_WEBHOOK]
    call.info = msgspec.structs.replace(info, parameters=rest)
    client = bridge.parts.egress
    if client is None or not may_post_to(url, bridge.settings.vonage_webhook_allow):
        session.log.warning("webhook_url_ignored", advice="Name its host in VONAGE_WEBHOOK_ALLOW.")
        return
    call_uuid = info.parameters.get(PARAM_PEER) or info.call_sid
    posts = SaidPosts(client, url, call_uuid, bridge.posts_room, call_id=session.call_id)
    call.on_said = posts.said
    session.facts.posts = posts


def end_posts(session: Session) -> None:
    """The call is over; what was said last is still posted."""
    posts = session.facts.posts
    if posts is not None:
        session.bridge.after(asyncio.get_running_loop().create_task(posts.finish()))
