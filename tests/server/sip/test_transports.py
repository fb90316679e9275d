"""The sockets as a whole: starting, closing, mistakes in the options, and both event loops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from bridge.errors import ConfigError, LocalError
from bridge.server.sip.options import Listen, TlsOptions, TransportOptions
from bridge.sip.flow import Flow, Outgoing, Transport
from tests.kit import logs
from tests.server.sip.net_fakes import (
    RESPONSE,
    Certificate,
    Desk,
    Peer,
    certificate,
    client_context,
    connected,
    free_port,
    listen,
    options,
    running,
    server_context,
    until,
)


async def test_a_port_that_is_taken_frees_the_others() -> None:
    desk = Desk()
    first = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        transports = desk.transports(
            TransportOptions(
                (
                    Listen(Transport.TCP, "127.0.0.1", first, "SIP_PORT"),
                    Listen(Transport.TCP, "127.0.0.1", port, "SIP_OTHER_PORT"),
                )
            )
        )
        with pytest.raises(ConfigError, match=f"^SIP_OTHER_PORT: cannot listen on 127.0.0.1 port {port} "):
            await transports.start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", first))
    await transports.close()


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (
            (Listen(Transport.UDP, "localhost", 0, "SIP_HOST"),),
            "SIP_HOST: the address to listen on is not a numeric IP",
        ),
        (listen(Transport.TLS), "SIP_TLS_PORT: listening for TLS needs a certificate file"),
        (listen(Transport.UDP, Transport.UDP), "SIP_UDP_PORT: one UDP address of each family can be listened to"),
    ],
)
def test_options_that_do_not_work(places: tuple[Listen, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Desk().transports(TransportOptions(places))


def test_files_that_do_not_work(tmp_path: object) -> None:
    with pytest.raises(ConfigError, match="^SIP_TLS_CERT: the file cannot be read"):
        Desk().transports(TransportOptions((), tls=TlsOptions(certificate_file=tmp_path / "none.pem")))  # type: ignore[operator]


async def test_no_sockets_that_nobody_asked_for() -> None:
    desk = Desk()
    async with running(desk, listen=()) as transports:
        with pytest.raises(LocalError, match="^nothing listens for TLS$"):
            transports.port(Transport.TLS)
        transports.send(Outgoing(RESPONSE, Flow(Transport.UDP, "127.0.0.1", 5060), "key"))
        await until(lambda: desk.failed == ["key"])
        assert transports.certificate_expires_at() is None
        assert transports.reload_certificate()


async def test_ports_are_free_after_closing() -> None:
    desk = Desk()
    async with running(desk) as transports:
        places = tuple(Listen(each, "127.0.0.1", transports.port(each), "X") for each in (Transport.UDP, Transport.TCP))
        async with connected(transports) as (reader, _):
            await transports.close()
            assert await asyncio.wait_for(reader.read(), 5) == b""
    async with running(desk, listen=places):
        pass


async def test_a_bug_in_whoever_is_told_of_failures_is_logged() -> None:
    desk = Desk()
    transports = desk.transports(TransportOptions(()))
    transports._on_send_failed = lambda key: 1 / 0 if key else None  # type: ignore[assignment]
    await transports.start()
    with logs.captured() as lines:
        transports.send(Outgoing(RESPONSE, Flow(Transport.UDP, "127.0.0.1", 5060), "key"))
        await until(lambda: len(lines) == 1)
    assert lines[0]["event"] == "sip_send_failure_failed"
    await transports.close()


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_every_transport_on_both_loops(
    factory: Callable[[], asyncio.AbstractEventLoop], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("certificates")
    authority = certificate(folder, "authority")
    mine = certificate(folder, "mine", names=("localhost",), addresses=("127.0.0.1",), issuer=authority)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_whole_round(authority, mine))


async def _whole_round(authority: Certificate, mine: Certificate) -> None:
    desk = Desk()
    tls = TlsOptions(mine.certificate_file, mine.key_file, ca_file=authority.certificate_file)
    everything = TransportOptions(listen(Transport.UDP, Transport.TCP, Transport.TLS), tls=tls)
    request = options(7)
    async with running(desk, everything) as transports:
        for context in (None, client_context(authority)):  # in
            async with connected(transports, context) as (reader, writer):
                desk.messages.clear()
                writer.write(options(1) * 40 + b"\r\n\r\n")
                flow = (await desk.got(40))[0][1]
                assert await asyncio.wait_for(reader.readexactly(2), 5) == b"\r\n"
                transports.send(Outgoing(RESPONSE, flow))
                assert await asyncio.wait_for(reader.readexactly(len(RESPONSE)), 5) == RESPONSE
                writer.write(b"\x00\x01")
                assert await asyncio.wait_for(reader.read(), 5) == b""
        for transport, server in ((Transport.TCP, None), (Transport.TLS, server_context(mine))):  # out
            desk.messages.clear()
            async with Peer.listening(server) as peer:
                transports.send(Outgoing(request, peer.flow(transport), "a"))
                await until(lambda peer=peer: peer.received == request)  # type: ignore[misc]
                peer.writers[0].write(RESPONSE)
                await desk.got(1)
        desk.messages.clear()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            phone.bind(("127.0.0.1", 0))
            phone.settimeout(5)
            phone.sendto(options(1, "UDP"), ("127.0.0.1", transports.port(Transport.UDP)))
            ((_, flow),) = await desk.got(1)
            transports.send(Outgoing(RESPONSE, flow, "b"))
            assert phone.recv(65535) == RESPONSE
        assert desk.failed == []
        refused = Flow(Transport.TCP, "127.0.0.1", free_port())
        transports.send(Outgoing(request, refused, "c"))
        transports.send(Outgoing(request, Flow(Transport.TLS, "127.0.0.1", transports.port(Transport.TCP)), "d"))
        await until(lambda: sorted(desk.failed) == ["c", "d"])
