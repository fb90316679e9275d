"""A browser as the console's streams see it."""

from __future__ import annotations

import asyncio
from typing import Any


class Browser:
    """The other end of an event stream."""

    def __init__(self) -> None:
        self.said = b""
        self.is_gone = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.started: dict[bytes, bytes] = {}
        self.is_over = False

    async def receive(self) -> dict[str, Any]:
        await self.is_gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.started = dict(message["headers"])
        else:
            self.said += message["body"]
            self.is_over = not message["more_body"]

    @property
    def events(self) -> list[str]:
        return [event for event in self.said.decode().split("\n\n") if event]
