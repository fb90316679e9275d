"""One conversation with an agent, client side, sans-I/O.

Driven by three things: commands of the call (``start``, ``send_audio``, ...), messages of the server
(``receive``), and time (``next_timer`` / ``handle_timer``). After each, ``drain`` gives what must go out.

The order of the handshake (vendor's SDKs): we send the initiation data first and at once; the server's first
message is the metadata, which says the audio formats; then audio both ways. Pings are answered here.

Interruption (vendor's Python SDK): after ``interruption`` with event_id N, audio with an event_id up to and
including N belongs to the interrupted turn and is dropped. The JavaScript SDK keeps N itself; N is the turn
that was interrupted, so dropping it is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pybase64 import b64encode_as_string

from bridge import outcome
from bridge.convai import messages
from bridge.convai.closing import CLOSE_NORMAL, clip, reason_for_close
from bridge.convai.events import (
    AgentAudio,
    AgentCorrected,
    AgentEnded,
    AgentEvent,
    AgentFault,
    AgentReady,
    AgentSaid,
    CallerSaid,
    Interrupted,
    Pinged,
    SystemToolRan,
    ToolCalled,
)
from bridge.convai.messages import (
    AUDIO_HEAD,
    AUDIO_TAIL,
    DECODE_ERRORS,
    Audio,
    InitiationData,
    decode_fast,
    user_audio_chunk,
)
from bridge.convai.upload import NO_SIZES, Uploader
from bridge.errors import LocalError, RemoteError
from bridge.leg import CloseSocket
from bridge.media.format import MediaFormat
from bridge.outcome import EndReason

MALFORMED_LIMIT = 20
"""Broken messages of known types that a conversation survives: a detail that the server gets wrong now and then
must not end a call, a server that gets everything wrong must."""

CLOSE_AFTER_ERROR_S = 2.0
"""How long an ``error`` may stand without the close that follows it before we take it for the end."""

_NOTHING: list[AgentEvent] = []


@dataclass(frozen=True, slots=True)
class ConversationOptions:
    """The operator's settings that a conversation needs."""

    upload_chunk_ms: int
    """Least caller audio in one message."""
    ready_timeout_s: float
    """How long the server may take from the open socket to its metadata."""
    silence_timeout_s: float
    """How long the server may send nothing at all, pings included."""


