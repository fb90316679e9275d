"""What the agent's side made of a conversation: its data collection results, fetched after the end.

The results are not on the agent's socket; they stand in the conversation's details once its analysis is done, a
moment after the end. So they are polled for, with a bound: carriers that take results (Genesys) wait on the line.

Source: ElevenLabs API reference, "Get Conversation Details" (read 2026-11-21).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from bridge.config import Settings
from bridge.server.logs import get_logger

POLL_S = 0.4
"""Between the first two questions: an analysis takes a second or two, and somebody may wait on the line."""
POLL_GROWTH = 1.5
POLL_MOST_S = 5.0
"""The pauses grow up to this: the vendor counts requests."""

MAX_RESULTS = 100
"""Results taken; carriers have limits of their own, and an agent collects a dozen."""

MAX_RESULT_CHARS = 2_000
"""Of one result; longer ones are cut."""

MAX_BODY_BYTES = 8 * 1024 * 1024
"""The details hold the whole transcript."""


class _Analysis(msgspec.Struct):
    data_collection_results: dict[str, dict[str, Any]] = {}


class _Details(msgspec.Struct):
    status: str
    analysis: _Analysis | None = None


@dataclass(frozen=True, slots=True)
class ResultsClient:
    """Fetches conversations' results with the operator's key."""

    settings: Settings
    http: httpx.AsyncClient

    async def fetch(self, conversation_id: str, wait_s: float) -> dict[str, str]:
        """The results by name, as texts; what is known after ``wait_s`` seconds, perhaps nothing. Never raises."""
        found: dict[str, str] = {}
        pause_s, trouble = POLL_S, ""
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    details = await self._details(conversation_id)
                    if isinstance(details, str):
                        trouble = details
                    else:
                        trouble, found = "", _texts(details.analysis)
                        if details.status in ("done", "failed"):
                            return found
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * POLL_GROWTH, POLL_MOST_S)
        except TimeoutError:
            get_logger().warning(
                "results_unknown", conversation_id=conversation_id, detail=trouble or "the analysis is not done"
            )
            return found

    async def _details(self, conversation_id: str) -> _Details | str:
        """The conversation's details, or why there are none."""
        key = self.settings.elevenlabs_api_key
        headers = {} if key is None else {"xi-api-key": key.get_secret_value()}
        url = f"{self.settings.elevenlabs_base_url}/v1/convai/conversations/{quote(conversation_id, safe='')}"
        try:
            response = await self.http.get(url, headers=headers)
        except httpx.HTTPError as error:
            return type(error).__name__
        if response.status_code != 200:
            return f"HTTP {response.status_code}"
        if len(response.content) > MAX_BODY_BYTES:
            return f"more than {MAX_BODY_BYTES} bytes"
        try:
            return msgspec.json.decode(response.content, type=_Details)
        except msgspec.DecodeError:
            return "the answer cannot be read"


def _texts(analysis: _Analysis | None) -> dict[str, str]:
    """Every result that has a value, as text: true/false and numbers as JSON writes them."""
    texts: dict[str, str] = {}
    for name, result in (analysis.data_collection_results if analysis is not None else {}).items():
        value = result.get("value")
        if value is None or len(texts) >= MAX_RESULTS:
            continue
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        texts[name] = text[:MAX_RESULT_CHARS]
    return texts
