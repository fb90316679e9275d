"""Asterisk as the other end: a telephone exchange that others made, run on loopback in a folder of its own.

It is driven by its manager interface (AMI): ``originate`` calls the bridge, and gives the answered call to one of the
people in ``tests/vectors/asterisk/extensions.conf``, where the numbers that the bridge can call are, too. What people
hear is recorded. Made with Asterisk 22 (Debian sid); anything with PJSIP should do.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import wave
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kit.server import DEADLINE_S, free_port, until
from tests.kit.sip import API_KEY, CALLER, OURS, free_rtp_ports, free_signalling_port
from tests.server.sip.net_fakes import Certificate, certificate

CONFIGURATION = Path(__file__).parent.parent / "vectors" / "asterisk"
STARTS_WITHIN_S = 30.0
RTP_PORTS = 40
LOOPBACK = ("127.0.0.1",)

USERNAME, PASSWORD = "bridge", "secret"
"""Of both directions, where they are asked for."""

TALKER, LISTENER, BUSY, SILENT, EARLY, PERSON = (f"+493010{number}" for number in range(6))
"""Whom the bridge can call: a tone and then a hang-up, a listener, 486, never an answer, 183 first, one more."""

PROBED = "aors = bridge\n\n[bridge]\ntype = aor\ncontact = sip:ADDRESS\nqualify_frequency = 1\n"
"""The bridge's address, probed by OPTIONS."""

needs_asterisk = pytest.mark.skipif(
    shutil.which("asterisk") is None, reason="asterisk is not installed (Debian: asterisk, in sid)"
)


@dataclass(slots=True)
class Asterisk:
    """An exchange that runs."""

    folder: Path
    sip_port: int
    tls_port: int
    authority: Certificate
    """Signed its certificate, and the one of ``bridge_tls``."""
    process: Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    events: list[dict[str, str]] = field(default_factory=list)

    def address(self, transport: str = "udp") -> str:
        """Where it is called."""
        return f"127.0.0.1:{self.tls_port if transport == 'tls' else self.sip_port}"

    def uri(self, number: str) -> str:
        """A number of its exchange, for telephones."""
        return f"sip:{number}@127.0.0.1:{self.sip_port}"

    def placing(self, transport: str = "udp") -> dict[str, Any]:
        """Settings of a bridge that places its calls here."""
        return {
            "SIP_OUTBOUND_ADDRESS": self.address(transport),
            "SIP_OUTBOUND_TRANSPORT": transport,
            "SIP_OUTBOUND_CALLER_ID": OURS,
            "SIP_OUTBOUND_USERNAME": USERNAME,
            "SIP_OUTBOUND_PASSWORD": PASSWORD,
            "BRIDGE_API_KEY": f"admin:{API_KEY}",
        }

    async def action(self, action: str, **fields: str) -> None:
        """Send an AMI action; what comes of it are events."""
        lines = [f"Action: {action}", *(f"{name}: {value}" for name, value in fields.items())]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await self.writer.drain()

    async def call(self, uri: str, person: str, endpoint: str = "bridge-udp") -> None:
        """Call ``uri`` over one of the endpoints of ``pjsip.conf``; who answers has ``person`` on the line."""
        await self.originate(f"PJSIP/{endpoint}/{uri}", "people", person)

    async def originate(self, channel: str, context: str, extension: str) -> None:
        """Call ``channel``; once it is answered it goes on at an extension."""
        place = {"Context": context, "Exten": extension, "Priority": "1", "CallerID": CALLER}
        await self.action("Originate", Channel=channel, Timeout="10000", Async="true", **place)

    def happened(self, event: str, **fields: str) -> list[dict[str, str]]:
        """Events of a name, with these fields."""
        return [
            each
            for each in self.events
            if each.get("Event") == event and all(each.get(name) == value for name, value in fields.items())
        ]

    async def wait(self, event: str, timeout_s: float = DEADLINE_S, **fields: str) -> dict[str, str]:
        """Wait for such an event; returns the first."""
        await until(lambda: self.happened(event, **fields), f"no {event} {fields}\n{self.log()[-6000:]}", timeout_s)
        return self.happened(event, **fields)[0]

    async def idle(self, timeout_s: float = 15.0) -> None:
        """Wait until every channel that was opened is hung up."""
        await until(
            lambda: self.happened("Newchannel") and len(self.happened("Newchannel")) == len(self.happened("Hangup")),
            "a channel is left",
            timeout_s,
        )

    def heard(self, person: str) -> bytes:
        """What a person has heard, L16 at 8 kHz."""
        with wave.open(str(self.folder / f"heard-{person}.wav"), "rb") as file:
            frames: bytes = file.readframes(file.getnframes())
            return frames

    def log(self) -> str:
        """Its log, SIP messages included."""
        path = self.folder / "full.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""


