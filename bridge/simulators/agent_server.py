"""Runs simulated agents on a port: the WebSocket, and the few HTTP requests that belong to it.

``GET /v1/convai/conversation/get-signed-url`` (and the older ``get_signed_url``),
``GET /v1/convai/conversations/ID`` with a conversation's results, ``GET /v1/convai/agents/ID`` with an agent's voice
and formats, ``POST /v1/text-to-speech/VOICE``, ``GET /healthz``, and ``GET /stats`` with what the agents saw. HTTP and
WebSocket share the port, as with the vendor.

Source: ElevenLabs API reference, "Get signed URL" (read 2026-11-21): 15 minutes to start, single use when the
conversation id is included.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from bridge.errors import ConfigError
from bridge.simulators import agent_wire as wire
from bridge.simulators.agent_log import ConversationLog
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_outbox import Abort, AgentAction, CloseFrame, PauseReading
from bridge.simulators.agent_posts import Answer, Post, posting
from bridge.simulators.agent_protocol import INVALID_MESSAGE_CODE, AgentProtocol
from bridge.simulators.agent_rest import agent_configuration, answer_post, conversation_details
from bridge.simulators.agent_scenarios import Scenario, scenario_for, scenario_for_agent
from bridge.simulators.pump import pump

CONVERSATION_PATH = "/v1/convai/conversation"
SIGNED_URL_PATHS = (f"{CONVERSATION_PATH}/get-signed-url", f"{CONVERSATION_PATH}/get_signed_url")
DETAILS_PATH = "/v1/convai/conversations/"
AGENTS_PATH = "/v1/convai/agents/"
SUBPROTOCOL = Subprotocol("convai")

SIGNATURE_LIFETIME_S = 15 * 60.0
"""How long a signed URL may be used to start a conversation."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Largest message taken; the official SDK takes as much from us."""

