"""One phone call: a carrier leg joined to an agent conversation.

Sans-I/O like its two halves. The driver (``bridge.server.session``) feeds it what the sockets and the clock
say, and afterwards writes ``leg.drain()``, ``conversation.drain()`` and carries out ``drain()``, all in one
synchronous step. Caller audio therefore goes from one socket's callback to the other socket's send without a
queue or a task switch; agent audio goes through ``Playout`` first, which knows when the carrier may have it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import assert_never

from bridge import events, outcome
from bridge.calls.effects import AskAdmission, ConnectAgent, Effect, Finished, Note
from bridge.calls.state import Input, State, advance
from bridge.calls.stats import CallStats
from bridge.convai import events as agent
from bridge.convai.messages import AUDIO_HEAD, AUDIO_TAIL, InitiationData
from bridge.convai.protocol import Conversation
from bridge.convai.upload import NO_SIZES
from bridge.events import CallInfo
from bridge.leg import CarrierSpec, Leg
from bridge.media.backlog import Backlog
from bridge.media.format import FRAME_MS, MediaFormat
from bridge.media.playout import Playout
from bridge.media.transcode import Transcoder
from bridge.outcome import EndReason, Result

DRAIN_GRACE_S = 1.0
"""How much longer than the queued audio lasts a good-bye may take until the carrier has confirmed it: a network
round trip and the carrier's own jitter. After that the call is hung up all the same."""

NO_TOOLS = (
    "The tool {name!r} is not available on this phone line. Tell the caller that this cannot be done right now "
    "and go on with the conversation."
)
"""The answer to a client tool call: it reads like an instruction because the agent's model reads it."""


_ACTIVE = State.ACTIVE
"""For the media path: looking a member up in its enum costs as much as a method call in Python 3.11."""


@dataclass(frozen=True, slots=True)
class CallOptions:
    """The operator's settings that a call needs."""

    caller_buffer_ms: int
    """Caller audio held while the agent connects; the oldest goes first."""
    playout_queue_ms: int
    """Agent audio held at most."""