class Conversation:
    """The protocol machine of one agent connection."""

    __slots__ = (
        "_deadline",
        "direct_sizes",
        "_ended",
        "_error",
        "_error_deadline",
        "_last_message_s",
        "_options",
        "_out",
        "_started",
        "_uploader",
        "_void_through",
        "_writable",
        "malformed",
        "messages_received",
        "stale_audio_bytes",
        "unknown_types",
    )

    def __init__(self, options: ConversationOptions) -> None:
        self._options = options
        self._out: list[str | CloseSocket] = []
        self._uploader: Uploader | None = None  # set when the metadata has named the input format
        self.direct_sizes = NO_SIZES
        """Sizes of payloads that may go as they are: see ``audio_message``. They change with every other command."""
        self._started = False
        self._ended = False
        self._void_through: int | None = None  # event_id of the last interruption
        self._error: messages.ErrorBody | None = None  # the last error event, for the close that follows
        self._error_deadline = math.inf
        self._deadline = math.inf  # for the metadata at first, then for silence
        self._last_message_s = 0.0
        self._writable = True
        self.unknown_types: dict[str, int] = {}
        """Messages of types this version does not know, counted by type (bounded by ``MALFORMED_LIMIT`` names)."""
        self.malformed = 0
        """Broken messages of known types."""
        self.stale_audio_bytes = 0
        """Agent audio dropped because an interruption had made it void."""
        self.messages_received = 0

    def successor(self) -> Conversation:
        """A fresh conversation with the same options, for another connection."""
        return Conversation(self._options)

    # --- commands ---

    def start(self, data: InitiationData, now: float) -> None:
        """The socket is open: send the initiation data, before anything else."""
        if self._started:
            raise LocalError("the conversation was started already")
        if self._ended:
            return
        self._started = True
        self._last_message_s = now
        self._deadline = now + self._options.ready_timeout_s
        self._out.append(messages.initiation(data))

    def send_audio(self, payload: bytes) -> None:
        """Send caller audio in the agent's input format; dropped silently after the end."""
        if self._ended:
            return
        if self._uploader is None:
            raise LocalError("audio before AgentReady: its format is not known yet")
        self._send_pieces(self._uploader.push(payload))

    def audio_message(self, payload: bytes) -> str | None:
        """The short cut of ``send_audio`` and ``drain``: the message itself; None = not taken, use ``send_audio``."""
        if len(payload) in self.direct_sizes:
            return AUDIO_HEAD + b64encode_as_string(payload) + AUDIO_TAIL
        return None

    def flush_audio(self) -> None:
        """Send what is held for a full chunk: the caller's stream pauses or ends."""
        if self._uploader is not None and not self._ended:
            self._send_pieces(self._uploader.flush())

    def send_tool_result(self, call_id: str, result: str, *, is_error: bool) -> None:
        """Answer a ``ToolCalled``."""
        self._send(messages.client_tool_result(call_id, result, is_error))

    def send_contextual_update(self, text: str) -> None:
        """Tell the agent something without taking a turn."""
        self._send(messages.contextual_update(text))

    def send_user_message(self, text: str) -> None:
        """Say something in the caller's place."""
        self._send(messages.user_message(text))

    def finish(self) -> None:
        """End the conversation from our side: the rest of the caller's audio, then a normal close."""
        if not self._ended:
            self.flush_audio()
            self._end()

    def set_writable(self, writable: bool) -> None:
        """The transport's word whether the socket takes more; audio is held with a bound while it does not."""
        self._writable = writable
        if self._uploader is None or self._ended:
            return
        if writable:
            self._send_pieces(self._uploader.resume())
        else:
            self._uploader.pause()
            self.direct_sizes = self._uploader.direct_sizes

    # --- from the server ---

    def receive(self, message: str | bytes, now: float) -> list[AgentEvent]:
        """Feed one message; returns what happened. Never raises on what the server sends."""
        if self._ended:
            return _NOTHING
        self._last_message_s = now
        self.messages_received += 1
        if isinstance(message, bytes):
            return self._fail(outcome.AGENT_GARBAGE, "binary message; the protocol is JSON text")
        try:
            decoded = decode_fast(message)
        except DECODE_ERRORS:
            return self._on_undecodable(message)
        if type(decoded) is Audio:  # first: most messages are audio
            return self._on_audio(decoded.audio_event)
        return self._on_message(decoded, now)

    def read_audio(self, message: str | bytes, now: float) -> bytes | None:
        """The short cut of ``receive`` for agent audio that is to be played: its payload.

        None = not taken, and nothing has happened: use ``receive``.
        """
        if isinstance(message, bytes):
            return None
        try:
            decoded = decode_fast(message)
        except DECODE_ERRORS:
            return None
        if type(decoded) is not Audio or self._uploader is None or self._ended:
            return None
        body = decoded.audio_event
        if self._void_through is not None and body.event_id is not None and body.event_id <= self._void_through:
            return None
        self._last_message_s = now
        self.messages_received += 1
        return body.audio_base_64 or None

    def connection_lost(self, code: int, words: str) -> list[AgentEvent]:
        """Say that the socket is gone with this close code (1006 without a close frame) and reason text."""
        if self._ended:
            return _NOTHING
        self._ended = True
        self.direct_sizes = NO_SIZES
        said = self._error_words()
        detail = f"close {code}" + (f": {words}" if words else "") + (f"; before it: {said}" if said else "")
        reason = reason_for_close(code, f"{words} {said}")
        if said and reason in (outcome.AGENT_HANGUP, outcome.AGENT_LOST):
            reason = self._error_reason()
        return [AgentEnded(reason, clip(detail))]

    def drain(self) -> list[str | CloseSocket]:
        """Take what must go out, in order."""
        out, self._out = self._out, []
        return out

    # --- time ---

    def next_timer(self) -> float:
        """When ``handle_timer`` wants to be called (may be too early, never too late)."""
        return math.inf if self._ended else min(self._deadline, self._error_deadline)

    def handle_timer(self, now: float) -> list[AgentEvent]:
        """Let time pass."""
        if self._ended:
            return _NOTHING
        if now >= self._error_deadline:
            return self._fail(self._error_reason(), self._error_words())
        if self._uploader is None:
            if now >= self._deadline:
                return self._fail(outcome.AGENT_NOT_READY, f"no metadata in {self._options.ready_timeout_s:g} s")
            return _NOTHING
        self._deadline = self._last_message_s + self._options.silence_timeout_s
        if now >= self._deadline:
            return self._fail(outcome.AGENT_SILENT, f"nothing for {self._options.silence_timeout_s:g} s")
        return _NOTHING

    @property
    def is_over(self) -> bool:
        """Whether the conversation has ended; what is sent then goes nowhere."""
        return self._ended

    @property
    def dropped_audio_bytes(self) -> int:
        """Caller audio dropped because the agent's socket was stuck."""
        return self._uploader.dropped_bytes if self._uploader is not None else 0

    # --- inside ---

    def _on_undecodable(self, message: str) -> list[AgentEvent]:
        try:
            messages.decode(message)
        except messages.UnknownType as unknown:
            self._count_unknown(unknown.args[0])
        except messages.Malformed as error:
            return self._tolerate(str(error))
        except RemoteError as error:
            return self._fail(outcome.AGENT_GARBAGE, str(error))
        return _NOTHING

    def _on_audio(self, body: messages.AudioBody) -> list[AgentEvent]:
        event_id = body.event_id
        if self._void_through is not None and event_id is not None and event_id <= self._void_through:
            self.stale_audio_bytes += len(body.audio_base_64)
            return _NOTHING
        if self._uploader is None:
            return self._tolerate("audio before conversation_initiation_metadata")
        return [AgentAudio(body.audio_base_64, event_id)]

    def _on_message(self, message: messages.ServerMessage, now: float) -> list[AgentEvent]:
        match message:
            case messages.Ping(ping_event=ping):
                self._send(messages.pong(ping.event_id))
                return [Pinged(ping.ping_ms)]
            case messages.Interruption(interruption_event=interruption):
                void = self._void_through
                self._void_through = interruption.event_id if void is None else max(void, interruption.event_id)
                return [Interrupted(interruption.event_id)]
            case messages.UserTranscript(user_transcription_event=said):
                return [CallerSaid(said.user_transcript)]
            case messages.AgentResponse(agent_response_event=response):
                return [AgentSaid(response.agent_response)]
            case messages.Correction(agent_response_correction_event=correction):
                return [AgentCorrected(correction.corrected_agent_response)]
            case messages.ClientToolCall(client_tool_call=call):
                return [ToolCalled(call.tool_name, call.tool_call_id, call.parameters)]
            case messages.ToolResponse(agent_tool_response=ran):
                return [SystemToolRan(ran.tool_name, ran.is_error)]
            case messages.Metadata(conversation_initiation_metadata_event=metadata):
                return self._on_metadata(metadata, now)
            case _:
                assert isinstance(message, messages.Error)  # audio went its own way, the union has nothing else
                return self._on_error(message, now)

    def _on_metadata(self, metadata: messages.MetadataBody, now: float) -> list[AgentEvent]:
        if self._uploader is not None:
            return self._tolerate("conversation_initiation_metadata a second time")
        try:
            input_format = MediaFormat.parse(metadata.user_input_audio_format)
            output_format = MediaFormat.parse(metadata.agent_output_audio_format)
        except ValueError as error:
            return self._fail(outcome.AGENT_FORMAT, str(error))
        self._uploader = Uploader(input_format, self._options.upload_chunk_ms)
        if not self._writable:
            self._uploader.pause()
        self.direct_sizes = self._uploader.direct_sizes
        self._deadline = now + self._options.silence_timeout_s
        return [AgentReady(metadata.conversation_id, input_format, output_format)]

    def _on_error(self, message: messages.Error, now: float) -> list[AgentEvent]:
        self._error = message.error_event or messages.ErrorBody(code=message.code, message=message.message)
        self._error_deadline = min(self._error_deadline, now + CLOSE_AFTER_ERROR_S)
        return [AgentFault(clip(self._error_words()))]

    def _error_reason(self) -> EndReason:
        code = self._error.code if self._error is not None else None
        reason = reason_for_close(CLOSE_NORMAL if code is None else code, self._error_words())
        # An error is no good-bye, whatever its code says.
        return outcome.AGENT_OPERATIONAL if reason is outcome.AGENT_HANGUP else reason

    def _error_words(self) -> str:
        error = self._error
        if error is None:
            return ""
        parts = (
            str(error.code) if error.code is not None else "",
            error.error_type,
            error.message,
            error.reason,
        )
        return " ".join(part for part in parts if part) or "an error without words"

    def _count_unknown(self, name: str) -> None:
        if name in messages.IGNORED_TYPES:
            return
        if name in self.unknown_types or len(self.unknown_types) < MALFORMED_LIMIT:
            self.unknown_types[name] = self.unknown_types.get(name, 0) + 1

    def _tolerate(self, problem: str) -> list[AgentEvent]:
        self.malformed += 1
        if self.malformed > MALFORMED_LIMIT:
            return self._fail(outcome.AGENT_GARBAGE, f"{self.malformed} broken messages; the last: {problem}")
        return [AgentFault(clip(problem))]

    def _fail(self, reason: EndReason, detail: str) -> list[AgentEvent]:
        self._end()
        return [AgentEnded(reason, clip(detail))]

    def _end(self) -> None:
        self._ended = True
        self.direct_sizes = NO_SIZES
        self._out.append(CloseSocket(CLOSE_NORMAL))

    def _send(self, message: str) -> None:
        if not self._ended:
            self._out.append(message)

    def _send_pieces(self, pieces: list[bytes]) -> None:
        assert self._uploader is not None
        self.direct_sizes = self._uploader.direct_sizes
        for piece in pieces:
            self._out.append(user_audio_chunk(piece))
