"""The picture of a stored call, drawn from its record and its recording.

``bridge.calls.picture`` does the drawing. Here is what it needs: the two sides of the recording, thinned out so that an
hour draws as fast as a minute and takes no more memory, and the record's entries as marks. Of a thinned recording every
n-th sample is left: a column of the picture covers thousands of them, so it shows the same.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from itertools import pairwise

import numpy as np

from bridge.calls.picture import CallLane, CallPicture, MarkKind, PictureMark, StateSpan, render_svg
from bridge.calls.record import CallRecord, Recording
from bridge.calls.state import State
from bridge.server.api.ports import AudioPort
from bridge.server.recording.encoders import WAV_HEADER_BYTES, wav_rate_hz
from bridge.server.recording.names import AudioNotFoundError

KEPT_SAMPLES = 3_000_000
"""Of each side at most: six minutes at 8 kHz whole, an hour with every tenth sample left."""
MIN_RATE_HZ = 400
"""What is left of a second of a very long call: eight samples to a frame of 20 ms."""
MAX_PICTURES = 32
"""Kept once drawn, some 100 kB each."""
PARALLEL = 2
"""Drawn at once: each takes a processor for a moment, and calls come first."""

_FRAME_BYTES = 4
_STATES = frozenset(state.value for state in State)


class Pictures:
    """Draws pictures, and keeps the latest of calls that are over. Belongs to one event loop."""

    def __init__(self, library: AudioPort | None) -> None:
        self._library = library
        self._room = asyncio.Semaphore(PARALLEL)
        self._kept: OrderedDict[tuple[str, float, int], str] = OrderedDict()

    async def svg(self, record: CallRecord, now: float) -> str:
        """The picture of this call; of one that goes on, until now. Raises what the recordings' store raises."""
        recording = record.recording if record.recording is not None and record.recording.complete else None
        name = (record.id, record.ended_at or 0.0, recording.size_bytes if recording is not None else 0)
        if record.ended_at is not None and name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        async with self._room:
            lanes = await self._lanes(recording, audio_at_s(record))
            svg = await asyncio.to_thread(render_svg, picture_of(record, lanes, now))
        if record.ended_at is not None:
            self._kept[name] = svg
            while len(self._kept) > MAX_PICTURES:
                self._kept.popitem(last=False)
        return svg

    async def _lanes(self, recording: Recording | None, at_s: float) -> tuple[CallLane, CallLane]:
        if recording is None or self._library is None:
            return _no_lanes("not recorded")
        if recording.format != "wav":
            return _no_lanes(recording.format)
        try:
            audio = await self._library.open_audio(recording.location)
        except AudioNotFoundError:  # its retention is over
            return _no_lanes("deleted")
        head, cut, phase, rate_hz, step = b"", b"", 0, 0, 1
        parts: list[np.ndarray[tuple[int, int], np.dtype[np.int16]]] = []
        async for block in audio.chunks:
            if not rate_hz:
                head += block
                if len(head) < WAV_HEADER_BYTES:
                    continue
                rate_hz = wav_rate_hz(head)
                step = _step(rate_hz, (audio.size_bytes or 0) // _FRAME_BYTES)
                block = head[WAV_HEADER_BYTES:]
            data = cut + block
            whole = len(data) // _FRAME_BYTES * _FRAME_BYTES
            cut = data[whole:]
            frames = np.frombuffer(data, "<i2", whole // 2).reshape(-1, 2)
            parts.append(frames[phase::step].copy())
            phase = (phase - len(frames)) % step
        rate_hz = (rate_hz or 8000) // step
        sides = np.concatenate(parts) if parts else np.zeros((0, 2), np.int16)
        quiet = bytes(2 * int(at_s * rate_hz))  # before the recording began
        caller, agent = (quiet + np.ascontiguousarray(sides[:, side]).tobytes() for side in (0, 1))
        return CallLane("Caller", caller, rate_hz), CallLane("Agent", agent, rate_hz)


def _no_lanes(why: str) -> tuple[CallLane, CallLane]:
    """Both sides without a waveform, and why."""
    return CallLane(f"Caller ({why})", b"", 8000), CallLane(f"Agent ({why})", b"", 8000)


def _step(rate_hz: int, samples: int) -> int:
    """Every how many-th sample is kept; a divisor of the rate, so that times stay exact."""
    step = 1
    while samples // step > KEPT_SAMPLES and rate_hz % (2 * step) == 0 and rate_hz // (2 * step) >= MIN_RATE_HZ:
        step *= 2
    return step


def audio_at_s(record: CallRecord) -> float:
    """Where in the call its recording begins: with being let in."""
    return next((step.at_s for step in record.journal.steps if step.event == State.CONNECTING.value), 0.0)


def picture_of(record: CallRecord, lanes: tuple[CallLane, CallLane], now: float) -> CallPicture:
    """What is drawn. Pure."""
    length_s = (record.ended_at if record.ended_at is not None else now) - record.created_at
    duration_ms = max(0, int(length_s * 1000))
    spans = [(_ms(step.at_s), step.event) for step in record.journal.steps if step.event in _STATES]
    states = tuple(
        StateSpan(at, until, name)
        for (at, name), (until, _) in pairwise([*spans, (duration_ms, "")])
        if until > at  # the end, for one, takes no time
    )
    end = record.reason or record.state
    return CallPicture(
        title=f"Call {record.id}",
        subtitle=f"{record.provider}, {record.agent_id or 'no agent'}, {end}",
        duration_ms=duration_ms,
        lanes=lanes,
        marks=_marks(record, duration_ms),
        states=states,
    )


def _marks(record: CallRecord, duration_ms: int) -> tuple[PictureMark, ...]:
    journal = record.journal
    marks = [
        PictureMark(_ms(step.at_s), MarkKind.INTERRUPTION, "interrupted")
        for step in journal.steps
        if step.event == "interrupted"
    ]
    marks += [
        PictureMark(
            _ms(tool.at_s), MarkKind.TOOL_CALL, tool.name, "" if tool.took_ms is None else f"{tool.took_ms:.0f} ms"
        )
        for tool in journal.tools
    ]
    marks += [PictureMark(_ms(key.at_s), MarkKind.DTMF, key.digit or "•") for key in journal.digits]
    if record.ended_at is not None:
        marks.append(PictureMark(duration_ms, MarkKind.END, "end", record.reason))
    return tuple(marks)


def _ms(at_s: float) -> int:
    return max(0, int(at_s * 1000))
