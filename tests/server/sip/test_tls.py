"""TLS: versions, names, authorities, and certificates exchanged while calls go on."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from bridge.errors import ConfigError
from bridge.server.sip.limits import LimitOptions
from bridge.server.sip.options import StreamOptions, TlsOptions, TransportOptions
from bridge.server.sip.tls import TlsContexts
from bridge.sip.flow import Flow, Outgoing, Transport
from tests.kit import logs
from tests.server.sip.net_fakes import (
    BEGIN,
    END,
    RESPONSE,
    Certificate,
    Desk,
    Peer,
    certificate,
    client_context,
    connected,
    listen,
    options,
    running,
    server_context,
    until,
    write_certificate,
)

REQUEST = options(7, "TLS")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Certificate:
    return certificate(folder, "authority")


@pytest.fixture(scope="module")
def mine(folder: Path, authority: Certificate) -> Certificate:
    return certificate(folder, "mine", names=("localhost",), addresses=("127.0.0.1",), issuer=authority)


def tls_options(mine: Certificate, authority: Certificate | None = None) -> TlsOptions:
    return TlsOptions(
        mine.certificate_file, mine.key_file, ca_file=None if authority is None else authority.certificate_file
    )


def listening(tls: TlsOptions) -> TransportOptions:
    return TransportOptions(listen(Transport.TLS), tls=tls)


async def shown(port: int, authority: Certificate) -> int:
    """The serial number of the certificate that is shown to the next peer."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=client_context(authority), server_hostname="localhost"
    )
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    del reader
    return x509.load_der_x509_certificate(der).serial_number


# --- connections that peers open ---


async def test_a_request_over_tls(mine: Certificate, authority: Certificate) -> None:
    desk = Desk()
    async with running(desk, listening(tls_options(mine))) as transports:
        async with connected(transports, client_context(authority)) as (reader, writer):
            writer.write(options(1, "TLS") + options(2, "TLS"))
            (_, flow), _ = await desk.got(2)
            assert flow.transport is Transport.TLS
            transports.send(Outgoing(RESPONSE, flow))
            assert await asyncio.wait_for(reader.readexactly(len(RESPONSE)), 5) == RESPONSE
            writer.write(b"\r\n\r\n")
            assert await asyncio.wait_for(reader.readexactly(2), 5) == b"\r\n"
        assert transports.certificate_expires_at() == END.timestamp()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_old_versions_are_refused(mine: Certificate, authority: Certificate) -> None:
    desk = Desk()
    async with running(desk, listening(tls_options(mine))) as transports:
        old = client_context(authority)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(OSError):
            async with connected(transports, old):
                pass
        await until(lambda: transports.counts.failed_handshakes == 1)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            new = client_context(authority)
            new.minimum_version = new.maximum_version = version
            async with connected(transports, new) as (_, writer):
                writer.write(options(1, "TLS"))
                await until(lambda: len(desk.messages) > 0)
                desk.messages.clear()


async def test_noise_instead_of_a_handshake_costs_nobody_else(mine: Certificate, authority: Certificate) -> None:
    desk = Desk()
    given = replace(
        listening(tls_options(mine)),
        streams=StreamOptions(handshake_timeout_s=0.2),
        limits=LimitOptions(max_connections_per_address=2),
    )
    async with running(desk, given) as transports:
        port = transports.port(Transport.TLS)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(options(1))  # SIP without TLS
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asyncio.wait_for(reader.readexactly(1000), 5)
        writer.transport.abort()
        await until(lambda: transports.counts.failed_handshakes == 1)
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await until(lambda: transports.connections == 2)
        with pytest.raises(OSError):
            await shown(port, authority)
        assert transports.counts.refused_connections == 1, "handshakes count before they are done"
        await until(lambda: transports.counts.failed_handshakes == 3)
        assert await shown(port, authority) == mine.certificate.serial_number
        for _, each in silent:
            each.transport.abort()
    assert desk.messages == []


