"""``bridge.server.recording.uploads``: every finished file gets into the bucket once, whatever the bucket does."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from bridge.server.recording.bucket import BucketError
from bridge.server.recording.uploads import Uploader
from tests.kit.logs import captured
from tests.kit.server import until


class Store:
    """A bucket in memory that fails as often as it is told to."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.attempts: list[str] = []
        self.failing = 0
        self.refused: set[str] = set()
        self.before_done: Callable[[], None] = lambda: None
        self.cannot_delete = False

    def upload(self, path: Path, name: str, on_progress: Callable[[int], None]) -> None:
        self.attempts.append(name)
        data = path.read_bytes()
        on_progress(len(data))
        if self.failing or name in self.refused:
            self.failing = max(0, self.failing - 1)
            raise BucketError("the bucket is down")
        self.before_done()
        on_progress(0)
        self.objects[name] = data

    def delete(self, name: str) -> None:
        if self.cannot_delete:
            raise BucketError("the bucket is down")
        self.objects.pop(name, None)


@contextlib.asynccontextmanager
async def running(folder: Path, store: Store, rescan_s: float = 300.0) -> AsyncIterator[Uploader]:
    uploader = Uploader(folder, store, first_retry_s=0.01, rescan_s=rescan_s, jitter=lambda: 0.0)
    uploader.start()
    try:
        yield uploader
    finally:
        await uploader.close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def finish(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(name.encode())


async def test_what_is_added_goes_up_and_leaves_the_folder(tmp_path: Path) -> None:
    store = Store()
    async with running(tmp_path, store) as uploader:
        finish(tmp_path, *(names := [f"{number}.wav" for number in range(9)]))
        uploader.add(names)
        uploader.add(names)
        await until(lambda: not uploader.pending)
        assert (uploader.uploaded, uploader.failures) == (9, 0)
    assert store.objects == {name: name.encode() for name in names}
    assert sorted(store.attempts) == sorted(names)
    assert names_in(tmp_path) == []


async def test_what_an_earlier_process_left_goes_up(tmp_path: Path) -> None:
    finish(tmp_path, "a.wav", "b.mp3", "c.wav.part", "notes.txt")
    store = Store()
    async with running(tmp_path, store):
        await until(lambda: len(store.objects) == 2)
    assert sorted(store.objects) == ["a.wav", "b.mp3"]
    assert names_in(tmp_path) == ["c.wav.part", "notes.txt"]


async def test_what_another_process_leaves_is_found_later(tmp_path: Path) -> None:
    store = Store()
    async with running(tmp_path, store, rescan_s=0.02):
        await asyncio.sleep(0.03)
        finish(tmp_path, "late.wav")
        await until(lambda: "late.wav" in store.objects)


async def test_a_bucket_that_is_down_is_tried_again_with_back_off(tmp_path: Path) -> None:
    finish(tmp_path, "a.wav")
    store = Store()
    store.failing = 4
    with captured() as lines:
        async with running(tmp_path, store) as uploader:
            await until(lambda: store.objects)
            await until(lambda: not uploader.pending)
            assert (uploader.uploaded, uploader.failures) == (1, 4)
    waits = [line["retry_s"] for line in lines if line["event"] == "recording_upload_waits"]
    assert len(waits) == 4
    assert [line["problem"] for line in lines if line["event"] == "recording_upload_failed"] == 4 * [
        "the bucket is down"
    ]


async def test_the_back_off_grows(tmp_path: Path) -> None:
    finish(tmp_path, "a.wav")
    store = Store()
    store.failing = 4
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with running(tmp_path, store):
        await until(lambda: store.objects)
    assert loop.time() - began_s >= 0.5 * (0.01 + 0.02 + 0.04 + 0.08)


async def test_one_bad_file_does_not_hold_up_the_others(tmp_path: Path) -> None:
    store = Store()
    store.refused = {"bad.wav"}
    finish(tmp_path, "bad.wav", *(names := [f"{number}.wav" for number in range(20)]))
    async with running(tmp_path, store) as uploader:
        await until(lambda: len(store.objects) == 20)
        await until(lambda: uploader.pending == 1)
    assert sorted(store.objects) == sorted(names)
    assert (tmp_path / "bad.wav").exists()


async def test_a_file_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    store = Store()
    async with running(tmp_path, store) as uploader:
        uploader.add(["gone.wav"])
        await until(lambda: not uploader.pending)
        assert (uploader.uploaded, uploader.failures, store.attempts) == (0, 0, [])


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    finish(tmp_path, "target")
    (tmp_path / "a.wav").symlink_to(tmp_path / "target")
    store = Store()
    async with running(tmp_path, store) as uploader:
        await until(lambda: uploader.failures)
    assert store.objects == {}


async def test_a_file_that_another_process_uploads_is_left_to_it(tmp_path: Path) -> None:
    finish(tmp_path, "a.wav")
    store = Store()
    with (tmp_path / "a.wav").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        async with running(tmp_path, store) as uploader:
            uploader.add(["a.wav"])
            await until(lambda: not uploader.pending)
    assert store.attempts == []
    assert (tmp_path / "a.wav").exists()


async def test_a_recording_deleted_while_it_goes_up_is_taken_back(tmp_path: Path) -> None:
    finish(tmp_path, "a.wav")
    store = Store()
    store.before_done = (tmp_path / "a.wav").unlink
    async with running(tmp_path, store) as uploader:
        uploader.add(["a.wav"])
        await until(lambda: not uploader.pending)
        assert uploader.uploaded == 0
    assert store.attempts == ["a.wav"]
    assert store.objects == {}


async def test_a_deletion_that_fails_is_told(tmp_path: Path) -> None:
    finish(tmp_path, "a.wav")
    store = Store()
    store.before_done, store.cannot_delete = (tmp_path / "a.wav").unlink, True
    with captured() as lines:
        async with running(tmp_path, store) as uploader:
            uploader.add(["a.wav"])
            await until(lambda: not uploader.pending)
    assert [(line["log_level"], line["recording"]) for line in lines if line["event"] == "recording_not_deleted"] == [
        ("error", "a.wav")
    ]


async def test_the_end_of_the_process_breaks_uploads_off_and_keeps_their_files(tmp_path: Path) -> None:
    finish(tmp_path, "a.wav")
    store = Store()
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        assert go_on.wait(10)

    store.before_done = slow
    with captured() as lines:
        async with running(tmp_path, store) as uploader:
            await until(begun.is_set)
            closing = asyncio.create_task(uploader.close())
            await asyncio.sleep(0)
            go_on.set()
            await closing
    assert store.objects == {}
    assert (tmp_path / "a.wav").exists()
    assert lines == []


async def test_an_uploader_that_never_began_can_be_closed(tmp_path: Path) -> None:
    await Uploader(tmp_path, Store()).close()
