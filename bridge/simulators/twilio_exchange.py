"""The telephone exchange of the simulated Twilio cloud: legs, ringing, answering, ending, machine detection, sound.

It knows no TwiML (``twilio_execution``) and no REST (``twilio_rest``). One clock ticks for all legs, every 20 ms, on
an absolute schedule.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass

from bridge.media.format import FRAME_MS
from bridge.simulators.twilio_cloud_media import SILENT_FRAME
from bridge.simulators.twilio_cloud_options import CloudOptions
from bridge.simulators.twilio_leg import FINAL, MAX_TIMELINE, CallStatus, Leg, LegFacts
from bridge.simulators.twilio_person import Answer, PersonScript
from bridge.simulators.twilio_protocol import MAX_VIOLATIONS, Violation
from bridge.simulators.twilio_status import CallbackTarget, StatusCallbacks
from bridge.simulators.twilio_webhooks import CALLBACK_FAILURE, WebhookError, Webhooks

SETUP_S = 0.02
"""From placing a call to the first ring."""

CLOSE_S = 3.0
"""How long everything may take to end when the cloud closes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineDetection:
    """Whether it is found out who answers."""

    message_end: bool = False
    """``DetectMessageEnd`` rather than ``Enable``."""
    timeout_s: float = 30.0
    beside: bool = False
    """The call goes on meanwhile (``AsyncAmd``) rather than wait for the verdict."""
    callback_url: str = ""
    """Where the verdict is told then; empty = nowhere."""
    callback_method: str = "POST"


