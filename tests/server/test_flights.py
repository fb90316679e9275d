"""Flight records on disk: whose, whole or not at all, for how long, and what a broken disk does."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from bridge import outcome
from bridge.calls.flight import FlightOptions, Snapshot, new_flight
from bridge.calls.flight_file import FlightHeader, FlightRequest, decode_flight
from bridge.calls.flight_privacy import Privacy
from bridge.errors import LocalError
from bridge.outcome import EndReason
from bridge.server import flights as module
from bridge.server.flights import PART, SUFFIX, FlightFileOptions, Flights, FlightsKept, NoFlightError
from tests.kit.legs import REQUEST

NOW = 1_800_000_000.0
DAY_S = 86_400


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def flights(folder: Path, clock: Clock | None = None, **options: object) -> Flights:
    return Flights(FlightFileOptions(folder, **options), clock or Clock())  # type: ignore[arg-type]


def header(call_id: str) -> FlightHeader:
    return FlightHeader(provider="twilio", call_id=call_id, opened_s=1.0, request=FlightRequest("/twilio/media"))


def snapshot() -> Snapshot:
    flight = new_flight(FlightOptions(), REQUEST, 1.0)
    flight.note("active")
    return flight.snapshot()


async def write(kept: Flights, call_id: str = "c1") -> bool:
    return await kept.write(snapshot(), header(call_id), Privacy())


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def put(folder: Path, call_id: str, *, days_old: float, size: int = 100) -> None:
    path = folder / f"{call_id}{SUFFIX}"
    path.write_bytes(b"x" * size)
    os.utime(path, (NOW - days_old * DAY_S,) * 2)


@pytest.mark.parametrize(
    ("kept", "reason", "asked", "wanted"),
    [
        (FlightsKept.OFF, outcome.BUG, False, False),
        (FlightsKept.OFF, outcome.BUG, True, True),
        (FlightsKept.ERRORS, outcome.CALLER_HANGUP, False, False),
        (FlightsKept.ERRORS, outcome.CALLER_HANGUP, True, True),
        (FlightsKept.ERRORS, outcome.AGENT_LOST, False, True),
        (FlightsKept.ERRORS, outcome.CARRIER_LOST, False, True),
        (FlightsKept.ALL, outcome.CALLER_HANGUP, False, True),
    ],
)
def test_whose_records_are_written(
    tmp_path: Path, kept: FlightsKept, reason: EndReason, asked: bool, wanted: bool
) -> None:
    folder = flights(tmp_path, kept=kept)
    if asked:
        folder.want("c1")
    assert folder.is_wanted("c1", reason) is wanted
    assert folder.is_wanted("c1", outcome.CALLER_HANGUP) is (kept is FlightsKept.ALL), "once"


def test_nothing_is_written_that_must_not_be_kept(tmp_path: Path) -> None:
    folder = flights(tmp_path, kept=FlightsKept.ALL, keep_days=0)
    folder.want("c1")
    assert not folder.is_wanted("c1", outcome.BUG)


async def test_a_record_is_written_and_read(tmp_path: Path) -> None:
    kept = Flights(FlightFileOptions(tmp_path / "data" / "flights"))
    assert await write(kept)
    data = await kept.open("c1")
    assert decode_flight(data).header.call_id == "c1"
    assert data == await kept.pack(snapshot(), header("c1"), Privacy())
    assert await kept.listed() == ["c1"]
    (path,) = files_in(tmp_path / "data" / "flights")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert kept.stats.written == 1
    await kept.delete("c1")
    await kept.delete("c1")
    with pytest.raises(NoFlightError):
        await kept.open("c1")
    await kept.aclose()


async def test_no_folder_is_no_mistake(tmp_path: Path) -> None:
    kept = flights(tmp_path / "none")
    assert await kept.listed() == []
    with pytest.raises(NoFlightError):
        await kept.open("c1")
    await kept.prune(at_once=True)
    await kept.aclose()


@pytest.mark.parametrize("call_id", ["", "../c1", "a/b", "x" * 129])
async def test_no_other_file_is_ever_touched(tmp_path: Path, call_id: str) -> None:
    kept = flights(tmp_path)
    with pytest.raises(LocalError):
        await kept.open(call_id)
    with pytest.raises(LocalError):
        await write(kept, call_id)
    await kept.aclose()


async def test_a_broken_disk_costs_the_record_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    kept = flights(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", full)
        assert not await write(kept)
    assert files_in(tmp_path) == []
    assert (kept.stats.failed, kept.stats.written) == (1, 0)
    assert await write(kept)
    await kept.aclose()


async def test_a_disk_that_stands_still_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    kept = flights(tmp_path)
    done = await asyncio.gather(*(write(kept, f"c{number}") for number in range(5)))
    assert sorted(done) == [False, False, False, True, True]
    assert kept.stats.dropped == 3
    await kept.aclose()


async def test_old_ones_go(tmp_path: Path) -> None:
    put(tmp_path, "old", days_old=31)
    put(tmp_path, "new", days_old=29)
    (tmp_path / "other.txt").write_text("x")
    kept = flights(tmp_path)
    await kept.prune(at_once=True)
    assert await kept.listed() == ["new"]
    assert kept.stats.deleted == 1
    assert (tmp_path / "other.txt").exists()
    await kept.aclose()


async def test_the_oldest_go_when_there_is_too_much(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path, f"c{number}", days_old=5 - number, size=1000)
    kept = flights(tmp_path, max_total_bytes=2500)
    await kept.prune(at_once=True)
    assert await kept.listed() == ["c4", "c3"]
    await kept.aclose()


async def test_left_overs_of_dead_processes_go(tmp_path: Path) -> None:
    for name, age_s in (("dead", 7200), ("writing", 10)):
        part = tmp_path / f"{name}{SUFFIX}{PART}"
        part.write_bytes(b"x")
        os.utime(part, (NOW - age_s,) * 2)
    kept = flights(tmp_path)
    await kept.prune(at_once=True)
    assert [path.name for path in files_in(tmp_path)] == [f"writing{SUFFIX}{PART}"]
    await kept.aclose()


async def test_the_folder_is_looked_through_once_a_minute(tmp_path: Path) -> None:
    clock = Clock()
    kept = flights(tmp_path, clock)
    await kept.prune()
    put(tmp_path, "old", days_old=40)
    clock.now += 59
    await kept.prune()
    assert await kept.listed() == ["old"]
    clock.now += 2
    await kept.prune()
    assert await kept.listed() == []
    await kept.aclose()


async def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    kept = flights(tmp_path)
    monkeypatch.setattr(module, "_files", broken)
    await kept.prune(at_once=True)
    with pytest.raises(OSError, match="Input/output error"):
        await kept.listed()
    await kept.aclose()
