"""``bridge.server.recording.manager``: calls on one side, files on the other, and a loop that is never held up."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.calls.record import Recording
from bridge.calls.tap import Tap
from bridge.errors import ConfigError, LocalError
from bridge.media.format import ALAW_8K, PCM_8K, PCM_16K, ULAW_8K, MediaFormat
from bridge.server.recording import manager
from bridge.server.recording.encoders import WavEncoder
from bridge.server.recording.files import GrowingFile
from bridge.server.recording.manager import CallTape, Recorder
from bridge.server.recording.options import RecordingOptions
from tests.kit.audio import make_tone
from tests.kit.clock import FakeClock
from tests.kit.logs import captured
from tests.kit.recordings import AGENT_HZ, CALLER_HZ, loudest_hz, mp3_frames, read_wav, stereo
from tests.kit.server import until

FORMATS = (ULAW_8K, ALAW_8K, PCM_8K, PCM_16K)


@pytest.fixture(autouse=True)
def fast_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds as fast as the threads are: what is due is told by the tests' clock."""
    monkeypatch.setattr(manager, "PERIOD_S", 0.0)


@contextlib.asynccontextmanager
async def recording(folder: Path, clock: FakeClock, **options: Any) -> AsyncIterator[Recorder]:
    write = options.pop("write", os.write)
    recorder = Recorder(RecordingOptions(folder, **{"min_free_bytes": 0, **options}), lambda: clock.now, write=write)
    await recorder.open()
    try:
        yield recorder
    finally:
        await recorder.close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def talk(tape: Tap, media: MediaFormat, clock: FakeClock, seconds: float) -> None:
    """The caller's tone for so long, the agent's handed over ahead of time; the clock goes along."""
    said = make_tone(CALLER_HZ, seconds * 1000, media)
    tape.agent(make_tone(AGENT_HZ, seconds * 1000, media), clock.now)
    size = media.size_bytes(20)
    for at in range(0, len(said), size):
        tape.caller(said[at : at + size], clock.advance(0.02))


