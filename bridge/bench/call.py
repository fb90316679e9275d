"""One simulated call as the load keeps it: what each end sends, what the other end gets, how barge-in went.

It joins the two sockets of a call (caller and agent) in one process; it knows no sockets and no wire itself.
"""

from __future__ import annotations

from array import array
from typing import Protocol

from bridge.bench import markers, numbering
from bridge.bench.figures import NS_PER_MS, LatencyLog, PathTally, Window
from bridge.bench.markers import MarkerSink, MarkerSource
from bridge.bench.numbering import NumberedSink, NumberedSource
from bridge.bench.playout_clock import PlayoutClock
from bridge.bench.rtp_tally import RtpTally
from bridge.media.format import ULAW_8K, Encoding, MediaFormat

FRAME_MS = 20
"""Caller audio per message, unless the carrier has other habits."""
SPEECH_MS = 100
"""Agent audio per message: ten messages a second."""

CLEAR_TIMEOUT_NS = 1000 * NS_PER_MS
"""After this long without ``clear`` an interruption counts as missed."""

AGENT_RATE_HZ = 16000
"""Of a ``pcm_16000`` agent, in conversion mode."""


class Source(Protocol):
    """Makes the audio of one direction."""

    turn: int

    def message(self, now_ns: int) -> bytes:
        """The next message's audio as the wire carries it."""

    def new_turn(self) -> None:
        """What follows may overtake what came before."""


class Sink(Protocol):
    """Takes the audio of one direction."""

    def receive(self, payload: bytes, now_ns: int) -> None:
        """Take one message's audio."""

    def cleared(self, turn: int) -> None:
        """A flush arrived: turns before ``turn`` are over."""

    def tally(self) -> PathTally:
        """Close the books."""


class Logs:
    """What all calls of a round write into."""

    def __init__(self) -> None:
        self.window = Window()
        self.up = LatencyLog(self.window)
        self.down = LatencyLog(self.window)
        self.barge_in = LatencyLog(self.window)
        self.first = LatencyLog(self.window)
        """First audio of each turn of the agent, pass-through only."""
        self.pongs = LatencyLog(self.window)
        """From a ping of the carrier to its answer, where the carrier pings in messages of its own."""
        self.opened_ms = array("d")
        """From the offer of a session to its acceptance, where the carrier waits for one; of all calls, because
        they begin before the window."""
        self.rtp = RtpTally(self.window)
        """What came as RTP, where the carrier speaks that."""
        self.interruptions = 0
        """Inside the window."""
        self.missed_clears = 0
        self.bad_messages = 0
        """Messages of the server that the carrier or the agent would not take."""
        self.complaints: list[str] = []
        """What was wrong with the first few of them."""

    def complain(self, what: str) -> None:
        """Count a bad message; keep the first few descriptions."""
        self.bad_messages += 1
        if len(self.complaints) < 5:
            self.complaints.append(what)


class SignalKit:
    """Makes the sources and sinks of a mode; holds what all calls share."""

    def __init__(
        self,
        converting: bool,
        *,
        frame_ms: int = FRAME_MS,
        raw_frames: bool = False,
        raw_speech: bool = False,
        media: MediaFormat = ULAW_8K,
    ) -> None:
        """``raw``: the wire of this direction carries bytes rather than base64. ``media`` is the carrier's."""
        self.converting = converting
        self._media = media
        self._frame_ms = frame_ms
        self._raw_frames, self._raw_speech = raw_frames, raw_speech
        if converting:
            is_ulaw = media.encoding is Encoding.ULAW
            encode = markers.encode_ulaw if is_ulaw else markers.encode_pcm
            self._decode = markers.decode_ulaw if is_ulaw else markers.decode_pcm
            self._frames = MarkerSource.cycle(frame_ms, media.rate_hz, encode, raw=raw_frames)
            self._speech = MarkerSource.cycle(SPEECH_MS, AGENT_RATE_HZ, markers.encode_pcm, raw=raw_speech)

    def new_call(self, index: int, logs: Logs) -> Call:
        """A call with its two directions."""
        if self.converting:
            frames = MarkerSource(self._frame_ms, self._frames)
            speech = MarkerSource(SPEECH_MS, self._speech)
            heard = MarkerSink(frames, AGENT_RATE_HZ, markers.decode_pcm, logs.up)
            played = MarkerSink(speech, self._media.rate_hz, self._decode, logs.down)
            return Call(index, logs, frames, heard, speech, played, self._media)
        size = self._media.size_bytes(numbering.RECORD_MS)
        talk = NumberedSource(index, self._frame_ms // numbering.RECORD_MS, raw=self._raw_frames, record_bytes=size)
        answer = NumberedSource(index, SPEECH_MS // numbering.RECORD_MS, raw=self._raw_speech, record_bytes=size)
        ear = NumberedSink(answer, logs.down, logs.first)
        return Call(index, logs, talk, NumberedSink(talk, logs.up), answer, ear, self._media)


class Call:
    """One call. ``up`` is caller -> agent, ``down`` is agent -> caller."""

    __slots__ = ("_interrupted_ns", "clock", "frames", "heard", "index", "logs", "media", "played", "speech")

    def __init__(
        self,
        index: int,
        logs: Logs,
        frames: Source,
        heard: Sink,
        speech: Source,
        played: Sink,
        media: MediaFormat = ULAW_8K,
    ) -> None:
        """``media`` is the carrier's."""
        self.index = index
        self.media = media
        self.logs = logs
        self.frames = frames
        self.heard = heard
        self.speech = speech
        self.played = played
        self.clock = PlayoutClock(logs.window, media)
        self._interrupted_ns = 0
        """When the interruption that still waits for its ``clear`` was sent; 0 = none waits."""

    def interrupt(self, now_ns: int) -> int:
        """The agent is interrupted now. Returns the event id of the turn that ends."""
        self._count_missed()
        event_id = self.speech.turn + 1
        self.speech.new_turn()
        self._interrupted_ns = now_ns
        self.logs.interruptions += self.logs.window.holds(now_ns)
        return event_id

    def cleared(self, now_ns: int) -> None:
        """The caller's side got a ``clear``."""
        if self._interrupted_ns:
            self.logs.barge_in.note(self._interrupted_ns, now_ns)
            self._interrupted_ns = 0
        self.clock.flush()
        self.played.cleared(self.speech.turn)

    def close(self, now_ns: int) -> None:
        """The call is over: an interruption whose ``clear`` is overdue counts as missed."""
        if now_ns - self._interrupted_ns > CLEAR_TIMEOUT_NS:
            self._count_missed()

    def tallies(self) -> tuple[PathTally, PathTally]:
        """What became of the audio, up and down."""
        return self.heard.tally(), self.played.tally()

    def _count_missed(self) -> None:
        if self._interrupted_ns:
            self.logs.missed_clears += self.logs.window.holds(self._interrupted_ns)
            self._interrupted_ns = 0
