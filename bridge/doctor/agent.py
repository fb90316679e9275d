"""Whether the agents can be reached with these credentials: signed URL, WebSocket, and the first message.

The conversation is opened exactly as a call opens it (``bridge.server.convai_client``), and closed as soon as the
agent's side has named its formats: a second or two, in which it may begin its greeting. The vendor counts it as a
conversation.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from bridge import outcome
from bridge.calls.personalization import initiation_for
from bridge.calls.routing import RoutingTable
from bridge.calls.rules import Rules
from bridge.config import Settings
from bridge.convai.events import AgentEnded, AgentReady
from bridge.convai.protocol import Conversation, ConversationOptions
from bridge.doctor.findings import Finding, failed, ok, skipped, warning
from bridge.doctor.formats import configured_carriers, judge_formats, native_formats
from bridge.doctor.tools import Tools
from bridge.events import CallInfo
from bridge.leg import CloseSocket
from bridge.outcome import EndReason
from bridge.server.convai_client import AgentClient, AgentConnectError, AgentTarget
from bridge.server.sockets import CLOSE_GRACE_S, MediaSocket

MAX_AGENTS = 5
"""Agents that are looked at: each costs a conversation, and mistakes are mostly the same in all of them."""

NO_CONVERSATION = "--no-conversation was given"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An agent that calls may reach, and what the configuration wants of it."""

    target: AgentTarget
    languages: tuple[str, ...] = ()
    """Languages that routes override."""
    personalization: bool = False


@dataclass(frozen=True, slots=True)
class Talked:
    """What came of a conversation."""

    hears: str = ""
    speaks: str = ""
    """Formats by the vendor's names; empty = the conversation did not begin."""
    took_ms: int = 0
    """From the first request to the metadata."""
    problem: EndReason | None = None
    detail: str = ""


def agents_of(settings: Settings, routing: RoutingTable) -> tuple[Wanted, ...]:
    """The agents that settings and routes name, the default one first."""
    routes = routing.routes
    defaults = settings.route_defaults
    names = dict.fromkeys([defaults.agent_id, *(route.agent for route in routes), *routing.agents])
    found = []
    for agent_id in (name for name in names if name):
        own = routing.agents.get(agent_id, Rules())
        is_default = agent_id == defaults.agent_id
        here = [route for route in routes if route.agent == agent_id or (is_default and not route.agent)]
        rules: list[Rules] = [*here, own]
        found.append(
            Wanted(
                AgentTarget(
                    agent_id,
                    _first([each.environment for each in rules], defaults.environment),
                    _first([each.branch for each in rules], defaults.branch if is_default else ""),
                ),
                tuple(dict.fromkeys(each.language for each in rules if each.language)),
                defaults.personalization,
            )
        )
    return tuple(found)


def _first(texts: list[str], default: str) -> str:
    return next((text for text in texts if text), default)


class _Once:
    """Owns the socket of a conversation that ends as soon as it has begun."""

    def __init__(self, settings: Settings, tools: Tools) -> None:
        self._conversation = Conversation(
            ConversationOptions(settings.upload_chunk_ms, settings.agent_ready_timeout_s, settings.agent_silence_s)
        )
        self._now = tools.monotonic
        self._socket: MediaSocket | None = None
        self.outcome: asyncio.Future[AgentReady | AgentEnded] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()

    def on_open(self, socket: MediaSocket) -> None:
        """See ``SocketOwner``."""
        self._socket = socket
        self._conversation.start(initiation_for(CallInfo(provider="doctor", call_sid="")), self._now())
        self._flush()

    def on_message(self, message: str | bytes) -> None:
        """See ``SocketOwner``."""
        for event in self._conversation.receive(message, self._now()):
            if isinstance(event, AgentReady | AgentEnded) and not self.outcome.done():
                self.outcome.set_result(event)
        self._flush()

    def on_lost(self, code: int, words: str) -> None:
        """See ``SocketOwner``."""
        for event in self._conversation.connection_lost(code, words):
            if isinstance(event, AgentEnded) and not self.outcome.done():
                self.outcome.set_result(event)
        self.closed.set()

    def on_writable(self, writable: bool) -> None:
        """See ``SocketOwner``."""

    async def close(self) -> None:
        """Say good-bye and wait until the other side has, or the socket's grace is over."""
        self._conversation.finish()
        self._flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_GRACE_S + 1.0):
                await self.closed.wait()

    def _flush(self) -> None:
        socket = self._socket
        assert socket is not None, "nothing happens before it is open"
        for item in self._conversation.drain():
            if isinstance(item, CloseSocket):
                socket.close(item.code, item.reason)
            else:
                socket.send_text(item)


