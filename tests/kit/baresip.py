"""baresip as a telephone: on loopback, driven by its control interface, with sound files for ear and mouth.

``ctrl_tcp`` speaks netstrings of JSON: commands with answers, and events. Debian's 1.0.0 is what this was made with;
its ``net_interface`` must be an address, and the names of its audio files must be absolute.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import wave
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bridge.media.format import Encoding, MediaFormat
from bridge.simulators.speech import load_clip
from tests.kit.server import free_port, until
from tests.kit.sip import free_rtp_ports, free_signalling_port

needs_baresip = pytest.mark.skipif(shutil.which("baresip") is None, reason="baresip is not installed")

L16_8K = MediaFormat(Encoding.L16, 8000)
MODULES = Path("/usr/lib/baresip/modules")
WANTED_MODULES = ("g711.so", "aufile.so", "aubridge.so", "sndfile.so")
NUMBER = "+4930123456"
"""It takes calls to this number; others it knows nothing of."""
APPLICATIONS = ("account.so", "menu.so", "ctrl_tcp.so")


@dataclass(slots=True)
class Baresip:
    """A telephone that runs."""

    sip_port: int
    process: Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    events: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    log: bytearray = field(default_factory=bytearray)
    recordings: Path = Path()

    @property
    def number(self) -> str:
        """What it is called by."""
        return NUMBER

    @property
    def address(self) -> str:
        """Where it is called."""
        return f"127.0.0.1:{self.sip_port}"

    def happened(self, kind: str) -> list[dict[str, Any]]:
        """Events of a kind, e.g. ``CALL_ESTABLISHED``."""
        return [event for event in self.events if event.get("type") == kind]

    async def wait(self, kind: str, timeout_s: float = 10.0) -> dict[str, Any]:
        """Wait for an event of this kind; returns the first."""
        await until(lambda: self.happened(kind), f"no {kind}", timeout_s)
        return self.happened(kind)[0]

    async def command(self, command: str, params: str = "") -> dict[str, Any]:
        """Give a command of the menu: dial, accept, hangup, hold, resume, sndcode."""
        token = f"t{len(self.answers)}-{command}"
        text = json.dumps({"command": command, "params": params, "token": token}).encode()
        self.writer.write(b"%d:%b," % (len(text), text))
        await self.writer.drain()
        await until(lambda: any(one.get("token") == token for one in self.answers), f"no answer to {command}")
        return next(one for one in self.answers if one.get("token") == token)

    async def dial(self, uri: str) -> None:
        """Call somebody."""
        await self.command("dial", uri)

    async def press(self, digit: str) -> None:
        """Press one key for a tenth of a second."""
        await self.command("sndcode", digit)
        await asyncio.sleep(0.15)
        await self.command("sndcode", "\x04")

    async def hang_up(self) -> None:
        """End the call."""
        await self.command("hangup")

    def heard(self) -> bytes:
        """What it has recorded of the other side, L16 at 8 kHz; every change of the media begins a new file."""
        found = sorted(self.recordings.glob("*dec.wav"))
        assert found, f"no recording in {list(self.recordings.iterdir())}"
        return b"".join(_frames(path) for path in found)


@asynccontextmanager
async def running_baresip(
    folder: Path, *, speaks: str = "", transport: str = "udp", answers: bool = False
) -> AsyncIterator[Baresip]:
    """Run one in ``folder``; it says the clip ``speaks``, then nothing. ``answers``: it takes calls by itself."""
    sip_port, control = free_signalling_port(), free_port()
    mode = "auto" if answers else "manual"
    account = f"<sip:{NUMBER}@127.0.0.1:{sip_port};transport={transport}>;regint=0;answermode={mode}"
    recordings = _furnish(folder, sip_port, control, account, speaks)
    process = await asyncio.create_subprocess_exec(
        "baresip", "-f", str(folder), cwd=folder, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    phone: Baresip | None = None
    tasks: list[asyncio.Task[None]] = []
    try:
        reader, writer = await _connect(control, process)
        phone = Baresip(sip_port, process, reader, writer, recordings=recordings)
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(_listen(phone)), loop.create_task(_log(phone))]
        yield phone
    finally:
        if phone is not None:
            with contextlib.suppress(OSError, AssertionError):
                await phone.command("quit")
            phone.writer.close()
        await _ended(process)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _furnish(folder: Path, sip_port: int, control: int, account: str, speaks: str) -> Path:
    """Write its files; returns where its recordings go."""
    recordings = folder / "heard"
    recordings.mkdir(parents=True, exist_ok=True)
    source = _speech(folder / "said.wav", speaks)
    (folder / "config").write_text(_config(sip_port, control, free_rtp_ports(20), source, recordings))
    (folder / "accounts").write_text(account + "\n")
    (folder / "contacts").write_text("")
    return recordings


def _config(sip_port: int, control: int, rtp: tuple[int, int], source: Path, sink: Path) -> str:
    modules = [f"module {name}" for name in WANTED_MODULES]
    applications = [f"module_app {name}" for name in APPLICATIONS]
    return "\n".join(
        (
            f"sip_listen 127.0.0.1:{sip_port}",
            "net_interface 127.0.0.1",
            f"rtp_ports {rtp[0]}-{rtp[1]}",
            "rtcp_mux no",
            "rtp_stats yes",
            "call_local_timeout 120",
            "call_max_calls 4",
            f"audio_source aufile,{source}",
            "audio_player aubridge,nobody",
            "audio_alert aubridge,nobody",
            f"snd_path {sink}",
            "ausrc_srate 8000",
            "auplay_srate 8000",
            "ausrc_channels 1",
            "auplay_channels 1",
            f"ctrl_tcp_listen 127.0.0.1:{control}",
            f"module_path {MODULES}",
            *modules,
            *applications,
            "",
        )
    )


def _frames(path: Path) -> bytes:
    with wave.open(str(path)) as file:
        frames: bytes = file.readframes(file.getnframes())
        return frames


def _speech(path: Path, clip: str) -> Path:
    """A WAV with the clip and a minute of silence: at the end of the file baresip hangs up."""
    said = load_clip(clip, L16_8K) if clip else b""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(L16_8K.rate_hz)
        file.writeframes(said + bytes(L16_8K.size_bytes(60_000)))
    return path


async def _connect(port: int, process: Process) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(15.0):
        while process.returncode is None:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
    raise AssertionError("baresip did not start")


async def _listen(phone: Baresip) -> None:
    """Sort what the control interface says."""
    with contextlib.suppress(asyncio.IncompleteReadError, OSError, ValueError):
        while True:
            size = int((await phone.reader.readuntil(b":"))[:-1])
            message = json.loads((await phone.reader.readexactly(size + 1))[:-1])
            (phone.answers if message.get("response") else phone.events).append(message)


async def _log(phone: Baresip) -> None:
    assert phone.process.stdout is not None
    while data := await phone.process.stdout.read(4096):
        phone.log += data


async def _ended(process: Process) -> None:
    try:
        async with asyncio.timeout(3.0):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
