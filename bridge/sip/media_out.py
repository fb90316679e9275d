"""The outgoing half of a call's media: a bounded queue of audio, keys, and one packet at each tick.

Public: ``MediaOut``. Part of ``media.CallMedia``, which says what it is for.

What goes out at a tick, in this order: a packet of the key that is being sent (or nothing: the audio pauses
meanwhile, and only its clock goes on), a frame of a key's tone, the next frame of the queue, silence.
"""

from __future__ import annotations

from collections import deque

from bridge.errors import LocalError
from bridge.media.format import Encoding, MediaFormat
from bridge.sip.dtmf_info import inband_frames
from bridge.sip.jitter import FRAME
from bridge.sip.media_events import DigitsSent, MarkReached, MediaEvent, SendInfo
from bridge.sip.media_in import converter
from bridge.sip.media_keys import InfoKeys, check_digits
from bridge.sip.media_options import KeyWay, MediaOptions
from bridge.sip.offer_answer import Agreement
from bridge.sip.rtp import RtpSender
from bridge.sip.telephone_event import EventSender

MAX_WAITING = 8
"""Texts of keys that wait for the one before: an agent's tool sends one and waits for it."""

_Keys = EventSender | InfoKeys | deque[bytes]
"""One text of keys in the making; as tones it is frames."""


