"""The picture of a replayed call: its states, marks and end, and when either side's audio flowed. Pure.

Where audio was kept, the caller's lane shows it; the agent's lane, and the caller's without audio, show blocks: audio
of an unknown loudness.
"""

from __future__ import annotations

import base64
from itertools import pairwise

from bridge.calls.flight_file import Entry
from bridge.calls.flight_steps import FINISHED
from bridge.calls.picture import CallLane, CallPicture, MarkKind, PictureMark, StateSpan, render_svg
from bridge.media.format import ULAW_8K, Encoding, MediaFormat
from bridge.media.g711 import alaw_to_pcm, ulaw_to_pcm
from bridge.replay import Out, ReplayResult

_BLOCK = (2000).to_bytes(2, "little", signed=True) + (-2000).to_bytes(2, "little", signed=True)
"""Stands for audio that was not kept: two samples that alternate."""

MAX_PICTURE_S = 6 * 3600
"""What is longer is drawn up to here."""

_MARKS = {"interrupted": MarkKind.INTERRUPTION, "tool_accepted": MarkKind.TOOL_CALL, FINISHED: MarkKind.END}


def picture_of(result: ReplayResult) -> str:
    """The call as SVG."""
    header, entries = result.log.header, result.log.entries
    opened_s = header.opened_s
    last_s = max([opened_s, *(entry.t for entry in entries)])
    duration_ms = int(min(last_s - opened_s, MAX_PICTURE_S) * 1000)
    media = MediaFormat.parse(header.carrier_format) if header.carrier_format else ULAW_8K
    spans = [(at, state.value) for at, state in result.history]
    states = tuple(
        StateSpan(_ms(at, opened_s), _ms(until, opened_s), name)
        for (at, name), (until, _) in pairwise([*spans, (last_s, "")])
    )
    marks = [mark for out in result.events if (mark := _mark(out, opened_s)) is not None]
    verdict = "the same again" if result.is_same else f"different from {result.differences[0].at_s:.3f} s on"
    return render_svg(
        CallPicture(
            title=f"Replay of call {header.call_id}",
            subtitle=f"{header.provider}, bridge {header.bridge}, {header.reason or 'in progress'}; {verdict}",
            duration_ms=duration_ms,
            lanes=(_caller(entries, opened_s, media), _agent(entries, opened_s, media)),
            marks=tuple(marks),
            states=states,
        )
    )


def _ms(t: float, opened_s: float) -> int:
    return max(0, int((t - opened_s) * 1000))


def _mark(out: Out, opened_s: float) -> PictureMark | None:
    if out.kind == "carrier_out" and '"clear"' in out.text:
        return PictureMark(_ms(out.t, opened_s), MarkKind.CLEAR, "clear")
    kind = _MARKS.get(out.name) if out.kind == "note" else None
    return None if kind is None else PictureMark(_ms(out.t, opened_s), kind, kind.value, out.text[:80])


class _Lane:
    """L16 that grows; what nothing is written to is silence."""

    def __init__(self, label: str, media: MediaFormat, opened_s: float) -> None:
        self._label, self._media, self._opened_s = label, media, opened_s
        self._pcm = bytearray()

    def write(self, t: float, pcm: bytes) -> None:
        """Audio from this moment on, or behind what is there already."""
        at = min(int(max(0.0, t - self._opened_s) * self._media.rate_hz), MAX_PICTURE_S * self._media.rate_hz) * 2
        if at > len(self._pcm):
            self._pcm += bytes(at - len(self._pcm))
        self._pcm += pcm

    def block(self, t: float, size_bytes: int) -> None:
        """So many bytes of audio in the carrier's format, of which nothing is known."""
        samples = self._media.samples(size_bytes)
        self.write(t, (_BLOCK * (samples // 2 + 1))[: samples * 2])

    def lane(self) -> CallLane:
        """For the picture."""
        return CallLane(self._label, bytes(self._pcm), self._media.rate_hz)


def _caller(entries: list[Entry], opened_s: float, media: MediaFormat) -> CallLane:
    lane = _Lane("Caller", media, opened_s)
    decode = {Encoding.ULAW: ulaw_to_pcm, Encoding.ALAW: alaw_to_pcm}.get(media.encoding)
    for entry in entries:
        if entry.k not in ("relayed", "carrier_audio_in"):
            continue
        if entry.audio:
            payload = base64.b64decode(entry.audio)
            lane.write(entry.t, decode(payload) if decode else payload[: len(payload) // 2 * 2])
        else:
            lane.block(entry.t, entry.size)
    return lane.lane()


def _agent(entries: list[Entry], opened_s: float, media: MediaFormat) -> CallLane:
    lane = _Lane("Agent", media, opened_s)
    for entry in entries:
        if entry.k == "carrier_audio_out":  # characters of a message, three quarters of which are audio
            lane.block(entry.t, entry.size * 3 // 4)
    return lane.lane()
