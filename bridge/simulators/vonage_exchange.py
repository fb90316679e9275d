"""The telephone exchange of a simulated Vonage: legs, ringing, media sockets, events, conversations, sound.

It knows no NCCO (``vonage_execution``) and no REST (``vonage_rest``). One clock ticks for all legs, every 20 ms, on an
absolute schedule.

Sources: Vonage "Webhook reference: event webhook", "WebSockets in the Vonage Voice API" (events of media sockets).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from bridge.media.format import FRAME_MS
from bridge.simulators.pump import NO_CLOSE_FRAME
from bridge.simulators.twilio_cloud_media import SILENT_FRAME
from bridge.simulators.twilio_person import Answer, PersonScript
from bridge.simulators.vonage_caller import open_socket, perform
from bridge.simulators.vonage_cloud_options import VonageOptions
from bridge.simulators.vonage_leg import FINAL, MAX_TIMELINE, Conversation, EventTarget, Leg, Status
from bridge.simulators.vonage_ncco import Phone, Sip, WebSocket
from bridge.simulators.vonage_socket import Outgoing, SocketSetup, VonageSocket
from bridge.simulators.vonage_webhooks import WebhookError, Webhooks
from bridge.simulators.vonage_wire import MAX_VIOLATIONS, Violation

CLOSE_S = 3.0
"""How long everything may take to end when the cloud closes."""

_REFUSALS: Final = {
    Answer.BUSY: Status.BUSY,
    Answer.FAILS: Status.FAILED,
    Answer.NO_ANSWER: Status.UNANSWERED,
}


class Exchange:
    """All legs of one application."""

    def __init__(self, options: VonageOptions) -> None:
        self.options = options
        self.people: dict[str, PersonScript] = dict(options.people)
        self.rejecting: set[str] = set(options.rejecting)
        self.legs: dict[str, Leg] = {}
        self.conversations: dict[str, Conversation] = {}
        """Named ones that somebody is in, by name."""
        self.timeline: list[tuple[int, str, str]] = []
        self.violations: list[Violation] = []
        self._started_s = time.monotonic()
        self.webhooks = Webhooks(options, self.now_ms)
        self._tasks: set[asyncio.Task[None]] = set()
        self._events: dict[str, asyncio.Task[bytes]] = {}
        self._ticker: asyncio.Task[None] | None = None

    # --- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick."""
        self._ticker = asyncio.create_task(self._tick())

    async def aclose(self) -> None:
        """End all calls and wait for what they still have to say."""
        for leg in list(self.legs.values()):
            self.end(leg, Status.COMPLETED, "cloud")
        for _ in range(2):  # events follow the end of what they tell of
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=CLOSE_S)
        for task in [*self._tasks, *([self._ticker] if self._ticker else [])]:
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
            for leg in [leg for leg in self.legs.values() if leg.live]:
                leg.speak(due_s)
            for leg in [leg for leg in self.legs.values() if leg.live]:
                leg.listen()

    # --- books -----------------------------------------------------------------------------------------------

    def note(self, leg: Leg, what: str) -> None:
        """Add to the timelines."""
        at_ms = round(self.now_ms())
        if len(leg.timeline) < MAX_TIMELINE:
            leg.timeline.append((at_ms, what))
        if len(self.timeline) < MAX_TIMELINE:
            self.timeline.append((at_ms, leg.uuid, what))

    def violate(self, text: str) -> None:
        """Note what an application did wrong."""
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(Violation(text, round(self.now_ms(), 1)))

    def emit(self, leg: Leg, status: str, **fields: Any) -> asyncio.Task[bytes]:
        """Tell of something that became of a leg; the task gives the answer, empty where there is none.

        The events of one leg go out one after the other.
        """
        default = EventTarget(self.options.event_url, self.options.event_method)
        target = leg.events if leg.events.url else default
        told = {**leg.fields(), "status": status, "timestamp": timestamp(time.time()), **fields}
        task = asyncio.create_task(self._tell(target, told, self._events.get(leg.uuid)))
        self._events[leg.uuid] = task
        self.spawn(_after(task))
        return task

    async def last_event(self, leg: Leg) -> bytes:
        """The answer to the last event of a leg."""
        return await self._events[leg.uuid]

    async def _tell(self, target: EventTarget, fields: Mapping[str, Any], before: asyncio.Task[bytes] | None) -> bytes:
        if before is not None:
            await asyncio.wait({before})
        if not target.url:
            return b""
        try:
            return await self.webhooks.ask(target.method, target.url, fields)
        except WebhookError as error:
            self.violate(f"event webhook: {error}")
            return b""

    # --- legs ------------------------------------------------------------------------------------------------

    def new_leg(
        self,
        endpoint: Phone | Sip | WebSocket,
        *,
        caller: str,
        called: str,
        direction: str,
        events: EventTarget | None = None,
        script: PersonScript | None = None,
    ) -> Leg:
        """A leg that has not rung yet."""
        script = script or self.people.get(called, self.options.default_person)
        leg = Leg(
            endpoint, caller, called, direction, events or EventTarget(), script, lambda what: self.note(leg, what)
        )
        leg.on_hang_up = lambda: self.end(leg, Status.COMPLETED, "person")
        leg.on_key = lambda digit: self._key(leg, digit)
        self.legs[leg.uuid] = leg
        return leg

    def _key(self, leg: Leg, digit: str) -> None:
        """Keys of any party are told to the media sockets in its conversation."""
        for member in leg.conversation.members:
            if member.socket is not None:
                member.socket.send_dtmf(digit)
                member.flush()

    async def ring(self, leg: Leg, timeout_s: float) -> bool:
        """Call whoever it is; True once they answered, False when the leg has ended instead."""
        self.emit(leg, "started")
        if isinstance(leg.endpoint, WebSocket):
            return await self._open(leg, leg.endpoint)
        script = leg.script
        if leg.called in self.rejecting:
            return self._unanswered(leg, Status.REJECTED)
        if script.answer is Answer.FAILS:
            return self._unanswered(leg, Status.FAILED)
        leg.status = Status.RINGING
        self.note(leg, "rings")
        self.emit(leg, "ringing")
        is_late = script.answer is Answer.NO_ANSWER or script.answer_after_ms > timeout_s * 1000
        if await ends_within(leg, timeout_s if is_late else script.answer_after_ms / 1000):
            return False
        if is_late or script.answer is Answer.BUSY:
            return self._unanswered(leg, _REFUSALS.get(script.answer, Status.UNANSWERED))
        self.answer(leg)
        return True

    def answer(self, leg: Leg) -> None:
        """The leg is connected from now on."""
        if leg.over or leg.live:
            return
        leg.status = Status.ANSWERED
        leg.answered_unix_s = time.time()
        if leg.socket is None:
            leg.pick_up()
        leg.answered.set()
        self.note(leg, "answered")
        self.emit(leg, "answered", start_time=None)

    def _unanswered(self, leg: Leg, status: Status) -> bool:
        self.end(leg, status, "person")
        return False

    def end(self, leg: Leg, status: Status, by: str) -> None:
        """End a leg, once, with the media sockets and people that it was connected to."""
        if leg.over:
            return
        assert status in FINAL
        if status is Status.COMPLETED and not leg.live:
            status = Status.CANCELLED
        leg.status, leg.ended_by, leg.ended_unix_s = status, by, time.time()
        leg.out = SILENT_FRAME
        self.note(leg, f"{status.value}, ended by {by}")
        if leg.socket is not None:
            leg.socket.close()
            leg.flush()
        conversation = leg.conversation
        self.emit(leg, status.value, **(_bill(leg) if leg.answered_unix_s else {}))
        self.leave(leg)
        leg.ended.set()
        for other in list(conversation.members):
            if leg.ends_conversation:
                self.end(other, Status.COMPLETED, "conversation")
        task = leg.task
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def cancel_children(self, leg: Leg) -> None:
        """End the legs that this one's ``connect`` made."""
        for other in list(self.legs.values()):
            if other.parent is leg:
                self.end(other, Status.COMPLETED, "connect")

    # --- conversations ---------------------------------------------------------------------------------------

    def join(self, leg: Leg, conversation: Conversation) -> None:
        """Move a leg."""
        before = leg.conversation
        self.leave(leg)
        leg.conversation = conversation
        conversation.members.append(leg)
        if before is not conversation:
            moved = {"conversation_uuid_from": before.uuid, "conversation_uuid_to": conversation.uuid}
            self.emit(leg, "answered", type="transfer", **moved)

    def leave(self, leg: Leg) -> None:
        """Take a leg out of its conversation; whom it had connected to it goes."""
        conversation = leg.conversation
        if leg in conversation.members:
            conversation.members.remove(leg)
        if not conversation.members:
            self.conversations.pop(conversation.name, None)
        leg.left.set()
        leg.left = asyncio.Event()
        self.cancel_children(leg)

    # --- media sockets ---------------------------------------------------------------------------------------

    async def _open(self, leg: Leg, endpoint: WebSocket) -> bool:
        """Open a leg's media socket; False when there is none."""
        how = endpoint.authorization
        headers: dict[str, str] = {}
        if how is not None:
            headers = {"Authorization": how.value} if how.value else self.webhooks.upgrade_headers()
        try:
            connection = await open_socket(self.webhooks.reach(endpoint.uri), headers)
        except (InvalidStatus, InvalidHandshake, OSError, TimeoutError) as error:
            self.note(leg, f"no media socket: {type(error).__name__}")
            return self._unanswered(leg, Status.FAILED)
        if leg.over:
            await connection.close()
            return False
        setup = SocketSetup(
            rate_hz=endpoint.rate_hz,
            headers=endpoint.headers,
            echo_cleared=self.options.echo_cleared,
            nested_dtmf=self.options.nested_dtmf,
        )
        leg.attach(VonageSocket(setup, time.monotonic()))
        self.spawn(self._serve(leg, connection))
        self.answer(leg)
        return True

    async def _serve(self, leg: Leg, connection: ClientConnection) -> None:
        socket = leg.socket
        assert socket is not None
        outbox: asyncio.Queue[Outgoing] = asyncio.Queue()

        def flush() -> None:
            for action in socket.drain():
                outbox.put_nowait(action)

        leg.flush = flush
        flush()
        writer = asyncio.create_task(_write(connection, outbox))
        try:
            async for message in connection:
                seen = len(socket.violations)
                socket.receive(message, time.monotonic())
                for violation in socket.violations[seen:]:
                    self.violate(f"media socket: {violation.text}")
                flush()
        except ConnectionClosed:
            pass
        finally:
            writer.cancel()
            await asyncio.wait({writer})
        was_over, code = socket.over, connection.close_code or NO_CLOSE_FRAME
        socket.connection_lost()
        self.note(leg, f"media socket closed with {code}")
        if not leg.over:
            self.end(leg, Status.DISCONNECTED, "violation" if was_over else "bridge")


async def _write(connection: ClientConnection, outbox: asyncio.Queue[Outgoing]) -> None:
    try:
        while True:
            await perform(connection, await outbox.get())
    except ConnectionClosed:
        pass


async def _after(task: asyncio.Task[bytes]) -> None:
    await asyncio.wait({task})


def _bill(leg: Leg) -> dict[str, str]:
    seconds = max(1, round(leg.ended_unix_s - leg.answered_unix_s))
    return {
        "duration": str(seconds),
        "rate": "0.00450000",
        "price": f"{0.0045 * seconds / 60:.8f}",
        "network": "US-FIXED",
        "start_time": timestamp(leg.answered_unix_s),
        "end_time": timestamp(leg.ended_unix_s),
    }


def timestamp(unix_s: float) -> str:
    """A time as Vonage writes it."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


async def ends_within(leg: Leg, seconds: float | None) -> bool:
    """Wait, unless the leg ends before."""
    try:
        await asyncio.wait_for(leg.ended.wait(), seconds)
    except TimeoutError:
        return False
    return True