@pytest.mark.parametrize("media", FORMATS, ids=lambda media: media.name)
async def test_a_call_becomes_a_file(tmp_path: Path, media: MediaFormat) -> None:
    clock = FakeClock()
    async with recording(tmp_path / "new" / "folder", clock) as recorder:
        tape = recorder.start("call", media, clock.now)
        talk(tape, media, clock, 2.0)
        assert recorder.active == 1
        assert await recorder.finish("call") == Recording(
            location="call.wav",
            format="wav",
            duration_ms=2000,
            size_bytes=44 + 8 * media.rate_hz,
            complete=True,
        )
        assert recorder.active == 0
        assert (recorder.stats.started, recorder.stats.finished, recorder.stats.incomplete) == (1, 1, 0)
        assert recorder.stats.written_bytes == 44 + 8 * media.rate_hz
    rate_hz, samples = read_wav(tmp_path / "new" / "folder" / "call.wav")
    assert (rate_hz, len(samples)) == (media.rate_hz, 2 * media.rate_hz)
    middle = samples[rate_hz // 4 : 7 * rate_hz // 4]
    assert [loudest_hz(middle[:, side], rate_hz) for side in (0, 1)] == [CALLER_HZ, AGENT_HZ]
    assert stat.S_IMODE((tmp_path / "new" / "folder").stat().st_mode) == 0o700


async def test_the_file_grows_while_the_call_lasts(tmp_path: Path) -> None:
    clock = FakeClock()
    async with recording(tmp_path, clock) as recorder:
        tape = recorder.start("call", PCM_8K, clock.now)
        talk(tape, PCM_8K, clock, 3.0)
        part = tmp_path / "call.wav.part"
        await until(lambda: part.exists() and part.stat().st_size == 44 + int(2.5 * 32_000))
        assert len(read_wav(part)[1]) == 20_000
        assert recorder.recording_of(tape) == Recording(location="call.wav", format="wav", complete=False)
        await recorder.finish("call")
    assert names_in(tmp_path) == ["call.wav"]


async def test_a_call_becomes_an_mp3(tmp_path: Path) -> None:
    clock = FakeClock()
    async with recording(tmp_path, clock, format="mp3") as recorder:
        tape = recorder.start("call", ULAW_8K, clock.now)
        talk(tape, ULAW_8K, clock, 3.0)
        done = await recorder.finish("call")
    assert (done.location, done.format, done.duration_ms, done.complete) == ("call.mp3", "mp3", 3000, True)
    data = (tmp_path / "call.mp3").read_bytes()
    assert len(data) == done.size_bytes
    assert 3.0 <= sum(frame.samples for frame in mp3_frames(data)) / 8000 <= 3.25


async def test_many_calls_at_once_do_not_mix(tmp_path: Path) -> None:
    clock = FakeClock()
    async with recording(tmp_path, clock) as recorder:
        tapes = [recorder.start(f"call{number}", PCM_8K, clock.now) for number in range(25)]
        for index in range(100):
            now = clock.advance(0.02)
            for number, tape in enumerate(tapes):
                tape.caller((number + 1).to_bytes(2, "little") * 160, now)
            if index % 20 == 0:
                await asyncio.sleep(0.01)
        await asyncio.gather(*(recorder.finish(tape.call_id) for tape in tapes))
    for number in range(25):
        _, samples = read_wav(tmp_path / f"call{number}.wav")
        assert set(samples[:, 0].tolist()) == {number + 1}
        assert len(samples) == 16_000


async def test_pauses_are_marked(tmp_path: Path) -> None:
    clock = FakeClock()
    async with recording(tmp_path, clock) as recorder:
        tape = recorder.start("call", PCM_8K, clock.now)
        talk(tape, PCM_8K, clock, 1.0)
        tape.pause(clock.now)
        talk(tape, PCM_8K, clock, 1.0)
        assert recorder.recording_of(tape).pauses == []
        tape.resume(clock.now)
        talk(tape, PCM_8K, clock, 1.0)
        assert recorder.recording_of(tape).pauses == [(1.0, 2.0)]
        done = await recorder.finish("call")
    assert done.pauses == [(1.0, 2.0)]
    assert done.complete
    _, samples = read_wav(tmp_path / "call.wav")
    assert not samples[8000:16_000].any()
    assert samples[:8000].any()
    assert samples[16_000:].any()


async def test_closing_finishes_what_is_being_recorded(tmp_path: Path) -> None:
    clock = FakeClock()
    async with recording(tmp_path, clock) as recorder:
        talk(recorder.start("a", PCM_8K, clock.now), PCM_8K, clock, 1.0)
        recorder.start("b", PCM_8K, clock.now)
        assert await recorder.recover() == []
    assert names_in(tmp_path) == ["a.wav"]
    assert len(read_wav(tmp_path / "a.wav")[1]) == 8000


async def test_misuse_is_named(tmp_path: Path) -> None:
    clock = FakeClock()
    async with recording(tmp_path, clock) as recorder:
        recorder.start("call", PCM_8K, clock.now)
        with pytest.raises(LocalError, match="this call is being recorded already"):
            recorder.start("call", PCM_8K, clock.now)
        with pytest.raises(LocalError, match="a call's id is"):
            recorder.start("../call", PCM_8K, clock.now)
        with pytest.raises(LocalError, match="this call is not being recorded"):
            await recorder.finish("another")


async def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    recorder = Recorder(RecordingOptions(tmp_path / "file"))
    with pytest.raises(ConfigError, match="the folder for recordings cannot be used: File exists"):
        await recorder.open()
    await recorder.close()


async def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    recorder = Recorder(RecordingOptions(tmp_path))
    with pytest.raises(ConfigError, match="the folder for recordings cannot be used: not writable"):
        await recorder.open()
    await recorder.close()


async def test_mp3_without_lame_is_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lameenc", None)
    recorder = Recorder(RecordingOptions(tmp_path, "mp3"))
    with pytest.raises(ConfigError, match=r"pip install 'telephony-bridge\[mp3\]'"):
        await recorder.open()
    await recorder.close()


# --- faults ---


async def test_a_full_disk_ends_the_recording_and_not_the_call(tmp_path: Path) -> None:
    clock, full = FakeClock(), threading.Event()

    def write(fd: int, data: bytes) -> int:
        if full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(fd, data)

    with captured() as lines:
        async with recording(tmp_path, clock, write=write) as recorder:
            tape = recorder.start("call", PCM_8K, clock.now)
            talk(tape, PCM_8K, clock, 2.0)
            await until(lambda: tape.written_s == 1.5)
            full.set()
            talk(tape, PCM_8K, clock, 2.0)
            await until(lambda: tape.is_finished)
            talk(tape, PCM_8K, clock, 60.0)
            assert tape.held_bytes < 200_000
            done = await recorder.finish("call")
            assert (recorder.stats.finished, recorder.stats.incomplete) == (1, 1)
    assert done == Recording(
        location="call.wav", format="wav", duration_ms=1500, size_bytes=44 + 48_000, complete=False
    )
    assert len(read_wav(tmp_path / "call.wav")[1]) == 12_000
    said = [(line["log_level"], line["event"], line["problem"]) for line in lines]
    assert said == [
        ("error", "recording_stopped", "No space left on device"),
        ("error", "recording_incomplete", "No space left on device"),
    ]


async def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    clock = FakeClock()

    def write(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with captured():
        async with recording(tmp_path, clock, write=write) as recorder:
            talk(recorder.start("call", PCM_8K, clock.now), PCM_8K, clock, 1.0)
            done = await recorder.finish("call")
    assert (done.size_bytes, done.duration_ms, done.complete) == (0, 0, False)
    assert names_in(tmp_path) == []


async def test_a_disk_that_fails_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with captured() as lines:
        async with recording(tmp_path, clock) as recorder:
            talk(recorder.start("call", PCM_8K, clock.now), PCM_8K, clock, 1.0)
            monkeypatch.setattr(os, "fsync", broken)
            done = await recorder.finish("call")
    assert (done.size_bytes, done.complete) == (0, False)
    assert [line["problem"] for line in lines] == ["Input/output error"]


async def test_below_the_floor_of_free_space_nothing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    room = os.statvfs(tmp_path)
    free = [room.f_bavail]
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*room[:4], free[0], *room[5:])))
    with captured() as lines:
        async with recording(tmp_path, clock, min_free_bytes=1_000_000) as recorder:
            before = recorder.start("before", PCM_8K, clock.now)
            talk(before, PCM_8K, clock, 2.0)
            await until(lambda: before.written_s == 1.5)
            free[0] = 1
            await until(lambda: before.is_finished)
            within = recorder.start("within", PCM_8K, clock.now)
            assert within.is_finished
            free[0] = room.f_bavail
            await until(lambda: any(line["event"] == "recording_space_again" for line in lines))
            talk(recorder.start("after", PCM_8K, clock.now), PCM_8K, clock, 1.0)
            done = [await recorder.finish(call_id) for call_id in ("before", "within", "after")]
            assert (recorder.stats.finished, recorder.stats.incomplete) == (3, 2)
    assert [(each.duration_ms, each.complete) for each in done] == [(1500, False), (0, False), (1000, True)]
    assert names_in(tmp_path) == ["after.wav", "before.wav"]
    low = [line for line in lines if line["event"] == "recording_space_low"]
    assert [(line["log_level"], line["min_free_bytes"]) for line in low] == [("error", 1_000_000)]


