"""The picture of a stored call: what is drawn of its record, and its recording thinned out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from bridge.calls.journal import Journal
from bridge.calls.picture_model import MarkKind
from bridge.calls.record import CallRecord, Recording
from bridge.server.api.examples import RECORD
from bridge.server.console import picture as picture_module
from bridge.server.console.picture import Pictures, _step, audio_at_s, picture_of
from bridge.server.recording.encoders import WavEncoder
from bridge.server.recording.library import AudioLibrary


def call(**changes: object) -> CallRecord:
    journal = Journal()
    for event, at_s in (("admitting", 0.0), ("connecting", 0.5), ("active", 1.0), ("interrupted", 2.0), ("ended", 4.0)):
        journal.step(event, "", at_s)
    journal.tool_called("find_slot", "t1", {}, 2.5)
    journal.tool_answered("t1", "ten", 2.62, is_error=False)
    journal.tool_called("runs", "t2", {}, 3.0)
    journal.pressed("5", 100, 3.2)
    journal.pressed("", 0, 3.4)
    copy = msgspec.structs.replace(RECORD, journal=journal, created_at=100.0, ended_at=104.0, recording=None)
    return msgspec.structs.replace(copy, **changes)


async def drawn(record: CallRecord, now: float = 200.0) -> tuple[str, list[tuple[MarkKind, str, int]]]:
    pictures = Pictures(None)
    lanes = await pictures._lanes(None, 0.0)
    picture = picture_of(record, lanes, now)
    return await pictures.svg(record, now), [(mark.kind, mark.label, mark.at_ms) for mark in picture.marks]


async def test_marks_and_states_come_from_the_journal() -> None:
    svg, marks = await drawn(call())
    assert marks == [
        (MarkKind.INTERRUPTION, "interrupted", 2000),
        (MarkKind.TOOL_CALL, "find_slot", 2500),
        (MarkKind.TOOL_CALL, "runs", 3000),
        (MarkKind.DTMF, "5", 3200),
        (MarkKind.DTMF, "•", 3400),
        (MarkKind.END, "end", 4000),
    ]
    assert (
        "Caller (not recorded)" in svg
        and "active 3.00 s" in svg
        and "ended" not in svg.split("Legend")[1].split("end")[0]
    )
    assert audio_at_s(call()) == 0.5
    assert audio_at_s(call(journal=Journal())) == 0.0


async def test_a_call_that_goes_on_is_drawn_until_now_and_not_kept() -> None:
    record = call(ended_at=None, reason="", result="")
    pictures = Pictures(None)
    first, later = await pictures.svg(record, 110.0), await pictures.svg(record, 120.0)
    assert first != later and "20.00 s" in later
    assert not pictures._kept


def wav(folder: Path, seconds: float, rate_hz: int = 8000) -> Recording:
    sides = np.zeros((int(seconds * rate_hz), 2), "<i2")
    sides[rate_hz : 2 * rate_hz, 0] = np.resize([9000, -9000], rate_hz)
    sides[2 * rate_hz : 3 * rate_hz, 1] = np.resize([5000, -5000, 1000], rate_hz)
    (folder / "c1.wav").write_bytes(WavEncoder(rate_hz).header(sides.nbytes) + sides.tobytes())
    return Recording(location="c1.wav", format="wav", complete=True, size_bytes=sides.nbytes + 44)


@pytest.mark.parametrize("kept", [3_000_000, 5_000])
async def test_a_recording_is_thinned_out_and_keeps_its_times(
    kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_module, "KEPT_SAMPLES", kept)
    pictures = Pictures(AudioLibrary(tmp_path))
    caller, agent = await pictures._lanes(wav(tmp_path, 4.0), 0.5)
    step = 1 if kept > 32_000 else 8
    assert caller.rate_hz == agent.rate_hz == 8000 // step
    for lane, begins_s in ((caller, 1.5), (agent, 2.5)):
        loud = np.flatnonzero(np.frombuffer(lane.pcm, "<i2")) / lane.rate_hz
        assert loud[0] == pytest.approx(begins_s, abs=0.01)
        assert loud[-1] == pytest.approx(begins_s + 1.0, abs=0.01)


def test_what_is_left_out_divides_the_rate() -> None:
    assert [_step(8000, samples) for samples in (0, 3_000_000, 3_000_001, 28_800_000, 10**10)] == [1, 1, 2, 16, 16]
    assert _step(16000, 57_600_000) == 32


async def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    pictures = Pictures(AudioLibrary(tmp_path))
    gone = Recording(location="c2.wav", format="wav", complete=True)
    assert "Caller (deleted)" in await pictures.svg(call(recording=gone), 0.0)
    mp3 = Recording(location="c1.mp3", format="mp3", complete=True)
    assert "Agent (mp3)" in await pictures.svg(call(recording=mp3, id="another"), 0.0)
    growing = Recording(location="c1.wav", format="wav")
    assert "not recorded" in await pictures.svg(call(recording=growing, id="other"), 0.0)


async def test_the_latest_pictures_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_module, "MAX_PICTURES", 2)
    pictures = Pictures(None)
    first = await pictures.svg(call(id="a"), 0.0)
    await pictures.svg(call(id="b"), 0.0)
    assert await pictures.svg(call(id="a"), 0.0) is first
    await pictures.svg(call(id="c"), 0.0)
    assert [name for name, _, _ in pictures._kept] == ["a", "c"]
