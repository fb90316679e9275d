"""Audio that waits to be passed on: whole files only, bounded in size and age."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bridge.server.audio_spool import AudioSpool, SpoolFull, SpoolOptions
from bridge.server.outbox_audio import AudioMissing

NOW = 1_700_000_000.0


def spool(folder: Path, **options: int) -> AudioSpool:
    return AudioSpool(SpoolOptions(folder / "spool", **options), unix=lambda: NOW)


async def others(location: str) -> AsyncIterator[bytes]:
    yield b"elsewhere: " + location.encode()


async def read(kept: AudioSpool, location: str) -> bytes:
    return b"".join([piece async for piece in kept.opener(others)(location)])


async def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    kept = spool(tmp_path)
    location = await kept.save("evt_1", [b"one", b"two"])
    assert location == "spool/evt_1.mp3"
    assert await read(kept, location) == b"onetwo"
    assert (tmp_path / "spool" / "evt_1.mp3").stat().st_mode & 0o777 == 0o600
    await kept.save("evt_1", [b"again"])
    assert await read(kept, location) == b"again"


async def test_other_locations_go_elsewhere(tmp_path: Path) -> None:
    assert await read(spool(tmp_path), "call1.mp3") == b"elsewhere: call1.mp3"


@pytest.mark.parametrize("location", ["spool/evt_2.mp3", "spool/../secret.mp3", "spool//etc/passwd", "spool/"])
async def test_what_is_not_there_is_missing(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.mp3").write_bytes(b"secret")
    with pytest.raises(AudioMissing):
        await read(spool(tmp_path), location)


async def test_a_broken_save_leaves_nothing(tmp_path: Path) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"some"
        raise ValueError("broke")

    with pytest.raises(ValueError, match="^broke$"):
        await spool(tmp_path).save("evt_1", breaking())
    assert list((tmp_path / "spool").iterdir()) == []


async def test_the_folder_has_a_bound(tmp_path: Path) -> None:
    kept = spool(tmp_path, max_bytes=10)
    await kept.save("evt_1", [b"12345678"])
    with pytest.raises(SpoolFull, match="^more than 10 bytes of audio wait to be passed on$"):
        await kept.save("evt_2", [b"123"])
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["evt_1.mp3"]


async def test_old_files_go(tmp_path: Path) -> None:
    kept = spool(tmp_path, keep_s=100)
    await kept.save("old", [b"x"])
    await kept.save("young", [b"x"])
    os.utime(tmp_path / "spool" / "old.mp3", (NOW - 101, NOW - 101))
    os.utime(tmp_path / "spool" / "young.mp3", (NOW - 99, NOW - 99))
    await kept.save("new", [b"x"])
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == ["new.mp3", "young.mp3"]