MAX_CONVERSATIONS_KEPT = 2000
"""Conversations whose logs are kept; the oldest go first."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Grant:
    """What a signed URL allows."""

    agent_id: str
    expires_s: float
    conversation_id: str
    """Set when the URL was asked for with its conversation id: single use then."""


@dataclass(frozen=True, slots=True)
class _Admission:
    """What the upgrade request asked for."""

    agent_id: str
    scenario: Scenario
    conversation_id: str
    problem: str
    """Why the conversation is refused once the socket is open; empty = it is not."""


class AgentServer:
    """Simulated agents on one port.

    Start with ``start`` and end with ``stop``, or use it as an async context manager. ``conversations`` holds the
    log of every conversation, oldest first.
    """

    def __init__(self, options: AgentOptions | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        """Raises ``ConfigError`` when the options name no known scenario."""
        self.options = options or AgentOptions()
        self.host = host
        self.port = port
        """0 before ``start`` = any free port; afterwards the port."""
        self.conversations: list[ConversationLog] = []
        self.on_end: Callable[[ConversationLog], None] | None = None
        """Called with the log of every conversation that ended."""
        chosen = (self.options.scenario, *self.options.later)
        self._scenarios = [each if isinstance(each, Scenario) else scenario_for(each) for each in chosen]
        self._asked_for = 0
        self._server: Server | None = None
        self._grants: dict[str, _Grant] = {}
        self._admissions: weakref.WeakKeyDictionary[ServerConnection, _Admission] = weakref.WeakKeyDictionary()
        self._ended = asyncio.Condition()

    @property
    def base_url(self) -> str:
        """What goes into ELEVENLABS_BASE_URL."""
        return f"http://{self.host}:{self.port}"

    def conversation_url(self, agent_id: str) -> str:
        """WebSocket URL of an agent, without a signature."""
        return f"ws://{self.host}:{self.port}{CONVERSATION_PATH}?{urlencode({'agent_id': agent_id})}"

    async def start(self) -> None:
        """Open the port. Raises ``OSError`` when it is taken."""
        self._server = await serve(
            self._handle,
            self.host,
            self.port,
            process_request=self._process_request,
            select_subprotocol=_select_subprotocol,
            create_connection=posting(self._post),
            compression="deflate" if self.options.compression else None,
            max_size=MAX_MESSAGE_BYTES,
            logger=_log,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every conversation (close 1001)."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def wait_ended(self, count: int = 1, timeout_s: float = 5.0) -> ConversationLog:
        """Wait until ``count`` conversations have ended; returns the log of the last of them to begin.

        Raises ``TimeoutError``.
        """
        async with asyncio.timeout(timeout_s), self._ended:
            await self._ended.wait_for(lambda: len(self._ended_logs()) >= count)
        return self._ended_logs()[count - 1]

    def stats(self) -> dict[str, Any]:
        """Every conversation as JSON values, and the sum of all violations."""
        return {
            "conversations": [log.to_json() for log in self.conversations],
            "violations": sum(len(log.violations) for log in self.conversations),
        }

    def _ended_logs(self) -> list[ConversationLog]:
        return [log for log in self.conversations if log.closed_by]

    # --- HTTP --------------------------------------------------------------------------------------------

    async def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP, and decide on upgrades: None lets the handshake go on."""
        target = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(target.query).items()}
        upgrade = "websocket" in request.headers.get("Upgrade", "").lower()
        if target.path == CONVERSATION_PATH and upgrade:
            await asyncio.sleep(self.options.upgrade_delay_s)
            return self._admit(connection, request, query)
        if target.path in SIGNED_URL_PATHS:
            return self._signed_url(connection, request, query)
        if target.path.startswith(DETAILS_PATH):
            return self._details(connection, request, target.path.removeprefix(DETAILS_PATH))
        if target.path.startswith(AGENTS_PATH):
            return self._agent(connection, request, target.path.removeprefix(AGENTS_PATH))
        if target.path == "/healthz":
            return _json(connection, HTTPStatus.OK, {"status": "ok"})
        if target.path == "/stats":
            return _json(connection, HTTPStatus.OK, self.stats())
        return _json(connection, HTTPStatus.NOT_FOUND, {"detail": "Not Found"})

    def _admit(self, connection: ServerConnection, request: Request, query: Mapping[str, str]) -> Response | None:
        agent_id = query.get("agent_id", "")
        if not agent_id:
            return _json(connection, HTTPStatus.UNPROCESSABLE_ENTITY, _missing("agent_id"))
        try:
            scenario = scenario_for_agent(agent_id, self._next_scenario())
        except ConfigError as error:
            return _error(connection, HTTPStatus.NOT_FOUND, "agent_not_found", str(error))
        if scenario.refuse_status:
            status = HTTPStatus(scenario.refuse_status)
            return _error(connection, status, "refused_by_scenario", status.phrase)
        signature = query.get("conversation_signature", "")
        conversation_id, problem = "", ""
        if signature:
            conversation_id, problem = self._redeem(signature, agent_id)
        elif not self._key_fits(request.headers):
            return _error(connection, HTTPStatus.UNAUTHORIZED, "invalid_api_key", "Invalid API key")
        conversation_id = conversation_id or f"conv_{secrets.token_hex(13)}"
        self._admissions[connection] = _Admission(agent_id, scenario, conversation_id, problem)
        return None

    def _next_scenario(self) -> Scenario:
        """What the next conversation is about, unless its agent's id says otherwise."""
        self._asked_for += 1
        return self._scenarios[min(self._asked_for, len(self._scenarios)) - 1]

    def _signed_url(self, connection: ServerConnection, request: Request, query: Mapping[str, str]) -> Response:
        if not self._key_fits(request.headers):
            return _error(connection, HTTPStatus.UNAUTHORIZED, "invalid_api_key", "Invalid API key")
        agent_id = query.get("agent_id", "")
        if not agent_id:
            return _json(connection, HTTPStatus.UNPROCESSABLE_ENTITY, _missing("agent_id"))
        now = time.monotonic()
        self._grants = {text: grant for text, grant in self._grants.items() if grant.expires_s > now}
        single_use = query.get("include_conversation_id", "").lower() == "true"
        conversation_id = f"conv_{secrets.token_hex(13)}" if single_use else ""
        signature = f"cvtkn_{secrets.token_urlsafe(18)}"
        self._grants[signature] = _Grant(agent_id, now + SIGNATURE_LIFETIME_S, conversation_id)
        fields = {"agent_id": agent_id, "conversation_signature": signature}
        if conversation_id:
            fields["conversation_id"] = conversation_id
        host = request.headers.get("Host", f"{self.host}:{self.port}")
        url = f"ws://{host}{CONVERSATION_PATH}?{urlencode(fields)}"
        return _json(connection, HTTPStatus.OK, {"signed_url": url})

    def _details(self, connection: ServerConnection, request: Request, conversation_id: str) -> Response:
        if not self._key_fits(request.headers):
            return _error(connection, HTTPStatus.UNAUTHORIZED, "invalid_api_key", "Invalid API key")
        for log in reversed(self.conversations):
            if log.conversation_id == conversation_id:
                return _json(connection, HTTPStatus.OK, conversation_details(log, self.options, time.monotonic()))
        return _error(connection, HTTPStatus.NOT_FOUND, "conversation_not_found", "No such conversation")

    def _agent(self, connection: ServerConnection, request: Request, agent_id: str) -> Response:
        if not self._key_fits(request.headers):
            return _error(connection, HTTPStatus.UNAUTHORIZED, "invalid_api_key", "Invalid API key")
        try:
            scenario = scenario_for_agent(agent_id, self._scenarios[0])
        except ConfigError as error:
            return _error(connection, HTTPStatus.NOT_FOUND, "agent_not_found", str(error))
        return _json(connection, HTTPStatus.OK, agent_configuration(agent_id, scenario, self.options))

    def _post(self, post: Post) -> Answer:
        return answer_post(post, has_key=self._key_fits(post.headers))

    def _redeem(self, signature: str, agent_id: str) -> tuple[str, str]:
        """Conversation id (may be empty) and problem (empty = none) of a signature."""
        grant = self._grants.get(signature)
        if grant is None or grant.agent_id != agent_id or grant.expires_s <= time.monotonic():
            return "", "conversation_signature is unknown, used, expired or of another agent"
        if grant.conversation_id:
            del self._grants[signature]
        return grant.conversation_id, ""

    def _key_fits(self, headers: Mapping[str, str]) -> bool:
        given = headers.get("xi-api-key", "")
        return not self.options.api_key or hmac.compare_digest(given.encode(), self.options.api_key.encode())

    # --- WebSocket ---------------------------------------------------------------------------------------

    async def _handle(self, connection: ServerConnection) -> None:
        admission = self._admissions.pop(connection)
        log = ConversationLog(admission.conversation_id, agent_id=admission.agent_id)
        log.path = connection.request.path if connection.request else ""
        log.subprotocol = connection.subprotocol or ""
        self.conversations.append(log)
        del self.conversations[:-MAX_CONVERSATIONS_KEPT]
        agent = AgentProtocol(admission.scenario, self.options, log, time.monotonic())
        if admission.problem:
            log.close("agent", INVALID_MESSAGE_CODE, admission.problem, time.monotonic())
            await connection.send(wire.error(INVALID_MESSAGE_CODE, admission.problem, "invalid_message"))
            await connection.close(INVALID_MESSAGE_CODE, admission.problem)
        else:
            await self._converse(connection, agent)
        if self.on_end is not None:
            self.on_end(log)
        async with self._ended:
            self._ended.notify_all()

    async def _converse(self, connection: ServerConnection, agent: AgentProtocol) -> None:
        resume: asyncio.TimerHandle | None = None

        async def perform(action: AgentAction) -> None:
            nonlocal resume
            match action:
                case str() | bytes():
                    await connection.send(action)
                case CloseFrame():
                    await connection.close(action.code, action.reason)
                case Abort():
                    connection.transport.abort()
                case PauseReading():
                    connection.transport.pause_reading()
                    loop = asyncio.get_running_loop()
                    resume = loop.call_later(action.seconds, connection.transport.resume_reading)

        try:
            await pump(connection, agent, perform)
        finally:
            if resume is not None:
                resume.cancel()


async def serve_agent(
    host: str,
    port: int,
    options: AgentOptions,
    *,
    on_ready: Callable[[AgentServer], None] | None = None,
    on_end: Callable[[ConversationLog], None] | None = None,
) -> None:
    """Serve until cancelled. ``on_ready`` gets the server once its port is open, ``on_end`` the log of each end."""
    server = AgentServer(options, host, port)
    server.on_end = on_end
    async with server:
        if on_ready is not None:
            on_ready(server)
        await asyncio.get_running_loop().create_future()


def _select_subprotocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Take ``convai`` when it is offered; clients that offer nothing, or something else, are welcome too."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


def _json(connection: ServerConnection, status: HTTPStatus, body: object) -> Response:
    response = connection.respond(status, msgspec.json.encode(body).decode())
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    return response


def _error(connection: ServerConnection, status: HTTPStatus, kind: str, message: str) -> Response:
    return _json(connection, status, {"detail": {"status": kind, "message": message}})


def _missing(field: str) -> dict[str, object]:
    return {"detail": [{"type": "missing", "loc": ["query", field], "msg": "Field required", "input": None}]}