async def test_too_little_space_at_the_start_is_told(tmp_path: Path) -> None:
    with captured() as lines:
        async with recording(tmp_path, FakeClock(), min_free_bytes=1 << 60) as recorder:
            assert recorder.start("call", PCM_8K, 1000.25).is_finished
    assert lines[0]["event"] == "recording_space_low"


async def test_space_that_cannot_be_told_is_taken_for_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(path: object) -> os.statvfs_result:
        raise OSError(errno.ENOSYS, "not here")

    monkeypatch.setattr(os, "statvfs", unknown)
    async with recording(tmp_path, FakeClock(), min_free_bytes=1 << 60) as recorder:
        assert not recorder.start("call", PCM_8K, 1000.25).is_finished


async def test_a_recording_ends_at_its_longest(tmp_path: Path) -> None:
    clock = FakeClock()
    with captured() as lines:
        async with recording(tmp_path, clock, longest_s=2.0) as recorder:
            tape = recorder.start("call", PCM_8K, clock.now)
            talk(tape, PCM_8K, clock, 3.0)
            await until(lambda: tape.is_finished)
            talk(tape, PCM_8K, clock, 3.0)
            done = await recorder.finish("call")
    assert (done.duration_ms, done.complete) == (2500, False)
    assert lines[0]["problem"] == "longer than the longest recording"
    assert len(read_wav(tmp_path / "call.wav")[1]) == 20_000


async def test_a_disk_that_hangs_holds_up_neither_the_loop_nor_the_calls_end(tmp_path: Path) -> None:
    clock, released = FakeClock(), threading.Event()

    def write(fd: int, data: bytes) -> int:
        assert released.wait(10)
        return os.write(fd, data)

    with captured() as lines:
        async with recording(tmp_path, clock, write=write, finish_timeout_s=0.05) as recorder:
            tape = recorder.start("call", PCM_8K, clock.now)
            talk(tape, PCM_8K, clock, 120.0)
            assert tape.dropped_bytes > 0
            assert tape.held_bytes < 30 * 24_000 + 1000
            done = await recorder.finish("call")
            released.set()
            await until((tmp_path / "call.wav").exists)
            assert recorder.stats.dropped_bytes == tape.dropped_bytes
    assert done == Recording(location="call.wav", format="wav", duration_ms=0, size_bytes=0, complete=False)
    assert lines[-1]["problem"] == "the disk did not take the end in time"