async def test_callers_must_show_a_certificate_where_that_is_wanted(
    mine: Certificate, authority: Certificate, folder: Path
) -> None:
    desk = Desk()
    tls = replace(tls_options(mine), client_ca_file=authority.certificate_file)
    theirs = certificate(folder, "theirs", names=("pbx.example",), issuer=authority)
    forged = certificate(folder, "forged", names=("pbx.example",), issuer=certificate(folder, "other"))
    async with running(desk, listening(tls)) as transports:
        for wrong in (client_context(authority), client_context(authority, forged)):
            with contextlib.suppress(OSError):  # an alert, or the end of the connection
                async with connected(transports, wrong) as (reader, writer):
                    writer.write(options(1, "TLS"))
                    assert await asyncio.wait_for(reader.read(100), 5) == b""
        await until(lambda: transports.counts.failed_handshakes == 2)
        assert desk.messages == []
        async with connected(transports, client_context(authority, theirs)) as (_, writer):
            writer.write(options(1, "TLS"))
            ((_, flow),) = await desk.got(1)
            assert transports.peer_names(flow) == ("pbx.example",)
        assert transports.peer_names(replace(flow, connection=99)) == ()
        assert transports.peer_names(Flow(Transport.UDP, "192.0.2.7", 5060)) == ()


async def test_who_shows_no_certificate_has_no_names(mine: Certificate, authority: Certificate) -> None:
    desk = Desk()
    async with (
        running(desk, listening(tls_options(mine))) as transports,
        connected(transports, client_context(authority)) as (_, writer),
    ):
        writer.write(options(1, "TLS"))
        ((_, flow),) = await desk.got(1)
        assert transports.peer_names(flow) == ()


# --- connections that we open ---


async def test_the_name_is_sent_and_verified(mine: Certificate, authority: Certificate, folder: Path) -> None:
    trunk = certificate(folder, "trunk", names=("trunk.example",), issuer=authority)
    desk = Desk()
    async with (
        running(desk, tls=tls_options(mine, authority)) as transports,
        Peer.listening(server_context(trunk)) as peer,
    ):
        transports.send(Outgoing(REQUEST, peer.flow(Transport.TLS, "trunk.example"), "good"))
        await until(lambda: peer.received == REQUEST)
        assert peer.names == ["trunk.example"]
        with logs.captured() as lines:
            transports.send(Outgoing(REQUEST, peer.flow(Transport.TLS, "other.example"), "name"))
            transports.send(Outgoing(REQUEST, peer.flow(Transport.TLS), "address"))
            await until(lambda: len(desk.failed) == 2)
        assert sorted(desk.failed) == ["address", "name"]
        assert all("the certificate does not verify (" in line["problem"] for line in lines)
        assert peer.received == REQUEST, "nothing is sent before the certificate is known to be good"
        desk.failed.clear()
        async with Peer.listening(server_context(mine)) as by_address:
            transports.send(Outgoing(REQUEST, by_address.flow(Transport.TLS), "address"))
            await until(lambda: by_address.received == REQUEST)
            assert by_address.names == [None]
            assert desk.failed == []


@pytest.mark.parametrize("flaw", ["unknown authority", "expired", "no TLS"])
async def test_peers_that_cannot_be_trusted(mine: Certificate, authority: Certificate, folder: Path, flaw: str) -> None:
    issuer = certificate(folder, "nobody") if flaw == "unknown authority" else authority
    end = BEGIN + datetime.timedelta(days=1) if flaw == "expired" else END
    theirs = certificate(folder, "bad", names=("trunk.example",), issuer=issuer, end=end)
    desk = Desk()
    async with (
        running(desk, tls=tls_options(mine, authority)) as transports,
        Peer.listening(None if flaw == "no TLS" else server_context(theirs)) as peer,
    ):
        peer.answer = lambda writer: writer.write(RESPONSE)
        for key in ("a", "b"):
            transports.send(Outgoing(REQUEST, peer.flow(Transport.TLS, "trunk.example"), key))
        await until(lambda: len(desk.failed) >= 2)
        await asyncio.sleep(0.02)
        assert REQUEST not in peer.received
    assert desk.failed == ["a", "b"]
    assert transports.connections == 0


