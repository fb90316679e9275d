"""What is left of a recording when its process is killed, or its disk is really full: real processes, real time."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.server.recording.files import recover
from bridge.server.recording.manager import Recorder
from bridge.server.recording.options import RecordingOptions
from tests.kit.process import environment
from tests.kit.recordings import AGENT_HZ, CALLER_HZ, loudest_hz, mp3_frames, read_wav

RECORDING_PROCESS = """
import asyncio, resource, sys
from pathlib import Path
from time import monotonic
from bridge.media.format import ULAW_8K
from bridge.server.recording.manager import Recorder
from bridge.server.recording.options import RecordingOptions
from tests.kit.audio import make_tone
from tests.kit.recordings import AGENT_HZ, CALLER_HZ

folder, audio_format, largest_file = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if largest_file:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

async def main():
    recorder = Recorder(RecordingOptions(folder, audio_format, min_free_bytes=0))
    await recorder.open()
    said, answer = (make_tone(hz, 1000, ULAW_8K) for hz in (CALLER_HZ, AGENT_HZ))
    tapes = [recorder.start(f"call{number}", ULAW_8K, monotonic()) for number in range(20)]
    began = monotonic()
    for index in range(1, 3000):
        await asyncio.sleep(began + index * 0.02 - monotonic())
        for tape in tapes:
            if index % 50 == 1:
                tape.agent(answer, began + (index - 1) * 0.02)
            tape.caller(said[(index - 1) % 50 * 160 :][:160], monotonic())
        print("at", monotonic() - began, all(tape.is_finished for tape in tapes), flush=True)

asyncio.run(main())
"""


class Child:
    """A process that records twenty calls at once and says how long it has done so."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.talked_s = 0.0
        self.gave_up = False

    async def listen(self, until_s: float) -> None:
        """Read what it says until it has talked for so long, or all recordings have ended."""
        assert self.process.stdout is not None
        while self.talked_s < until_s and not self.gave_up:
            line = await self.process.stdout.readline()
            assert line, "the child ended"
            if line.startswith(b"at "):  # the rest is the log
                _, talked_s, gave_up = line.split()
                self.talked_s, self.gave_up = float(talked_s), gave_up == b"True"


def parts_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.part"))


@contextlib.asynccontextmanager
async def child(folder: Path, audio_format: str, largest_file: int = 0) -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-c", RECORDING_PROCESS, str(folder), audio_format, str(largest_file),
        env=environment({}), stdout=PIPE,
    )  # fmt: skip
    try:
        yield Child(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.mark.e2e
async def test_a_killed_process_loses_two_seconds_at_most(tmp_path: Path) -> None:
    async with child(tmp_path, "wav") as recording:
        await recording.listen(until_s=4.3)
        assert recover(tmp_path) == ([], []), "its files were taken from a living process"
        recording.process.kill()
        await recording.process.wait()
    parts = parts_in(tmp_path)
    assert len(parts) == 20
    for part in parts:  # as it was left: any player opens it
        rate_hz, samples = read_wav(part)
        assert recording.talked_s - len(samples) / rate_hz <= 2.0

    recorder = Recorder(RecordingOptions(tmp_path, min_free_bytes=0))
    await recorder.open()
    found = await recorder.recover()
    await recorder.close()
    assert len(found) == 20
    for call_id, left in found:
        assert not left.complete
        assert recording.talked_s - left.duration_ms / 1000 <= 2.0
        rate_hz, samples = read_wav(tmp_path / f"{call_id}.wav")
        assert len(samples) * 1000 // rate_hz == left.duration_ms
        middle = samples[rate_hz : 2 * rate_hz]
        assert [loudest_hz(middle[:, side], rate_hz) for side in (0, 1)] == [CALLER_HZ, AGENT_HZ]


@pytest.mark.e2e
async def test_a_killed_process_loses_no_more_of_an_mp3(tmp_path: Path) -> None:
    async with child(tmp_path, "mp3") as recording:
        await recording.listen(until_s=4.3)
        recording.process.kill()
        await recording.process.wait()
    found, failed = recover(tmp_path)
    assert (len(found), failed) == (20, [])
    for call_id, left in found:
        assert recording.talked_s - left.duration_ms / 1000 <= 2.0
        frames = mp3_frames((tmp_path / f"{call_id}.mp3").read_bytes())
        assert recording.talked_s - sum(frame.samples for frame in frames[:-1]) / 8000 <= 2.0


@pytest.mark.e2e
async def test_a_disk_that_takes_no_more_ends_recordings_and_leaves_them_valid(tmp_path: Path) -> None:
    largest = 60_000
    async with child(tmp_path, "wav", largest) as recording:
        await recording.listen(until_s=20.0)
        assert recording.gave_up
        before_s, recording.gave_up = recording.talked_s, False
        await recording.listen(until_s=before_s + 0.1)  # the calls go on
        assert recording.talked_s > before_s
        assert recording.process.returncode is None
    for part in parts_in(tmp_path):
        assert part.stat().st_size <= largest
        assert len(read_wav(part)[1]) > 0
