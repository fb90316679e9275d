"""Small files of calls: whole or not at all, for how long, how much, and what a broken disk does."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from bridge.errors import LocalError
from bridge.server import call_files as module
from bridge.server.call_files import PART, STALE_PART_S, CallFileOptions, CallFiles, NoCallFileError

NOW = 1_800_000_000.0
DAY_S = 86_400


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def files(folder: Path, clock: Clock | None = None, **options: object) -> CallFiles:
    return CallFiles(CallFileOptions(folder, ".x", **options), "x_files", clock or Clock())  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def age(path: Path, days: float) -> None:
    os.utime(path, (NOW - days * DAY_S,) * 2)


async def test_written_and_read(tmp_path: Path) -> None:
    kept = files(tmp_path / "new")
    assert await kept.write("c1", lambda: b"one")
    assert await kept.write("c1", lambda: b"two")
    assert await kept.read("c1") == b"two"
    path = tmp_path / "new" / "c1.x"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(path.parent) == ["c1.x"]
    await kept.delete("c1")
    await kept.delete("c1")
    with pytest.raises(NoCallFileError, match="there is no such file of this call"):
        await kept.read("c1")
    assert kept.stats.written == 2
    await kept.aclose()


@pytest.mark.parametrize("call_id", ["", "../c", "a/b", "x" * 129, "a.b"])
async def test_only_our_ids_name_files(tmp_path: Path, call_id: str) -> None:
    kept = files(tmp_path)
    with pytest.raises(LocalError, match="a call's id is 1 to 128 letters"):
        await kept.read(call_id)
    with pytest.raises(LocalError):
        await kept.write(call_id, bytes)
    await kept.aclose()


async def test_nothing_is_written_for_no_days(tmp_path: Path) -> None:
    kept = files(tmp_path, keep_days=0)
    assert not await kept.write("c1", lambda: b"x")
    assert names(tmp_path) == []
    await kept.aclose()


async def test_old_ones_go_and_what_is_too_much(tmp_path: Path) -> None:
    clock = Clock()
    kept = files(tmp_path, clock, keep_days=10, max_total_bytes=250)
    for name, days in (("old", 11), ("a", 3), ("b", 2), ("c", 1)):
        (tmp_path / f"{name}.x").write_bytes(b"0" * 100)
        age(tmp_path / f"{name}.x", days)
    (tmp_path / "other.txt").write_bytes(b"0" * 1000)
    (tmp_path / f"dead.x{PART}").write_bytes(b"")
    age(tmp_path / f"dead.x{PART}", STALE_PART_S / DAY_S + 1)
    (tmp_path / f"fresh.x{PART}").write_bytes(b"")
    age(tmp_path / f"fresh.x{PART}", 0)
    await kept.prune()
    left = names(tmp_path)
    assert left == ["b.x", "c.x", f"fresh.x{PART}", "other.txt"]
    assert kept.stats.deleted == 2
    age(tmp_path / "b.x", 20)
    await kept.prune()
    assert (tmp_path / "b.x").exists()  # not yet again
    clock.now += 61
    await kept.prune()
    assert not (tmp_path / "b.x").exists()
    await kept.aclose()


async def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    kept = files(tmp_path / "file")
    assert not await kept.write("c1", lambda: b"x")
    assert kept.stats.failed == 1
    await kept.prune(at_once=True)  # says so in the log, and raises nothing
    await kept.aclose()


async def test_a_link_in_the_place_of_a_part_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"precious")
    (tmp_path / f"c1.x{PART}").symlink_to(tmp_path / "mine")
    kept = files(tmp_path)
    assert not await kept.write("c1", lambda: b"x")
    assert (tmp_path / "mine").read_bytes() == b"precious"
    await kept.aclose()


async def test_a_disk_that_stands_still_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    kept = files(tmp_path)
    written = await asyncio.gather(*(kept.write(f"c{number}", lambda: b"x") for number in range(5)))
    assert written == [True, True, False, False, False]
    assert kept.stats.dropped == 3
    await kept.aclose()