async def look_at_agent(tools: Tools, wanted: Wanted) -> Talked:
    """Open a conversation with this agent and close it again."""
    settings = tools.settings
    once = _Once(settings, tools)
    began_s = tools.monotonic()
    try:
        await AgentClient(settings, tools.http, tools.tls).connect(wanted.target, once)
    except AgentConnectError as error:
        return Talked(problem=error.reason, detail=error.detail)
    try:
        async with asyncio.timeout(settings.agent_ready_timeout_s):
            event = await asyncio.shield(once.outcome)
    except TimeoutError:
        return Talked(problem=outcome.AGENT_NOT_READY)
    finally:
        await once.close()
    if isinstance(event, AgentEnded):
        return Talked(problem=event.reason, detail=event.detail)
    took_ms = round((tools.monotonic() - began_s) * 1000)
    return Talked(event.input_format.name, event.output_format.name, took_ms)


_ADVICE: dict[EndReason, str] = {
    outcome.AGENT_UNREACHABLE: "Check ELEVENLABS_BASE_URL, DNS, the firewall (port 443 outwards) and TLS.",
    outcome.AGENT_UNAUTHORIZED: "Check ELEVENLABS_API_KEY: copied whole, of this workspace and region, and with the "
    "permission for conversational agents. Without a key the agent must be public.",
    outcome.AGENT_NOT_FOUND: "Check the agent's id in ELEVENLABS_AGENT_ID or its route, and that ELEVENLABS_BASE_URL "
    "is of its region.",
    outcome.AGENT_QUOTA: "The plan has no conversation left: wait for one to end, or raise the plan; then set "
    "WORKSPACE_CONCURRENCY to it.",
    outcome.AGENT_GARBAGE: "Check ELEVENLABS_BASE_URL: what answers there is no ElevenLabs interface.",
    outcome.AGENT_FORMAT: "Set the agent's input and output format to ulaw_8000 (mu-law 8000 Hz) in ElevenLabs.",
    outcome.AGENT_NOT_READY: "Look at the agent in ElevenLabs: does it answer in the test there?",
}
_OTHERWISE = "Look at the agent's words above, and at the agent in ElevenLabs: does it answer in the test there?"
_NEEDS_VARIABLES = (
    "Give the agent's variables defaults, or let your personalization webhook set them: calls end like this without."
)
_MAY_HAVE_VARIABLES = (
    "Place a test call: the doctor does not ask your personalization webhook, which may give what is missing here."
)


def judge_agent(wanted: Wanted, talked: Talked) -> Finding:
    """What to make of the attempt."""
    name = f"agent {wanted.target.agent_id}"
    if talked.problem is None:
        return ok(name, f"conversation begun {talked.took_ms} ms after the first request, closed again at once")
    what = outcome_words(talked.problem)
    seen = f"{what} ({talked.detail})" if talked.detail else what
    if talked.problem is outcome.AGENT_CONFIG:
        if wanted.personalization:
            return warning(name, seen, _MAY_HAVE_VARIABLES)
        return failed(name, seen, _NEEDS_VARIABLES)
    return failed(name, seen, _ADVICE.get(talked.problem, _OTHERWISE))


def outcome_words(reason: EndReason) -> str:
    """The reason as the log, the metrics and the records have it."""
    return f"no conversation: {reason.reason}"


# --- the checks ------------------------------------------------------------------------------------------


async def check_agent(tools: Tools, wanted: Wanted) -> Finding:
    """Whether a conversation can be had."""
    name = f"agent {wanted.target.agent_id}"
    if not tools.options.conversation:
        return skipped(name, NO_CONVERSATION)
    return judge_agent(wanted, await _talked(tools, wanted))


async def check_formats(tools: Tools, wanted: Wanted) -> list[Finding]:
    """What becomes of its audio on each carrier that is set up."""
    agent_id, settings = wanted.target.agent_id, tools.settings
    if not tools.options.conversation:
        return [skipped(f"agent {agent_id}: formats", NO_CONVERSATION)]
    talked = await _talked(tools, wanted)
    if talked.problem is not None:
        return [skipped(f"agent {agent_id}: formats", "the conversation did not begin, so they are not known")]
    carriers, native = configured_carriers(settings, tools.trunks), native_formats(settings, tools.trunks)
    return judge_formats(agent_id, talked.hears, talked.speaks, carriers, native)


async def _talked(tools: Tools, wanted: Wanted) -> Talked:
    return await tools.once(f"agent {wanted.target.agent_id}", lambda: look_at_agent(tools, wanted))


async def no_agent() -> Finding:
    """What is said where no agent is named at all."""
    return failed(
        "agent", "no agent is named", "Set ELEVENLABS_AGENT_ID, or name agents in routes: calls have nobody to talk to."
    )


async def left_out(count: int) -> Finding:
    """What is said where there are more agents than are looked at."""
    return skipped("agent", f"{count} more agents are named; only the first {MAX_AGENTS} are looked at")