class MediaOut:
    """One call's outgoing media."""

    __slots__ = (
        "_converter",
        "_encoding",
        "_event_type",
        "_has_paused",
        "_keys",
        "_next_number",
        "_options",
        "_payload_type",
        "_queue",
        "_report",
        "_rest",
        "_sender",
        "_silence",
        "_waiting",
        "dropped_bytes",
        "queued_bytes",
    )

    def __init__(
        self,
        options: MediaOptions,
        encoding: Encoding,
        agreement: Agreement,
        sender: RtpSender,
        report: list[MediaEvent],
    ) -> None:
        """``encoding`` is that of the audio to play, ``sender`` numbers the packets.

        What happens is appended to ``report``.
        """
        self._options = options
        self._encoding = encoding
        self._silence = MediaFormat(encoding, 8000).silence(FRAME)
        self._sender = sender
        self._report = report
        self._queue: deque[bytes | str] = deque()  # frames, and names of marks
        self._rest = b""  # less than a frame
        self.queued_bytes = 0
        """Audio that waits."""
        self.dropped_bytes = 0
        """Audio that did not fit."""
        self._keys: _Keys | None = None
        self._waiting: deque[str] = deque()
        self._next_number: int | None = None
        self._has_paused = True
        self.agree(agreement)

    def agree(self, agreement: Agreement) -> None:
        """A new agreement holds."""
        self._payload_type = agreement.payload_type
        self._event_type = agreement.event_type
        self._converter = converter(self._encoding, agreement.encoding)
        if isinstance(self._keys, EventSender) and agreement.event_type is None:
            self._keys_done(is_complete=False)

    # --- the agent's side ---

    def play(self, payload: bytes) -> None:
        """Queue audio; what does not fit is dropped."""
        room = max(0, self._options.max_queue_bytes - self.queued_bytes)
        if len(payload) > room:
            self.dropped_bytes += len(payload) - room
            payload = payload[:room]
        self.queued_bytes += len(payload)
        if len(payload) == FRAME and not self._rest:
            self._queue.append(payload)
            return
        stream = self._rest + payload if self._rest else payload
        whole = len(stream) - len(stream) % FRAME
        self._queue.extend([stream[start : start + FRAME] for start in range(0, whole, FRAME)])
        self._rest = stream[whole:]

    def mark(self, name: str) -> None:
        """Put a mark behind all that is queued."""
        if self._rest:
            self._complete_rest()
        if self._queue:
            self._queue.append(name)
        else:
            self._report.append(MarkReached(name))

    def flush(self) -> None:
        """Drop what is queued; marks are reached."""
        self._report.extend([MarkReached(item) for item in self._queue if isinstance(item, str)])
        self._queue.clear()
        self._rest = b""
        self.queued_bytes = 0

    def send_digits(self, digits: str) -> None:
        """Send keys from the next tick on, or after those that are being sent. ``LocalError`` if that cannot be."""
        check_digits(digits)
        if len(self._waiting) >= MAX_WAITING:
            raise LocalError(f"keys: {MAX_WAITING} texts of them wait already")
        self._waiting.append(digits)
        if self._keys is None:
            self._next_keys()

    # --- the network's side ---

    def speak(self, number: int, can_send: bool) -> bytes | None:
        """The packet of tick ``number``, or ``None``; without ``can_send`` time goes by, and the queue with it."""
        if number != self._next_number:
            self._note_gap(number)
        self._next_number = number + 1
        frame: bytes | None = None
        keys = self._keys
        if keys is not None:
            if isinstance(keys, InfoKeys):
                self._speak_info(keys)
            elif not can_send:
                pass  # keys wait until they can be heard
            elif isinstance(keys, EventSender):
                return self._speak_event(keys)
            else:
                frame = self._next_tone(keys)
        if frame is None:
            frame = self._next_frame() if self._queue or self._rest else self._silence
        if not can_send:
            self._sender.skip(FRAME)
            self._has_paused = True
            return None
        if self._converter is not None:
            frame = frame.translate(self._converter)
        has_paused, self._has_paused = self._has_paused, False
        return self._sender.audio(self._payload_type, frame, FRAME, has_paused)

    # --- private ---

    def _note_gap(self, number: int) -> None:
        """Ticks were left out, by a stall of ours: their time has gone by."""
        if self._next_number is not None and number > self._next_number:
            self._sender.skip(FRAME * (number - self._next_number))
            self._has_paused = True

    def _complete_rest(self) -> None:
        missing = FRAME - len(self._rest)
        self._queue.append(self._rest + self._silence[:missing])
        self.queued_bytes += missing
        self._rest = b""

    def _next_frame(self) -> bytes:
        """Take a frame off the queue, and report the marks right behind it."""
        queue = self._queue
        if not queue:
            self._complete_rest()
        frame = queue.popleft()
        assert isinstance(frame, bytes)  # marks never come first
        self.queued_bytes -= FRAME
        while queue and isinstance(queue[0], str):
            self._report.append(MarkReached(queue[0]))
            queue.popleft()
        return frame

    # --- private: keys ---

    def _next_keys(self) -> None:
        """Begin with the next text of keys, if one waits, the way that is agreed now."""
        self._keys = None
        if not self._waiting:
            return
        digits, options = self._waiting.popleft(), self._options
        if options.key_way is KeyWay.INFO:
            self._keys = InfoKeys(digits, options.keys)
        elif options.key_way is KeyWay.AUTO and self._event_type is not None:
            self._keys = EventSender(digits, options.keys)
        else:
            self._keys = deque(inband_frames(digits, options.keys, self._encoding))

    def _keys_done(self, is_complete: bool = True) -> None:
        self._report.append(DigitsSent(is_complete))
        self._next_keys()

    def _speak_info(self, keys: InfoKeys) -> None:
        digit = keys.tick()
        if digit is not None:
            self._report.append(SendInfo(digit))
        if keys.is_done:
            self._keys_done()

    def _speak_event(self, keys: EventSender) -> bytes | None:
        sender = self._sender
        event = keys.tick(sender.timestamp)
        packet: bytes | None = None
        if event is not None and self._event_type is not None:
            packet = sender.event(self._event_type, *event)
        sender.skip(FRAME)
        self._has_paused = True
        if keys.is_done:
            self._keys_done()
        return packet

    def _next_tone(self, keys: deque[bytes]) -> bytes | None:
        frame = keys.popleft() if keys else None
        if not keys:
            self._keys_done()
        return frame
