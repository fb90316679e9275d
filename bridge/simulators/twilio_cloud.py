"""A whole Twilio on this machine: REST interface, TwiML, ringing, answering machines, conferences, media streams.

As strict as the real one where that is known, stricter where it only warns: everything that Twilio's debugger would
show is a violation of the result. The parts: ``twilio_exchange`` (legs and sound), ``twilio_execution`` and
``twilio_dial`` (TwiML), ``twilio_conference``, ``twilio_rest`` (interface), ``twilio_person`` (whoever answers).

Point a bridge's TWILIO_API_BASE_URL, or the client of a test, at ``base_url``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bridge.media.format import ULAW_8K
from bridge.simulators.speech import write_stereo_wav
from bridge.simulators.twilio_cloud_calls import CloudCalls
from bridge.simulators.twilio_cloud_http import RestServer
from bridge.simulators.twilio_cloud_options import CloudOptions, Fault
from bridge.simulators.twilio_conference import Conference
from bridge.simulators.twilio_leg import Leg
from bridge.simulators.twilio_person import PersonScript
from bridge.simulators.twilio_protocol import Violation
from bridge.simulators.twilio_rest import RestApi
from bridge.simulators.twilio_webhooks import WebhookRecord

POLL_S = 0.01
"""How often a condition is looked at that a test waits for."""

WAIT_S = 10.0
"""How long a test waits for a condition unless it says otherwise."""


class TwilioCloud(CloudCalls):
    """One account's Twilio. Use ``running_cloud``; calls come with ``incoming`` or over REST."""

    def __init__(self, options: CloudOptions) -> None:
        super().__init__(options)
        self._server = RestServer(RestApi(options, self))
        self._port = 0

    async def start(self) -> None:
        """Listen. Raises ``OSError``."""
        self._port = await self._server.start(self.options.host, self.options.port)
        self.exchange.start()

    async def aclose(self) -> None:
        """End all calls, tell it, and stop listening."""
        await self.exchange.aclose()
        await self._server.aclose()

    @property
    def base_url(self) -> str:
        """What stands for ``https://api.twilio.com``."""
        return f"http://{self.options.host}:{self._port}"

    # --- what is there ---------------------------------------------------------------------------------------

    @property
    def people(self) -> dict[str, PersonScript]:
        """Who answers, by number; may be changed at any time."""
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
        """Everything that Twilio's debugger would show."""
        return self.exchange.violations

    @property
    def timeline(self) -> list[tuple[int, str, str]]:
        """Ms since the start, call, what happened."""
        return self.exchange.timeline

    def conference(self, name_or_sid: str) -> Conference | None:
        """A conference by id, or by the name of one that goes on."""
        return self.conferences.find(name_or_sid)

    def call_to(self, called: str) -> Leg | None:
        """The latest leg to somebody."""
        return next((leg for leg in reversed(self.calls) if leg.facts.called == called), None)

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

    async def wait_ended(self, leg: Leg, timeout_s: float = WAIT_S) -> None:
        """Wait until a call is over."""
        async with asyncio.timeout(timeout_s):
            await leg.ended.wait()

    async def wait_for_webhook(self, path: str, timeout_s: float = WAIT_S, **fields: str) -> WebhookRecord:
        """Wait for a request to a path whose fields have these values."""

        def found() -> WebhookRecord | None:
            return next((r for r in self.webhooks if r.path == path and fields.items() <= r.form.items()), None)

        await self.wait_until(found, timeout_s)
        record = found()
        assert record is not None
        return record


@asynccontextmanager
async def running_cloud(options: CloudOptions | None = None) -> AsyncIterator[TwilioCloud]:
    """A cloud that runs while the block does."""
    cloud = TwilioCloud(options or CloudOptions())
    await cloud.start()
    try:
        yield cloud
    finally:
        await cloud.aclose()


# --- for the command line --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudRun:
    """One run of the cloud: a call comes in (``voice``), or the bridge's own calls are waited for."""

    cloud: CloudOptions = field(default_factory=CloudOptions)
    voice: str = ""
    """Answer webhook that the call goes to; empty = nobody calls, the bridge does."""
    status: str = ""
    """Status callback of the number that is called."""
    caller: str = "+15550100"
    person: PersonScript = field(default_factory=PersonScript)
    """Who calls; who answers is in ``cloud.people``."""
    max_duration_s: float = 120.0
    recording: Path | None = None
    """Where to write a stereo WAV of the first call: its person left, what they heard right."""


@dataclass(frozen=True, slots=True)
class CloudResult:
    """What came of a run."""

    calls: tuple[Leg, ...]
    violations: tuple[Violation, ...]
    timeline: tuple[tuple[int, str, str], ...]
    webhooks: tuple[str, ...]
    rest_requests: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Everything but the audio, as JSON values."""
        return {
            "calls": [_leg_json(leg) for leg in self.calls],
            "violations": [asdict(violation) for violation in self.violations],
            "timeline": [list(entry) for entry in self.timeline],
            "webhooks": list(self.webhooks),
            "rest_requests": list(self.rest_requests),
        }


async def run_cloud(run: CloudRun, on_ready: Callable[[TwilioCloud], None] | None = None) -> CloudResult:
    """Run a cloud until the incoming call and all that came of it are over, or the time is up.

    Without ``voice`` it runs until the first calls that the bridge places have ended. Raises ``OSError`` where it
    cannot listen.
    """
    async with running_cloud(run.cloud) as cloud:
        if on_ready is not None:
            on_ready(cloud)
        if run.voice:
            called = run.cloud.numbers[0]
            cloud.incoming(run.caller, called, run.voice, run.person, status_url=run.status)
        with suppress(TimeoutError):  # then the cloud hangs up for all when it closes
            await cloud.wait_until(lambda: cloud.calls and all(leg.over for leg in cloud.calls), run.max_duration_s)
    if run.recording is not None and cloud.calls:
        first = cloud.calls[0]
        await asyncio.to_thread(write_stereo_wav, run.recording, first.said, first.heard)
    return CloudResult(
        tuple(cloud.calls),
        tuple(cloud.violations),
        tuple(cloud.timeline),
        tuple(f"{record.method} {record.path} {record.status}" for record in cloud.webhooks),
        tuple(f"{method} {path} {status}" for method, path, status in cloud.rest_requests),
    )


def _leg_json(leg: Leg) -> dict[str, object]:
    return {
        "call_sid": leg.sid,
        "from": leg.facts.caller,
        "to": leg.facts.called,
        "direction": leg.facts.direction,
        "status": leg.status.value,
        "ended_by": leg.ended_by,
        "answered_by": leg.answered_by,
        "stream_sids": [stream.stream_sid for stream in leg.streams],
        "verbs": leg.verbs,
        "words": leg.words,
        "heard_ms": ULAW_8K.duration_ms(len(leg.heard)),
        "timeline": [list(entry) for entry in leg.timeline],
    }
