"""A whole Vonage on this machine: REST interface, NCCO, ringing, machines, conversations, media sockets, webhooks.

As strict as the real one where that is known, stricter where it keeps quiet: whatever an application does wrong is a
violation. The parts: ``vonage_exchange`` (legs and sound), ``vonage_execution`` (NCCO), ``vonage_rest`` (interface).

Point a bridge's VONAGE_API_BASE_URL, or the client of a test, at ``base_url``.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bridge.simulators.twilio_person import PersonScript
from bridge.simulators.vonage_calls import VonageCalls
from bridge.simulators.vonage_cloud_options import Fault, VonageOptions
from bridge.simulators.vonage_http import RestServer
from bridge.simulators.vonage_leg import Leg
from bridge.simulators.vonage_rest import RestApi
from bridge.simulators.vonage_webhooks import WebhookRecord
from bridge.simulators.vonage_wire import Violation

POLL_S = 0.01
"""How often a condition is looked at that a test waits for."""

WAIT_S = 10.0
"""How long a test waits for a condition unless it says otherwise."""


class VonageCloud(VonageCalls):
    """One application's Vonage. Use ``running_vonage``; calls come with ``incoming`` or over REST."""

    def __init__(self, options: VonageOptions) -> None:
        super().__init__(options)
        self._server = RestServer(RestApi(self))
        self._port = 0

    async def start(self) -> None:
        """Listen. Raises ``OSError``."""
        self._port = await self._server.start(self.options.host, self.options.port)
        if self.options.region_url is None:
            self.options = dataclasses.replace(self.options, region_url=self.base_url)
            self.exchange.options = self.options
        self.exchange.start()

    async def aclose(self) -> None:
        """End all calls, tell it, and stop listening."""
        await self.exchange.aclose()
        await self._server.aclose()

    @property
    def base_url(self) -> str:
        """What stands for ``https://api.nexmo.com``."""
        return f"http://{self.options.host}:{self._port}"

    # --- what is there ---------------------------------------------------------------------------------------

    @property
    def people(self) -> dict[str, PersonScript]:
        """Who answers, by number or SIP URI; may be changed at any time."""
        return self.exchange.people

    @property
    def calls(self) -> list[Leg]:
        """All legs so far, oldest first."""
        return list(self.exchange.legs.values())

    @property
    def faults(self) -> list[Fault]:
        """What the REST interface does wrong; may be filled at any time."""
        return self._server.faults

    @property
    def rest_requests(self) -> list[tuple[str, str, int]]:
        """Method, path and status of every REST request; status 0 = dropped."""
        return self._server.requests

    @property
    def webhooks(self) -> list[WebhookRecord]:
        """All requests made to the bridge, in order of their end."""
        return self.exchange.webhooks.records

    @property
    def violations(self) -> list[Violation]:
        """Everything that an application did wrong."""
        return self.exchange.violations

    @property
    def timeline(self) -> list[tuple[int, str, str]]:
        """Ms since the start, leg, what happened."""
        return self.exchange.timeline

    def call_to(self, called: str) -> Leg | None:
        """The latest leg to somebody."""
        return next((leg for leg in reversed(self.calls) if leg.called == called), None)

    def media_leg(self) -> Leg | None:
        """The latest leg that is a media socket."""
        return next((leg for leg in reversed(self.calls) if leg.socket is not None), None)

    # --- waiting ---------------------------------------------------------------------------------------------

    async def wait_until(self, condition: Callable[[], object], timeout_s: float = WAIT_S) -> None:
        """Wait for anything. Raises ``TimeoutError``."""
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - conditions are about many things, none of which tells
                await asyncio.sleep(POLL_S)

    async def wait_for_call_to(self, called: str, timeout_s: float = WAIT_S) -> Leg:
        """Wait until somebody is called."""
        await self.wait_until(lambda: self.call_to(called), timeout_s)
        leg = self.call_to(called)
        assert leg is not None
        return leg

    async def wait_for_media(self, timeout_s: float = WAIT_S) -> Leg:
        """Wait until a media socket is open."""
        await self.wait_until(self.media_leg, timeout_s)
        leg = self.media_leg()
        assert leg is not None
        return leg

    async def wait_ended(self, leg: Leg, timeout_s: float = WAIT_S) -> None:
        """Wait until a leg is over."""
        async with asyncio.timeout(timeout_s):
            await leg.ended.wait()

    async def wait_for_webhook(self, path: str, timeout_s: float = WAIT_S, **fields: str) -> WebhookRecord:
        """Wait for a request to a path whose fields have these values."""

        def found() -> WebhookRecord | None:
            return next((r for r in self.webhooks if r.path == path and fields.items() <= r.fields.items()), None)

        await self.wait_until(found, timeout_s)
        record = found()
        assert record is not None
        return record


@asynccontextmanager
async def running_vonage(options: VonageOptions | None = None) -> AsyncIterator[VonageCloud]:
    """A Vonage that runs while the block does."""
    cloud = VonageCloud(options or VonageOptions())
    await cloud.start()
    try:
        yield cloud
    finally:
        await cloud.aclose()
