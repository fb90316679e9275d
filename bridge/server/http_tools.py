"""Carries out the operator's HTTP tools: one request per tool call, and always words for the agent.

What it is: the request of a tool (``bridge.calls.http_tools``) over the guarded client, inside the tool's time-out and
a bound on its answer; redirects are not followed. Whatever goes wrong is a text for the agent's model, without address
and cause, which are the operator's and go to the log. What it is not: a repeat; a tool may have done something.

The request carries the call's and the conversation's id, and, where there is a WEBHOOK_SECRET, the signature of its
body as on webhooks (``bridge.auth.webhook``), an empty body's where there is none. Nothing here logs parameters,
headers, addresses or answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

from bridge.auth import webhook
from bridge.calls.http_tools import HttpTool, Request
from bridge.calls.orders import HttpOrder
from bridge.calls.tool_words import UNAVAILABLE
from bridge.server.egress import Answer, EgressFailed, EgressRefused, RequestLimits, request
from bridge.server.logs import get_logger

CALL_HEADER = "X-Bridge-Call-Id"
CONVERSATION_HEADER = "X-Bridge-Conversation-Id"
TOOL_HEADER = "X-Bridge-Tool"

_UTF8_MAX_BYTES = 4
"""Of one character: so many bytes are read for as many characters as the agent gets, and one more to see the end."""

CUT = " (the rest of the result was cut)"
EMPTY = "Done. The tool gave no further information."
FAILED = (
    "The tool {name} failed: {how}. Tell the caller that this cannot be done right now and go on with the conversation."
)


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """What the tool's server is told of the call."""

    call_id: str
    conversation_id: str


@dataclass(frozen=True, slots=True)
class HttpToolsOptions:
    """The operator's tools."""

    tools: Mapping[str, HttpTool] = field(default_factory=dict)
    secret: str = field(default="", repr=False)
    """Signs every request; empty = they go out unsigned."""


class HttpTools:
    """The requests of all calls. ``options`` may be replaced at any time; requests on their way keep theirs."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        options: HttpToolsOptions,
        *,
        unix: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``client`` comes from ``egress.guarded_client``; it stays the caller's to close."""
        self.options = options
        self._client = client
        self._unix = unix
        self._monotonic = monotonic
        self._log = get_logger()

    async def run(self, order: HttpOrder, facts: ToolFacts) -> tuple[str, bool]:
        """The result for the agent, and whether it is an error. Cancel it when nobody waits any more."""
        tool = self.options.tools.get(order.tool)
        if tool is None:  # the file was reloaded while the agent made up its mind
            return UNAVAILABLE.format(name=order.tool), True
        began_s = self._monotonic()
        text, problem = await self._ask(tool, order, facts)
        took_ms = round((self._monotonic() - began_s) * 1000)
        log = self._log.bind(call_id=facts.call_id, tool=tool.name, took_ms=took_ms)
        if problem:
            log.warning("http_tool_failed", detail=problem)
        else:
            log.info("http_tool_done")
        return text, bool(problem)

    async def _ask(self, tool: HttpTool, order: HttpOrder, facts: ToolFacts) -> tuple[str, str]:
        """Words for the agent, and what went wrong for the log; empty = nothing."""
        wanted = tool.request(order.parameters)
        max_bytes = tool.result_max_chars * _UTF8_MAX_BYTES + 1
        try:
            answer = await request(
                self._client,
                wanted.method,
                wanted.url,
                headers=self._headers(tool, wanted, facts),
                private_headers=tool.headers,
                body=wanted.body or None,
                limits=RequestLimits(deadline_s=tool.timeout_s, max_answer_bytes=max_bytes, max_redirects=0),
            )
        except EgressRefused as error:
            return FAILED.format(name=tool.name, how="it is not set up correctly"), str(error)
        except EgressFailed as error:
            return FAILED.format(name=tool.name, how=_how(str(error))), str(error)
        return _result(tool, answer, max_bytes)

    def _headers(self, tool: HttpTool, wanted: Request, facts: ToolFacts) -> dict[str, str]:
        headers = {
            CALL_HEADER: facts.call_id,
            CONVERSATION_HEADER: facts.conversation_id,
            TOOL_HEADER: tool.name,
        }
        if wanted.body:
            headers["Content-Type"] = "application/json"
        if "accept" not in {name.lower() for name in tool.headers}:
            headers["Accept"] = "application/json, text/plain;q=0.9, */*;q=0.5"
        if self.options.secret:
            headers[webhook.HEADER] = webhook.sign(self.options.secret, wanted.body, self._unix())
        return headers


def _how(detail: str) -> str:
    """The failure of a request in words for the agent."""
    if detail.startswith(("no answer within", "time-out")):
        return "its server did not answer in time"
    if "redirect" in detail:
        return "its server wants to be asked elsewhere"
    return "its server cannot be reached"


def _result(tool: HttpTool, answer: Answer, max_bytes: int) -> tuple[str, str]:
    if 300 <= answer.status < 400:  # a redirect that says no place
        return FAILED.format(name=tool.name, how=_how("redirect")), f"HTTP {answer.status}"
    if not 200 <= answer.status < 300:
        return FAILED.format(name=tool.name, how=f"its server answered with status {answer.status}"), (
            f"HTTP {answer.status}"
        )
    if answer.truncated and len(answer.body) < max_bytes:
        return FAILED.format(name=tool.name, how="its server broke off in the middle"), "the answer broke off"
    text = answer.body.decode("utf-8", "replace")
    text = "".join(char for char in text if char.isprintable() or char in "\n\t").strip()
    if len(text) > tool.result_max_chars:
        return text[: tool.result_max_chars] + CUT, ""
    return (text + CUT if answer.truncated else text) or EMPTY, ""