async def test_our_certificate_is_shown_to_those_who_ask(mine: Certificate, authority: Certificate) -> None:
    context = server_context(mine)
    context.load_verify_locations(authority.certificate_file)
    context.verify_mode = ssl.CERT_REQUIRED
    desk = Desk()
    async with Peer.listening(context) as peer:
        async with running(desk, tls=tls_options(mine, authority)) as transports:
            transports.send(Outgoing(REQUEST, peer.flow(Transport.TLS), "a"))
            await until(lambda: peer.received == REQUEST)
            peer.writers[0].write(RESPONSE)
            await desk.got(1)
        async with running(desk, tls=TlsOptions(ca_file=authority.certificate_file)) as transports:
            transports.send(Outgoing(REQUEST, peer.flow(Transport.TLS), "b"))
            await until(lambda: desk.failed == ["b"])


async def test_a_peer_that_does_not_finish_its_handshake(mine: Certificate) -> None:
    desk = Desk()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(5)
        async with running(desk, tls=tls_options(mine), streams=StreamOptions(connect_timeout_s=0.2)) as transports:
            flow = Flow(Transport.TLS, "127.0.0.1", silent.getsockname()[1])
            transports.send(Outgoing(REQUEST, flow, "a"))
            await until(lambda: desk.failed == ["a"])
            transports.send(Outgoing(REQUEST, flow, "late"))
            await asyncio.sleep(0.05)


async def test_a_callers_own_connection_serves_flows_without_a_name_only(
    mine: Certificate, authority: Certificate
) -> None:
    desk = Desk()
    async with (
        running(desk, listening(tls_options(mine))) as transports,
        connected(transports, client_context(authority)) as (reader, writer),
    ):
        writer.write(options(1, "TLS"))
        ((_, flow),) = await desk.got(1)
        plain = replace(flow, connection=0)
        transports.send(Outgoing(REQUEST, plain, "a"))
        assert await asyncio.wait_for(reader.readexactly(len(REQUEST)), 5) == REQUEST
        transports.send(Outgoing(REQUEST, replace(plain, server_name="127.0.0.1"), "b"))
        await until(lambda: desk.failed == ["b"])


# --- certificates ---


async def test_a_new_certificate_is_used_by_the_next_handshake(
    tmp_path: Path, mine: Certificate, authority: Certificate
) -> None:
    names = {"names": ("localhost",), "issuer": authority}
    own = certificate(tmp_path, "own", **names)  # type: ignore[arg-type]
    soon = datetime.datetime(2080, 1, 1, tzinfo=datetime.UTC)
    desk = Desk()
    async with running(desk, listening(tls_options(own))) as transports:
        port = transports.port(Transport.TLS)
        assert await shown(port, authority) == own.certificate.serial_number
        async with connected(transports, client_context(authority)) as (_, writer):
            new = certificate(tmp_path, "own", end=soon, **names)  # type: ignore[arg-type]
            with logs.captured() as lines:
                assert transports.reload_certificate()
            assert [line["event"] for line in lines] == ["sip_certificate_reloaded"]
            assert await shown(port, authority) == new.certificate.serial_number
            assert transports.certificate_expires_at() == soon.timestamp()
            writer.write(options(1, "TLS"))
            await desk.got(1)  # open connections stay

            write_certificate(own.certificate_file, mine.certificate)  # of another key
            with logs.captured() as lines:
                assert not transports.reload_certificate()
            assert [line["problem"] for line in lines] == [
                "SIP_TLS_KEY: certificate and key do not work together (KEY_VALUES_MISMATCH); give a PEM "
                "certificate chain and its own key without a password"
            ]
            assert await shown(port, authority) == new.certificate.serial_number
            assert transports.certificate_expires_at() == soon.timestamp()