def tls_files(folder: Path) -> tuple[Certificate, dict[str, Any]]:
    """An authority, and the settings of a bridge that has a certificate of it and trusts others that have."""
    authority = certificate(folder, "authority")
    ours = certificate(folder, "bridge", addresses=LOOPBACK, issuer=authority)
    settings = {
        "SIP_TLS_PORT": str(free_port()),
        "SIP_TLS_CERT": str(ours.certificate_file),
        "SIP_TLS_KEY": str(ours.key_file),
        "SIP_TLS_CA": str(authority.certificate_file),
    }
    return authority, settings


@asynccontextmanager
async def running_asterisk(
    folder: Path, *, bridge: str = "", asks_password: bool = False, authority: Certificate | None = None
) -> AsyncIterator[Asterisk]:
    """Run one in ``folder``, which is there.

    ``bridge`` is the address that its dial plan calls and that it probes, where calls of two legs are wanted.
    ``asks_password``: whoever calls it needs ``USERNAME`` and ``PASSWORD``; the bridge gets them in any case.
    """
    authority = authority or certificate(folder, "authority")
    sip_port, tls_port, manager_port = free_signalling_port(), free_port(), free_port()
    rtp_first, rtp_last = free_rtp_ports(RTP_PORTS)
    words = {
        "FOLDER": str(folder),
        "SIP_PORT": str(sip_port),
        "TLS_PORT": str(tls_port),
        "MANAGER_PORT": str(manager_port),
        "RTP_FIRST": str(rtp_first),
        "RTP_LAST": str(rtp_last),
        "CALLER": CALLER,
        "INBOUND_AUTH": "auth = account" if asks_password else "",
        "BRIDGE_ADDRESS": bridge,
        "PROBED": PROBED.replace("ADDRESS", bridge) if bridge else "",
    }
    _furnish(folder, words, authority)
    configuration = str(folder / "asterisk.conf")
    with (folder / "screen.log").open("wb") as screen:
        process = await asyncio.create_subprocess_exec(
            "asterisk", "-f", "-C", configuration, cwd=folder, stdin=DEVNULL, stdout=screen, stderr=STDOUT
        )
    tasks: list[asyncio.Task[None]] = []
    exchange: Asterisk | None = None
    try:
        reader, writer = await _connect(manager_port, process, folder)
        exchange = Asterisk(folder, sip_port, tls_port, authority, process, reader, writer)
        tasks = [asyncio.create_task(_listen(exchange))]
        await exchange.action("Login", Username="test", Secret="test")
        await exchange.wait("FullyBooted", STARTS_WITHIN_S)
        await exchange.action("Command", Command="pjsip set logger on")
        yield exchange
    finally:
        await _stop(process)
        if exchange is not None:
            exchange.writer.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _furnish(folder: Path, words: dict[str, str], authority: Certificate) -> None:
    """Write its configuration, with what is ours in the place of words in capitals."""
    for path in sorted(CONFIGURATION.glob("*.conf")):
        text = path.read_text()
        for word, value in words.items():
            text = text.replace(word, value)
        (folder / path.name).write_text(text)
    own = certificate(folder, "exchange", addresses=LOOPBACK, issuer=authority)
    (folder / "asterisk.pem").write_bytes(own.certificate_file.read_bytes() + own.key_file.read_bytes())
    (folder / "ca.pem").write_bytes(authority.certificate_file.read_bytes())


async def _connect(port: int, process: Process, folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(STARTS_WITHIN_S):
        while process.returncode is None:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
    raise AssertionError(f"asterisk did not start: {(folder / 'screen.log').read_text('utf-8', 'replace')[-3000:]}")


async def _listen(exchange: Asterisk) -> None:
    """Sort what the manager interface says: blocks of ``Name: value``."""
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        while True:
            block = await exchange.reader.readuntil(b"\r\n\r\n")
            pairs = (line.partition(": ") for line in block.decode("utf-8", "replace").split("\r\n"))
            exchange.events.append({name: value for name, colon, value in pairs if colon})


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(5.0):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
