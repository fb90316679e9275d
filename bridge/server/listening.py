"""Who hears a call besides its two ends: the recorder, and a listener for keypad tones. One tap for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from bridge.calls.keypad import KeySource
from bridge.calls.reel import Channel
from bridge.calls.tap import Tap
from bridge.media.format import MediaFormat
from bridge.media.inband import InbandDtmf, InbandTone
from bridge.media.vad import Vad

if TYPE_CHECKING:
    from bridge.server.session import Session


LISTEN_EVERY_S = 0.055
"""Every third frame tells well enough when the caller speaks, at a third of the cost."""


class CallerEar:
    """Hears whether the caller speaks, by looking at some of the frames that have just passed."""

    __slots__ = ("_session", "_vad")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._vad: Vad | None = None

    def spoke_since(self, at_s: float) -> bool:
        """Whether the caller has spoken at or after this moment."""
        return self._vad is not None and (self._vad.talking or self._vad.since_s >= at_s)

    def listen(self, now: float) -> None:
        """Look at the latest frame."""
        call = self._session.call
        if self._vad is None:
            if call.downlink is None:
                return
            self._vad = Vad(call.downlink.media)
        change = self._vad.feed(call.leg.last_payload, now)
        if change is not None:
            call.caller_speech(change, self._vad.since_s, now)


class Taps:
    """Several listeners as one; a ``Tap``."""

    __slots__ = ("_taps",)

    def __init__(self, *taps: Tap) -> None:
        self._taps = taps

    def caller(self, payload: bytes, now: float) -> None:
        """See ``Tap``."""
        for tap in self._taps:
            tap.caller(payload, now)

    def agent(self, payload: bytes, now: float) -> None:
        """See ``Tap``."""
        for tap in self._taps:
            tap.agent(payload, now)

    def flush(self, now: float) -> None:
        """See ``Tap``."""
        for tap in self._taps:
            tap.flush(now)


class ToneListener:
    """Looks for keypad tones in the caller's audio; a ``Tap``."""

    __slots__ = ("_detector", "_on_tone")

    def __init__(self, media: MediaFormat, on_tone: Callable[[InbandTone], None]) -> None:
        self._detector = InbandDtmf(media)
        self._on_tone = on_tone

    def caller(self, payload: bytes, now: float) -> None:
        """See ``Tap``."""
        for tone in self._detector.feed(payload, now):
            self._on_tone(tone)

    def agent(self, payload: bytes, now: float) -> None:
        """See ``Tap``."""

    def flush(self, now: float) -> None:
        """See ``Tap``."""


def begin_recording(session: Session) -> None:
    """Record the call if its route says so."""
    recorder, route, downlink = session.bridge.parts.recorder, session.facts.route, session.call.downlink
    if recorder is None or route is None or not route.recording or downlink is None:
        return
    if not session.bridge.settings.retention_audio_days:
        return  # nothing is to be kept
    tape = recorder.start(session.call_id, downlink.media, monotonic())
    session.facts.tape = tape
    session.facts.recording = recorder.recording_of(tape)


def pause_recording(session: Session) -> bool:
    """Write silence from now on, for what must not be kept; False = the call is not being recorded."""
    tape = session.facts.tape
    if tape is None:
        return False
    tape.pause(monotonic())
    session.note("recording_paused")
    return True


def resume_recording(session: Session) -> bool:
    """Record again; False = the call is not being recorded."""
    tape = session.facts.tape
    if tape is None:
        return False
    tape.resume(monotonic())
    session.note("recording_resumed")
    return True


def begin_listening(session: Session) -> None:
    """Let in whoever listens to this call: its recorder first, then whoever looks for tones."""
    downlink, route, tape = session.call.downlink, session.facts.route, session.facts.tape
    if downlink is None or route is None:
        return
    if tape is not None:
        add_listener(session, tape)
    if route.keypad_inband or (tape is not None and route.keypad.redact):
        add_listener(session, ToneListener(downlink.media, lambda tone: _on_tone(session, tone)))


def caller_spoke_since(session: Session, at_s: float) -> bool:
    """Whether the caller has spoken at or after this moment."""
    return session._ear.spoke_since(at_s)


def add_listener(session: Session, tap: Tap) -> None:
    """Let somebody hear both sides from now on. Audio then takes the longer way past them."""
    session.facts.taps = (*session.facts.taps, tap)
    _listen(session)


def remove_listener(session: Session, tap: Tap) -> None:
    """They have heard enough; harmless when they are gone already."""
    left = tuple(each for each in session.facts.taps if each is not tap)
    if len(left) != len(session.facts.taps):
        session.facts.taps = left
        if not session.call.is_over:
            _listen(session)


def _listen(session: Session) -> None:
    taps = session.facts.taps
    session.call.listen(None if not taps else taps[0] if len(taps) == 1 else Taps(*taps))


def _on_tone(session: Session, tone: InbandTone) -> None:
    """A tone was heard, or goes on: off the tape with it where digits are redacted, and into the keypad."""
    route, tape = session.facts.route, session.facts.tape
    if route is None:
        return
    if tape is not None and route.keypad.redact:
        tape.blank(Channel.CALLER, tone.blank_from_s, tone.blank_to_s)
    if tone.is_over and route.keypad_inband:
        # Not here, in the middle of the audio's way: a step of the call of its own.
        duration_ms = int(tone.duration_s * 1000)
        asyncio.get_running_loop().call_soon(
            session.step,
            lambda now: session.call.key_pressed(tone.digit, duration_ms, KeySource.INBAND, now),
        )