async def test_certificate_files_are_watched(tmp_path: Path, authority: Certificate) -> None:
    names = {"names": ("localhost",), "issuer": authority}
    own = certificate(tmp_path, "own", **names)  # type: ignore[arg-type]
    desk = Desk()
    with logs.captured() as lines:
        async with running(desk, listening(tls_options(own)), certificate_poll_s=0.02) as transports:
            port = transports.port(Transport.TLS)
            own.certificate_file.write_bytes(b"half a file")
            await until(lambda: len(lines) == 1)
            await asyncio.sleep(0.1)
            assert [line["problem"] for line in lines] == ["SIP_TLS_CERT: the file holds no PEM certificate"]
            assert await shown(port, authority) == own.certificate.serial_number
            new = certificate(tmp_path, "own", **names)  # type: ignore[arg-type]
            await until(lambda: transports._tls._stamp == transports._tls._stamp_now())
            await until(lambda: lines[-1]["event"] == "sip_certificate_reloaded")
            assert await shown(port, authority) == new.certificate.serial_number


def test_links_are_followed(tmp_path: Path, mine: Certificate, authority: Certificate) -> None:
    other = certificate(tmp_path, "other", names=("localhost",), issuer=authority)
    link, key_link = tmp_path / "tls.crt", tmp_path / "tls.key"
    link.symlink_to(mine.certificate_file)
    key_link.symlink_to(mine.key_file)
    contexts = TlsContexts(TlsOptions(link, key_link))
    before = contexts.server
    assert not contexts.reload_if_changed()
    for each, target in ((link, other.certificate_file), (key_link, other.key_file)):
        each.unlink()
        each.symlink_to(target)
    assert contexts.reload_if_changed()
    assert contexts.server is not before


def test_a_file_that_goes_keeps_what_is_loaded(tmp_path: Path, authority: Certificate) -> None:
    own = certificate(tmp_path, "own", names=("localhost",), issuer=authority)
    contexts = TlsContexts(tls_options(own))
    os.unlink(own.key_file)
    with logs.captured() as lines:
        assert not contexts.reload_if_changed()
    assert [line["problem"] for line in lines] == ["SIP_TLS_KEY: the file cannot be read (No such file or directory)"]
    assert contexts.server is not None


def test_key_and_certificate_in_one_file(tmp_path: Path, mine: Certificate) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(mine.certificate_file.read_bytes() + mine.key_file.read_bytes())
    assert TlsContexts(TlsOptions(both)).server is not None
    with pytest.raises(ConfigError, match="^SIP_TLS_CERT: certificate and key do not work together"):
        TlsContexts(TlsOptions(mine.certificate_file))


def test_nothing_configured() -> None:
    contexts = TlsContexts(TlsOptions())
    assert contexts.server is None
    assert contexts.expires_at is None
    assert not contexts.is_configured
    assert not contexts.client.verify_flags & ssl.VERIFY_X509_STRICT, "the same on every version of Python"
    assert contexts.client.verify_mode is ssl.CERT_REQUIRED
    assert contexts.client.check_hostname
    assert contexts.client.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_key_with_a_password_is_refused_without_asking(tmp_path: Path, mine: Certificate) -> None:
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        mine.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match="without a password"):
        TlsContexts(TlsOptions(mine.certificate_file, locked))


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("certificate_file", "SIP_TLS_CERT: the file {}"),
        ("ca_file", "SIP_TLS_CA: the file {}"),
        ("client_ca_file", "SIP_TLS_CLIENT_CA: the file {}"),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_files_that_do_not_work(tmp_path: Path, mine: Certificate, field: str, words: str, exists: bool) -> None:
    path = tmp_path / "file.pem"
    if exists:
        path.write_text("nothing of use")
    problem = "holds no PEM certificate" if exists else "cannot be read (No such file or directory)"
    with pytest.raises(ConfigError) as caught:
        TlsContexts(replace(tls_options(mine), **{field: path}))  # type: ignore[arg-type]
    assert str(caught.value) == words.format(problem)