class Call:
    """The join of a leg and a conversation. Methods take ``now`` in seconds on a monotonic clock."""

    __slots__ = (
        "_agent_end",
        "_carrier_writable",
        "_downlink",
        "_downlink_is_identity",
        "_drain_deadline",
        "_effects",
        "_frame_bytes",
        "_held",
        "_last_mark",
        "_media",
        "_options",
        "_playout",
        "_spec",
        "_uplink",
        "_uplink_is_identity",
        "conversation",
        "conversation_id",
        "flushed",
        "history",
        "info",
        "leg",
        "state",
        "stats",
    )

    def __init__(self, leg: Leg, spec: CarrierSpec, options: CallOptions, conversation: Conversation) -> None:
        self.leg = leg
        self.conversation = conversation
        self.state = State.WAITING
        self.history: list[tuple[float, State]] = []
        """When the call came into which state; at most one entry a state."""
        self.stats = CallStats()
        self.info: CallInfo | None = None
        """What the carrier said of the call; None until it was offered."""
        self.conversation_id = ""
        """The agent side's id of the conversation, once it has begun."""
        self.flushed = False
        """Set when a ``Flush`` was sent; the driver resets it, to time the reaction."""
        self._spec = spec
        self._options = options
        self._media: MediaFormat | None = None  # the leg's format, once accepted
        self._held: Backlog | None = None  # caller audio, from the offer until the agent is ready
        self._uplink: Transcoder | None = None
        self._uplink_is_identity = False
        self._downlink: Transcoder | None = None
        self._downlink_is_identity = False
        self._playout: Playout | None = None
        self._carrier_writable = True
        self._drain_deadline = math.inf
        self._last_mark = ""  # the mark whose return ends DRAINING
        self._agent_end: tuple[EndReason, str] = (outcome.AGENT_HANGUP, "")
        self._effects: list[Effect] = []

    # --- the carrier's side ---

    def carrier_message(self, message: str | bytes, now: float) -> None:
        """One message from the carrier's socket, of whatever kind."""
        self._on_leg_events(self.leg.receive(message, now), now)

    def relay_to_agent(self, message: str | bytes, now: float) -> str | None:
        """The short cut for caller audio while the agent listens: the message for the agent.

        None = not taken, and nothing has happened: use ``carrier_message``. Empty = taken, but look into
        ``conversation.drain()``. Nothing else has to be written, and no timer has come closer.
        """
        uplink = self._uplink
        if uplink is None:
            return None
        payload = self.leg.read_audio(message, now)
        if payload is None:
            return None
        self.stats.caller_frames += 1
        if not self._uplink_is_identity:
            payload = uplink.process(payload)
        relayed = self.conversation.audio_message(payload)
        if relayed is None:
            self.conversation.send_audio(payload)
            self._sync_relay()
            return ""
        return relayed

    def carrier_lost(self, code: int, now: float) -> None:
        """The carrier's socket is gone."""
        self._on_leg_events(self.leg.connection_lost(code, now), now)

    def set_carrier_writable(self, writable: bool, now: float) -> None:
        """The transport's word whether the carrier's socket takes more; agent audio waits here while it does not."""
        self._carrier_writable = writable
        self._release(now)

    def set_agent_writable(self, writable: bool) -> None:
        """The transport's word whether the agent's socket takes more; caller audio is held while it does not."""
        self.conversation.set_writable(writable)
        self._sync_relay()

    # --- decisions that the driver fetched ---

    def admit(self, now: float) -> None:
        """There is a slot and the token is genuine: accept the leg and have the agent connected."""
        if self._move(Input.ADMITTED, now) is State.ENDED:
            return
        assert self.info is not None and self._media is not None
        self.leg.send(events.Accept(self._media), now)
        self._effects.append(ConnectAgent(self.info))

    def refuse(self, reason: EndReason, detail: str, now: float) -> None:
        """No slot, or no genuine token."""
        self._end(Input.REFUSED, reason, detail, now)

    # --- the agent's side ---

    def agent_connected(self, data: InitiationData, now: float) -> None:
        """The agent's socket is open."""
        self.conversation.start(data, now)

    def agent_message(self, message: str | bytes, now: float) -> None:
        """One message from the agent's socket, of whatever kind."""
        for event in self.conversation.receive(message, now):
            self._on_agent(event, now)

    def relay_to_caller(self, message: str | bytes, now: float) -> str | bytes | None:
        """The short cut for agent audio: the message for the carrier.

        None = not taken, and nothing has happened: use ``agent_message``. Empty = taken, but look into
        ``leg.drain()``. Nothing else has to be written, and of all timers only ``playout_timer`` may have come
        closer.
        """
        playout, downlink = self._playout, self._downlink
        if playout is None or downlink is None or self.state is not _ACTIVE:
            return None
        payload = self.conversation.read_audio(message, now)
        if payload is None:
            return None
        self.stats.agent_messages += 1
        if not self._downlink_is_identity:
            payload = downlink.process(payload)
        if self._carrier_writable and playout.pass_through(payload, now):
            self.stats.agent_frames += len(payload) // self._frame_bytes
            relayed = self.leg.audio_message(payload)
            if relayed is not None:
                return relayed
            self.leg.send(events.Play(payload), now)
            return ""
        playout.write(payload, now)
        self._release(now)
        return ""

    def agent_lost(self, code: int, words: str, now: float) -> None:
        """The agent's socket is gone."""
        for event in self.conversation.connection_lost(code, words):
            self._on_agent(event, now)

    def fail(self, reason: EndReason, detail: str, now: float) -> None:
        """End the call from our side, whatever it is doing."""
        self._end(Input.FAILED, reason, detail, now)

    # --- time and output ---

    def next_timer(self) -> float:
        """When ``handle_timer`` wants to be called (may be too early, never too late)."""
        if self.state is State.ENDED:
            return math.inf
        others = min(self.leg.next_timer(), self.conversation.next_timer(), self._drain_deadline)
        return min(others, self.playout_timer())

    def playout_timer(self) -> float:
        """The part of ``next_timer`` that agent audio can bring closer."""
        if self._playout is None or not self._carrier_writable:
            return math.inf
        return self._playout.next_timer()

    def handle_timer(self, now: float) -> None:
        """Let time pass."""
        self._on_leg_events(self.leg.handle_timer(now), now)
        for event in self.conversation.handle_timer(now):
            self._on_agent(event, now)
        self._release(now)
        if now >= self._drain_deadline:
            self._played_out("the carrier did not confirm the end of the good-bye in time", now)

    def current_stats(self) -> CallStats:
        """The counters as they stand now; ``stats`` itself is complete only at the end."""
        stats, conversation, playout = self.stats, self.conversation, self._playout
        stats.caller_frames += self.leg.relayed
        self.leg.relayed = 0
        stats.stale_audio_bytes = conversation.stale_audio_bytes
        stats.unknown_messages = sum(conversation.unknown_types.values())
        stats.malformed_messages = conversation.malformed
        stats.upload_dropped_bytes = conversation.dropped_audio_bytes
        if playout is not None and self._media is not None:
            stats.agent_dropped_ms = self._media.duration_ms(playout.dropped_bytes)
            stats.agent_flushed_ms = self._media.duration_ms(playout.flushed_bytes)
            stats.heard_ms, stats.gaps = playout.confirmed_ms, playout.gaps
        return stats

    def drain(self) -> list[Effect]:
        """Take what the driver has to do besides writing, in order."""
        effects, self._effects = self._effects, []
        return effects

    # --- caller audio ---

    def _on_caller_audio(self, payload: bytes) -> None:
        self.stats.caller_frames += 1
        if self._uplink is None:
            self._hold(payload)
        else:
            self.conversation.send_audio(self._uplink.process(payload))
            self._sync_relay()

    def _sync_relay(self) -> None:
        """Tell the leg which caller audio may pass it straight to the agent: what needs no conversion, at once."""
        sizes = self.conversation.direct_sizes if self._uplink_is_identity else NO_SIZES
        self.leg.set_relay(AUDIO_HEAD, AUDIO_TAIL, sizes)

    def _hold(self, payload: bytes) -> None:
        """Keep caller audio until the agent is ready, the oldest going first when it takes too long."""
        if self._held is not None and self._media is not None:
            self.stats.caller_dropped_ms += self._media.duration_ms(self._held.push(payload))

    # --- agent audio to the caller ---

    def _on_agent_audio(self, payload: bytes, now: float) -> None:
        self.stats.agent_messages += 1
        if self._playout is None or self._downlink is None or self.state is not _ACTIVE:
            return
        self._playout.write(self._downlink.process(payload), now)
        self._release(now)

    def _release(self, now: float) -> None:
        """Give the leg what may go out now."""
        if self._playout is None or self.state is State.ENDED or not self._carrier_writable:
            return
        for item in self._playout.release(now):
            if isinstance(item, bytes):
                self.stats.agent_frames += len(item) // self._frame_bytes
                self.leg.send(events.Play(item), now)
            else:
                self.leg.send(events.Mark(item), now)

    def _interrupt(self, now: float) -> None:
        """The caller talks over the agent: nothing of the old answer may be heard from here on."""
        self.stats.interruptions += 1
        if self._playout is None or self._downlink is None or self.state is State.ENDED:
            return
        self._downlink.reset()
        dropped_ms = self._playout.queued_ms
        cleared = self._playout.flush(now)
        if cleared:
            self.leg.send(events.Flush(), now)
            self.flushed = True
            self.stats.clears += 1
        self._effects.append(Note("interrupted", f"{dropped_ms:.0f} ms dropped here{', clear sent' * cleared}"))

    # --- what the leg says ---

    def _on_leg_events(self, happened: list[events.Event], now: float) -> None:
        for event in happened:
            self._on_leg(event, now)

    def _on_leg(self, event: events.Event, now: float) -> None:
        match event:
            case events.Audio(payload):
                self._on_caller_audio(payload)
            case events.PlaybackReached(mark):
                self._on_mark(mark, now)
            case events.Offered(info, media_choices):
                self._move(Input.OFFERED, now)
                self.info, self._media = info, media_choices[0]
                self._frame_bytes = self._media.size_bytes(FRAME_MS)
                self._held = Backlog(self._media.size_bytes(self._options.caller_buffer_ms))
                self._effects.append(AskAdmission(info))
            case events.Dtmf():
                self.stats.dtmf += 1
            case events.Ended(reason, detail):
                self._end(Input.LEG_ENDED, reason, detail, now)
            case events.Paused():
                self.conversation.flush_audio()
            case events.Resumed() | events.TransferResult():
                self._effects.append(Note(type(event).__name__))
            case _:
                assert_never(event)

    def _on_mark(self, mark: str, now: float) -> None:
        if self._playout is None or not self._playout.reached(mark):
            return
        self.stats.marks += 1
        if mark == self._last_mark and self.state is State.DRAINING:
            self._played_out("", now)

    # --- what the agent says ---

    def _on_agent(self, event: agent.AgentEvent, now: float) -> None:
        match event:
            case agent.AgentAudio(payload):
                self._on_agent_audio(payload, now)
            case agent.Interrupted():
                self._interrupt(now)
            case agent.Pinged(round_trip_ms):
                self.stats.agent_pings += 1
                self.stats.agent_round_trip_ms = round_trip_ms
            case agent.AgentReady():
                self._on_agent_ready(event, now)
            case agent.CallerSaid():
                self.stats.caller_turns += 1
            case agent.AgentSaid():
                self.stats.agent_turns += 1
            case agent.AgentCorrected():
                pass  # transcripts are not kept by this version
            case agent.ToolCalled(name, call_id):
                self.stats.tool_calls += 1
                self.conversation.send_tool_result(call_id, NO_TOOLS.format(name=name), is_error=True)
                self._effects.append(Note("tool_refused", name[:64]))
            case agent.SystemToolRan(name, is_error):
                self._effects.append(Note("agent_tool_failed" if is_error else "agent_tool_ran", name[:64]))
            case agent.AgentFault(detail):
                self._effects.append(Note("agent_fault", detail))
            case agent.AgentEnded(reason, detail):
                self._on_agent_ended(reason, detail, now)
            case _:
                assert_never(event)

    def _on_agent_ready(self, ready: agent.AgentReady, now: float) -> None:
        if self._move(Input.AGENT_READY, now) is State.ENDED:
            return
        assert self._media is not None
        self.conversation_id = ready.conversation_id
        uplink = Transcoder(self._media, ready.input_format)
        self._downlink = Transcoder(ready.output_format, self._media)
        self._downlink_is_identity = self._downlink.is_identity
        self._playout = Playout(
            self._media, self._spec.lead_ms, self._spec.chunk_ms, max_queue_ms=self._options.playout_queue_ms
        )
        self._uplink, self._uplink_is_identity = uplink, uplink.is_identity
        self._effects.append(Note("agent_ready", _conversion(uplink, self._downlink)))
        held, self._held = self._held, None
        for payload in held.take() if held is not None else ():
            self.conversation.send_audio(uplink.process(payload))
        self._sync_relay()

    def _on_agent_ended(self, reason: EndReason, detail: str, now: float) -> None:
        """A normal end lets the caller hear the rest; after a failure nobody is there to answer, so it is cut."""
        if reason is outcome.AGENT_HANGUP and self.state is State.CONNECTING:
            reason = outcome.AGENT_NOT_READY  # a good-bye before the first word is none
        if reason.result is not Result.SUCCESS or self._playout is None or self.state is not State.ACTIVE:
            self._end(Input.FAILED, reason, detail, now)
            return
        self._move(Input.AGENT_DONE, now)
        self._sync_relay()
        self._agent_end = (reason, detail)
        self._last_mark = self._playout.finish()
        self._drain_deadline = now + self._playout.unheard_s(now) + DRAIN_GRACE_S
        self._release(now)

    # --- the end ---

    def _played_out(self, remark: str, now: float) -> None:
        reason, detail = self._agent_end
        self._end(Input.PLAYED_OUT, reason, "; ".join(part for part in (detail, remark) if part), now)

    def _end(self, step: Input, reason: EndReason, detail: str, now: float) -> None:
        if self.state is State.ENDED:
            return
        self._move(step, now)
        self._drain_deadline = math.inf
        self._held = None
        self.conversation.finish()
        self.leg.send(events.Reject(reason) if step is Input.REFUSED else events.Hangup(reason), now)
        self.current_stats()
        self._effects.append(Finished(reason, detail))

    def _move(self, step: Input, now: float) -> State:
        state = advance(self.state, step)
        if state is not self.state:
            self.state = state
            self.history.append((now, state))
        return state


def _conversion(uplink: Transcoder, downlink: Transcoder) -> str:
    """What is done to the audio, for the log."""
    if uplink.is_identity and downlink.is_identity:
        return "audio passes unchanged"
    return f"to agent: {uplink.describe()}; to caller: {downlink.describe()}"