async def test_audio_that_waited_too_long_makes_a_recording_incomplete(tmp_path: Path) -> None:
    clock = FakeClock()
    with captured() as lines:
        async with recording(tmp_path, clock) as recorder:
            tape = recorder.start("call", PCM_8K, clock.now)
            for _ in range(3000):  # without a chance for the background to run
                tape.caller(bytes(320), clock.advance(0.02))
            done = await recorder.finish("call")
    assert (done.duration_ms, done.complete) == (60_000, False)
    assert lines[-1]["problem"] == "the disk was too slow for the call's audio"
    assert lines[-1]["dropped_bytes"] == tape.dropped_bytes > 0


@pytest.mark.parametrize("where", ["take", "end", "round"])
async def test_a_bug_takes_no_other_recording_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    clock = FakeClock()
    real_take, real_end = CallTape.take, GrowingFile.end

    def take(self: CallTape, until_s: float) -> bytes:
        if self.call_id == "bad" and where == "take":
            raise ZeroDivisionError
        return real_take(self, until_s)

    def end(self: GrowingFile, *, flush: bool = True) -> int:
        size = real_end(self, flush=flush)
        if "bad" in str(self._path) and where == "end":
            raise ZeroDivisionError
        return size

    monkeypatch.setattr(CallTape, "take", take)
    monkeypatch.setattr(GrowingFile, "end", end)
    with captured() as lines:
        async with recording(tmp_path, clock) as recorder:
            if where == "round":
                monkeypatch.setattr(recorder, "_look_for_space", lambda: 1 // 0)
            for call_id in ("bad", "good"):
                talk(recorder.start(call_id, PCM_8K, clock.now), PCM_8K, clock, 1.0)
            await until(lambda: where == "end" or any(line["event"] == "recording_bug" for line in lines))
            bad, good = await recorder.finish("bad"), await recorder.finish("good")
    assert good.complete
    assert bad.complete == (where == "round")
    assert any(line["event"] == "recording_bug" and line["log_level"] == "error" for line in lines)


# --- after a crash ---


async def test_left_overs_are_recovered(tmp_path: Path) -> None:
    pcm = stereo(8000, 1.0)
    (tmp_path / "dead.wav.part").write_bytes(WavEncoder(8000).header(0) + pcm)
    (tmp_path / "odd.wav.part").write_bytes(b"x" * 100)
    clock = FakeClock()
    with captured() as lines:
        async with recording(tmp_path, clock) as recorder:
            talk(recorder.start("living", PCM_8K, clock.now), PCM_8K, clock, 2.0)
            await until((tmp_path / "living.wav.part").exists)
            assert await recorder.recover() == [
                ("dead", Recording(location="dead.wav", format="wav", duration_ms=1000, size_bytes=32_044))
            ]
            assert (recorder.stats.recovered, recorder.stats.incomplete) == (1, 1)
            assert (await recorder.finish("living")).complete
    assert [(line["event"], line.get("recording"), line.get("count")) for line in lines] == [
        ("recording_not_recovered", "odd.wav.part", None),
        ("recordings_recovered", None, 1),
    ]
    assert names_in(tmp_path) == ["dead.wav", "living.wav", "odd.wav.part"]


@pytest.mark.e2e
async def test_an_hour_of_many_calls_leaves_no_memory_behind(tmp_path: Path) -> None:
    clock = FakeClock()
    async with recording(tmp_path, clock) as recorder:
        for number in range(5):
            tape = recorder.start(f"hour{number}", ULAW_8K, clock.now)
            for index in range(1, 12 * 60 * 50 + 1):
                tape.caller(b"\x10" * 160, clock.advance(0.02))
                if index % 500 == 0:
                    await until(lambda tape=tape: tape.written_s >= clock.now - tape.started_s - 1.0)  # type: ignore[misc]
                    assert tape.held_bytes < 60_000
            done = await recorder.finish(f"hour{number}")
            assert (done.duration_ms, done.complete) == (720_000, True)
            del tape
        gc.collect()
        left = [each.call_id for each in gc.get_objects() if isinstance(each, CallTape)]
        assert not [call_id for call_id in left if call_id.startswith("hour")]