class Exchange:
    """All legs of one account."""

    def __init__(self, options: CloudOptions) -> None:
        self.options = options
        self.people: dict[str, PersonScript] = dict(options.people)
        self.legs: dict[str, Leg] = {}
        self.timeline: list[tuple[int, str, str]] = []
        """Ms since the start, call, what happened."""
        self.violations: list[Violation] = []
        """What Twilio's debugger would show, of all calls."""
        self._started_s = time.monotonic()
        self.webhooks = Webhooks(options, self.now_ms)
        self._callbacks: dict[str, StatusCallbacks] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.Task[None] | None = None

    # --- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick."""
        self._ticker = asyncio.create_task(self._tick())

    async def aclose(self) -> None:
        """End all calls and wait for what they still have to say."""
        for leg in list(self.legs.values()):
            self.end(leg, CallStatus.COMPLETED, "cloud")
        pending = {leg.task for leg in self.legs.values() if leg.task is not None}
        for _ in range(2):  # callbacks follow the end of what they tell of
            if waiting := pending | self._tasks:
                await asyncio.wait(waiting, timeout=CLOSE_S)
        leftover = [task for task in pending | self._tasks if not task.done()]
        for task in [*leftover, *([self._ticker] if self._ticker else [])]:
            task.cancel()
            await asyncio.wait({task})
        await self.webhooks.aclose()

    def now_ms(self) -> float:
        """Since the start."""
        return (time.monotonic() - self._started_s) * 1000

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Do something beside everything else."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _tick(self) -> None:
        ticks, began_s = 0, time.monotonic()
        while True:
            ticks += 1
            due_s = began_s + ticks * FRAME_MS / 1000
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            live = [leg for leg in self.legs.values() if leg.live]
            for leg in live:
                leg.speak()
            for leg in live:
                leg.listen(due_s)

    # --- books -----------------------------------------------------------------------------------------------

    def note(self, leg: Leg, what: str) -> None:
        """Add to the timelines."""
        at_ms = round(self.now_ms())
        if len(leg.timeline) < MAX_TIMELINE:
            leg.timeline.append((at_ms, what))
        if len(self.timeline) < MAX_TIMELINE:
            self.timeline.append((at_ms, leg.sid, what))

    def violate(self, leg: Leg | None, code: int, text: str) -> None:
        """Note what Twilio's debugger would show."""
        violation = Violation(code, text, round(self.now_ms(), 1))
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(violation)
            if leg is not None:
                leg.violations.append(violation)

    async def post(self, method: str, url: str, fields: Mapping[str, str]) -> None:
        """Tell a callback; nobody waits for its answer."""
        try:
            await self.webhooks.fetch(method, url, fields)
        except WebhookError as error:
            self.violate(self.legs.get(fields.get("CallSid", "")), CALLBACK_FAILURE, error.text)

    # --- legs ------------------------------------------------------------------------------------------------

    def script(self, called: str) -> PersonScript:
        """Who is at a number."""
        return self.people.get(called.partition(";")[0].partition("?")[0], self.options.default_person)

    def new_leg(self, facts: LegFacts, script: PersonScript, callbacks: CallbackTarget | None) -> Leg:
        """A leg that has not rung yet."""
        leg = Leg(facts, script, lambda what: self.note(leg, what))
        leg.created_unix_s = time.time()
        leg.hang_up = lambda: self.end(leg, CallStatus.COMPLETED, "person")
        self.legs[leg.sid] = leg
        options = self.options
        self._callbacks[leg.sid] = StatusCallbacks(
            callbacks,
            self.post,
            self.spawn,
            reorder_ms=options.callback_reorder_ms,
            twice=options.duplicate_callbacks,
        )
        return leg

    def _emit(self, leg: Leg, event: str, **fields: str) -> None:
        self._callbacks[leg.sid].emit(event, leg.fields() | fields, time.time())

    async def ring(self, leg: Leg, timeout_s: float) -> bool:
        """Ring the person; True once they answered, False when the leg has ended instead."""
        script = leg.script
        leg.status = CallStatus.INITIATED
        self._emit(leg, "initiated")
        if await self.ends_within(leg, SETUP_S):
            return False
        if script.answer is Answer.FAILS:
            return self._unanswered(leg, CallStatus.FAILED)
        leg.status = CallStatus.RINGING
        self.note(leg, "rings")
        self._emit(leg, "ringing")
        limit_s = timeout_s + self.options.ring_extra_s
        if script.answer is Answer.NO_ANSWER or script.answer_after_ms > limit_s * 1000:
            return not await self.ends_within(leg, limit_s) and self._unanswered(leg, CallStatus.NO_ANSWER)
        if await self.ends_within(leg, script.answer_after_ms / 1000):
            return False
        if script.answer is Answer.BUSY:
            return self._unanswered(leg, CallStatus.BUSY)
        self.answer(leg)
        return True

    def _unanswered(self, leg: Leg, status: CallStatus) -> bool:
        leg.sip_code = leg.script.sip_code
        self.end(leg, status, "person")
        return False

    def answer(self, leg: Leg) -> None:
        """The leg is connected from now on."""
        if leg.over or leg.live:
            return
        leg.status = CallStatus.IN_PROGRESS
        leg.answered_unix_s = time.time()
        leg.pick_up()
        leg.answered.set()
        self.note(leg, "answered")
        self._emit(leg, "answered")

    def end(self, leg: Leg, status: CallStatus, by: str) -> None:
        """End a leg, once; whatever carries out its TwiML is told by cancellation."""
        if leg.over:
            return
        if status is CallStatus.COMPLETED and not leg.live:  # one that was never answered
            status = CallStatus.NO_ANSWER if by == "person" else CallStatus.CANCELED
            leg.sip_code = 487
        assert status in FINAL
        leg.status, leg.ended_by = status, by
        leg.ended_unix_s = time.time()
        leg.out = SILENT_FRAME
        self.note(leg, f"{status.value}, ended by {by}")
        seconds = leg.duration_s
        self._emit(
            leg,
            "completed",
            CallDuration=str(seconds),
            Duration=str(-(-seconds // 60)),
            SipResponseCode=str(leg.sip_code),
        )
        leg.ended.set()
        task = leg.task
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def ends_within(self, leg: Leg, seconds: float) -> bool:
        """Wait, unless the leg ends before."""
        return await first_of((leg.ended,), seconds) is not None

    # --- who answered ----------------------------------------------------------------------------------------

    async def detect_machine(self, leg: Leg, detection: MachineDetection) -> None:
        """Find out who answered, and tell it where that is wanted."""
        verdict, after_ms = leg.script.detect(message_end=detection.message_end)
        if after_ms > detection.timeout_s * 1000:
            verdict, after_ms = "unknown", detection.timeout_s * 1000
        if await self.ends_within(leg, after_ms / 1000):
            return
        leg.machine_detection_ms = round(after_ms)
        leg.answered_by, leg.tells_answered_by = verdict, not detection.beside
        self.note(leg, f"machine detection says {verdict}")
        if detection.callback_url:
            fields = {
                "CallSid": leg.sid,
                "AccountSid": leg.facts.account_sid,
                "AnsweredBy": verdict,
                "MachineDetectionDuration": str(leg.machine_detection_ms),
            }
            await self.post(detection.callback_method, detection.callback_url, fields)


async def first_of(events: tuple[asyncio.Event, ...], timeout_s: float | None = None) -> int | None:
    """Wait for the first of several events; its place, or None when the time is up."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return next((i for i, event in enumerate(events) if event.is_set()), None)
    finally:
        for wait in waits:
            wait.cancel()
