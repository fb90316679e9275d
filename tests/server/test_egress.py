"""The guard on outgoing requests, with real sockets: what it connects to, follows, reads and says."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bridge import __version__
from bridge.server.egress import (
    Answer,
    EgressFailed,
    EgressOptions,
    EgressRefused,
    RequestLimits,
    check_url,
    guarded_client,
    request,
    system_resolver,
)
from bridge.server.egress_addresses import parse_networks
from tests.kit.webhooks import Reply, always, receiver

LOOPBACK = EgressOptions(allow=parse_networks(["127.0.0.0/8"]), connect_timeout_s=1, read_timeout_s=1)
NO_ROOTS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Reading the system's root certificates takes longer than a test."""

REFUSED = "^the host is not on the public internet; allow its network in EGRESS_ALLOW$"


class Names:
    """A resolver whose answers a test sets; it keeps what it was asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def post(
    url: str,
    options: EgressOptions = LOOPBACK,
    *,
    names: Names | None = None,
    limits: RequestLimits | None = None,
    tls: ssl.SSLContext = NO_ROOTS,
    method: str = "POST",
) -> Answer:
    resolver = names if names is not None else system_resolver
    async with guarded_client(options, resolver=resolver, ssl_context=tls) as client:
        return await request(
            client,
            method,
            url,
            headers={"X-Event": "1"},
            private_headers={"Authorization": "Bearer secret"},
            body=b'{"a":1}' if method == "POST" else None,
            limits=limits,
        )


async def test_an_allowed_address_is_reached() -> None:
    async with receiver(lambda _request, _number: Reply(201, body=b"made")) as hook:
        answer = await post(hook.url)
        assert (answer.status, answer.body, answer.truncated) == (201, b"made", False)
        got = hook.received[0]
        assert (got.method, got.path, got.body) == ("POST", "/hook", b'{"a":1}')
        assert got.headers["user-agent"] == f"telephony-bridge/{__version__}"
        assert got.headers["accept-encoding"] == "identity"
        assert (got.headers["x-event"], got.headers["authorization"]) == ("1", "Bearer secret")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:7f00:1]"]
)
async def test_loopback_is_refused_however_it_is_written(host: str) -> None:
    async with receiver() as hook:
        with pytest.raises(EgressRefused, match=REFUSED) as caught:
            await post(f"http://{host}:{hook.port}/hook", EgressOptions())
        assert "127" not in str(caught.value)
        assert hook.received == []


async def test_a_name_with_a_private_address_is_refused() -> None:
    with pytest.raises(EgressRefused, match=REFUSED):
        await post("http://intranet.example/", EgressOptions(), names=Names(["10.0.0.1", "fd00::1"]))


async def test_of_mixed_addresses_only_the_checked_ones_are_connected_to() -> None:
    async with receiver() as hook:
        names = Names(["10.255.255.1", "192.168.255.1", "127.0.0.1"])
        answer = await post(f"http://mixed.example:{hook.port}/", names=names)
        assert answer.status == 200
        assert hook.received[0].headers["host"] == f"mixed.example:{hook.port}"


async def test_rebinding_between_look_up_and_connection_is_impossible() -> None:
    """The first answer is checked and connected to; there is no second look-up that could say loopback."""
    async with receiver() as hook:
        names = Names(["127.0.0.1"], ["169.254.169.254"])
        await post(f"http://rebind.example:{hook.port}/", names=names)
        assert names.asked == [("rebind.example", hook.port)]
        with pytest.raises(EgressRefused, match=REFUSED):
            await post(f"http://rebind.example:{hook.port}/", names=names)
        assert len(hook.received) == 1


async def test_every_new_connection_is_checked_again() -> None:
    async with receiver(always(connection="close")) as hook:
        names = Names(["127.0.0.1"], ["10.0.0.1"])
        async with guarded_client(LOOPBACK, resolver=names, ssl_context=NO_ROOTS) as client:
            url = f"http://rebind.example:{hook.port}/"
            await request(client, "POST", url, headers={})
            with pytest.raises(EgressRefused, match=REFUSED):
                await request(client, "POST", url, headers={})


async def test_the_next_address_is_tried_when_one_is_dead() -> None:
    async with receiver() as hook:
        names = Names(["127.9.9.9", "127.0.0.1"])  # nobody listens on the first
        assert (await post(f"http://two.example:{hook.port}/", names=names)).status == 200


# --- redirects -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [307, 308])
async def test_a_post_is_followed_with_its_body(status: int) -> None:
    async with receiver(lambda _r, n: Reply(status, {"location": "/moved"}) if n == 1 else Reply()) as hook:
        assert (await post(hook.url)).status == 200
        assert [(r.method, r.path, r.body) for r in hook.received] == [
            ("POST", "/hook", b'{"a":1}'),
            ("POST", "/moved", b'{"a":1}'),
        ]
        assert hook.received[1].headers["authorization"] == "Bearer secret"


async def test_secret_headers_stay_with_their_host() -> None:
    async with receiver() as other, receiver(lambda _r, _n: Reply(307, {"location": other.url})) as hook:
        assert (await post(hook.url)).status == 200
        assert "authorization" not in other.received[0].headers
        assert other.received[0].headers["x-event"] == "1"


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_that_drops_the_body_is_a_failure(status: int) -> None:
    async with receiver(lambda _r, _n: Reply(status, {"location": "/moved"})) as hook:
        with pytest.raises(EgressFailed, match=f"^redirected with {status}, which would drop the body; answer 307 or"):
            await post(hook.url)
        assert len(hook.received) == 1


async def test_a_get_follows_them_all() -> None:
    async with receiver(lambda _r, n: Reply(302, {"location": "/moved"}) if n == 1 else Reply()) as hook:
        assert (await post(hook.url, method="GET")).status == 200
        assert [r.method for r in hook.received] == ["GET", "GET"]


async def test_a_redirect_loop_ends() -> None:
    async with receiver(lambda _r, _n: Reply(307, {"location": "/hook"})) as hook:
        with pytest.raises(EgressFailed, match="^more than 3 redirects$"):
            await post(hook.url)
        assert len(hook.received) == 4


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:192.168.0.1]/",
        "//192.168.0.1/",
    ],
)
async def test_a_redirect_to_a_private_address_is_refused(target: str) -> None:
    async with receiver(lambda _r, _n: Reply(307, {"location": target})) as hook:
        with pytest.raises(EgressRefused, match=REFUSED):
            await post(hook.url)


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ("ftp://files.example/", EgressRefused, "only http and https URLs are requested"),
        ("file:///etc/passwd", EgressRefused, "only http and https URLs are requested"),
        ("http://u:p@public.example/", EgressRefused, "the URL holds a user or password; use a header instead"),
        ("http://public.example:port/", EgressFailed, "the answer is no proper HTTP"),
    ],
)
async def test_a_redirect_to_what_is_no_target_is_refused(target: str, error: type[Exception], words: str) -> None:
    async with receiver(lambda _r, _n: Reply(308, {"location": target})) as hook:
        with pytest.raises(error, match=f"^{words}$"):
            await post(hook.url)


async def test_a_redirect_without_a_target_is_an_answer() -> None:
    async with receiver(lambda _r, _n: Reply(307)) as hook:
        assert (await post(hook.url)).status == 307


# --- bounds ----------------------------------------------------------------------------------------------


async def test_a_huge_answer_is_read_up_to_its_bound() -> None:
    async with receiver(lambda _r, _n: Reply(200, body=b"x" * 5_000_000)) as hook:
        answer = await post(hook.url)
        assert (answer.status, len(answer.body), answer.truncated) == (200, 65_536, True)


async def test_a_compressed_answer_is_not_unpacked() -> None:
    async with receiver(lambda _r, _n: Reply(200, {"content-encoding": "gzip"}, body=b"\x1f\x8bbomb")) as hook:
        assert (await post(hook.url)).body == b"\x1f\x8bbomb"


@pytest.mark.parametrize("length", ["10", "chunked"])
async def test_a_status_holds_although_its_body_breaks_off(length: str) -> None:
    field = b"transfer-encoding: chunked\r\n\r\n5\r\n" if length == "chunked" else b"content-length: 10\r\n\r\n"
    async with receiver(lambda _r, _n: Reply(raw=b"HTTP/1.1 200 OK\r\n" + field + b"short")) as hook:
        answer = await post(hook.url)
        assert (answer.status, answer.body, answer.truncated) == (200, b"short", True)


async def test_a_status_holds_although_its_body_never_ends() -> None:
    gone = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b".")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()
        gone.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        answer = await post(url, limits=RequestLimits(deadline_s=0.2))
        assert (answer.status, answer.truncated) == (200, True)
        assert set(answer.body) == {ord(".")}
        await asyncio.wait_for(gone.wait(), 5)  # the connection was closed


async def test_the_deadline_covers_everything() -> None:
    """Each step is quick enough, but there are too many of them."""
    async with receiver(lambda _r, _n: Reply(307, {"location": "/hook"}, delay_s=0.15)) as hook:
        with pytest.raises(EgressFailed, match=r"^no answer within 0\.3 s$"):
            await post(hook.url, limits=RequestLimits(deadline_s=0.3))


async def test_a_slow_answer_runs_into_its_time_out() -> None:
    options = EgressOptions(allow=LOOPBACK.allow, read_timeout_s=0.1)
    async with receiver(lambda _r, _n: Reply(delay_s=5)) as hook:
        with pytest.raises(EgressFailed, match="^time-out: ReadTimeout$"):
            await post(hook.url, options)


async def test_slow_dns_runs_into_its_time_out() -> None:
    async def never(_host: str, _port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    options = EgressOptions(connect_timeout_s=0.05)
    async with guarded_client(options, resolver=never, ssl_context=NO_ROOTS) as client:
        with pytest.raises(EgressFailed, match="^time-out: DNS took too long$"):
            await request(client, "GET", "http://slow.example/", headers={})


# --- failures, in words ----------------------------------------------------------------------------------


async def test_dns_failure() -> None:
    async def unknown(_host: str, _port: int) -> list[str]:
        raise OSError("Name or service not known")

    async with guarded_client(EgressOptions(), resolver=unknown, ssl_context=NO_ROOTS) as client:
        with pytest.raises(EgressFailed, match="^cannot connect: DNS knows no such host$"):
            await request(client, "GET", "http://nowhere.example/", headers={})


async def test_an_empty_dns_answer() -> None:
    with pytest.raises(EgressFailed, match="^cannot connect: ConnectError$"):
        await post("http://empty.example/", EgressOptions(), names=Names([]))


async def test_without_a_connect_time_out_addresses_are_tried_as_well() -> None:
    async with receiver() as hook, guarded_client(LOOPBACK, ssl_context=NO_ROOTS) as client:
        client.timeout = httpx.Timeout(None)
        assert (await request(client, "POST", hook.url, headers={})).status == 200


async def test_a_connection_that_breaks_while_sending() -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server, guarded_client(LOOPBACK, ssl_context=NO_ROOTS) as client:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(EgressFailed, match=r"^the connection broke: \w+Error$|^the answer is no proper HTTP$"):
            await request(client, "POST", url, headers={}, body=endless)


async def test_connection_refused() -> None:
    async with receiver() as hook:
        pass  # now nobody listens there
    with pytest.raises(EgressFailed, match="^cannot connect: Connection refused$"):
        await post(hook.url)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "the answer is no proper HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "the answer is no proper HTTP"),
    ],
)
async def test_an_answer_that_is_none(raw: bytes, words: str) -> None:
    async with receiver(lambda _r, _n: Reply(raw=raw)) as hook:
        with pytest.raises(EgressFailed, match=f"^{words}$"):
            await post(hook.url)


async def test_tls_to_a_server_without_it() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        with pytest.raises(EgressFailed, match="^TLS: the handshake failed$"):
            await post(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")


# --- TLS by name, sockets by address ---------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[ssl.SSLContext, Path, list[str | None]]:
    """A server's context for ``hooks.example``, its certificate, and the names that clients asked for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    asked: list[str | None] = []
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert_path, key_path)
    server.sni_callback = lambda _socket, asked_name, _context: asked.append(asked_name)
    return server, cert_path, asked


async def test_the_certificate_is_checked_against_the_name(
    certificate: tuple[ssl.SSLContext, Path, list[str | None]],
) -> None:
    server, cert_path, asked = certificate
    trusting = ssl.create_default_context(cafile=str(cert_path))
    async with receiver(tls=server) as hook:
        names = Names(["127.0.0.1"])
        answer = await post(f"https://hooks.example:{hook.port}/", names=names, tls=trusting)
        assert (answer.status, asked) == (200, ["hooks.example"])
        assert hook.received[0].headers["host"] == f"hooks.example:{hook.port}"
        with pytest.raises(EgressFailed, match=r"^TLS: the certificate does not verify \(Hostname mismatch"):
            await post(f"https://other.example:{hook.port}/", names=names, tls=trusting)


async def test_an_unknown_certificate_is_refused(certificate: tuple[ssl.SSLContext, Path, list[str | None]]) -> None:
    async with receiver(tls=certificate[0]) as hook:
        with pytest.raises(EgressFailed, match=r"^TLS: the certificate does not verify \(self-signed certificate\)$"):
            await post(f"https://hooks.example:{hook.port}/", names=Names(["127.0.0.1"]))


async def test_https_never_leads_on_to_http(certificate: tuple[ssl.SSLContext, Path, list[str | None]]) -> None:
    server, cert_path, _asked = certificate
    trusting = ssl.create_default_context(cafile=str(cert_path))
    async with receiver() as plain, receiver(lambda _r, _n: Reply(308, {"location": plain.url}), tls=server) as hook:
        with pytest.raises(EgressFailed, match="^redirected from https to http$"):
            await post(f"https://hooks.example:{hook.port}/", names=Names(["127.0.0.1"]), tls=trusting)
        assert plain.received == []


# --- URLs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://a.example/", "only http and https URLs are requested"),
        ("/relative", "only http and https URLs are requested"),
        ("http:///path", "the URL names no host"),
        ("http://u@a.example/", "the URL holds a user or password; use a header instead"),
        ("http://a.example:0/", "the URL's port is none"),
        ("http://a.example:99999/", "the URL's port is none"),
        ("http://a.example:x/", "the URL cannot be read"),
        ("http://[::1/", "the URL cannot be read"),
        ("http://a.example/" + "x" * 4_096, "the URL is longer than 4096 characters"),
    ],
)
def test_urls_that_are_not_requested(url: str, words: str) -> None:
    with pytest.raises(EgressRefused, match=f"^{words}$"):
        check_url(url)


def test_a_url_that_is() -> None:
    assert check_url("https://Hooks.example:8443/a?b=c") == httpx.URL("https://hooks.example:8443/a?b=c")


async def test_plain_use_of_the_client_is_guarded_too() -> None:
    async with receiver() as hook, guarded_client(EgressOptions(), ssl_context=NO_ROOTS) as client:
        with pytest.raises(EgressRefused, match=REFUSED):
            await client.get(hook.url)
        with pytest.raises(EgressRefused, match="^only http and https"):
            await client.get("ftp://a.example/")


async def test_a_body_in_pieces_is_sent_in_chunks_and_again_after_a_redirect() -> None:
    begun = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal begun
        begun += 1
        for piece in (b"one ", b"two"):
            yield piece

    async with receiver(lambda _r, n: Reply(307, {"location": "/moved"}) if n == 1 else Reply()) as hook:
        async with guarded_client(LOOPBACK, ssl_context=NO_ROOTS) as client:
            await request(client, "POST", hook.url, headers={}, body=pieces)
        assert [(r.body, r.chunked) for r in hook.received] == [(b"one two", True)] * 2
        assert begun == 2


async def test_an_error_of_the_bodys_source_comes_through() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        raise FileNotFoundError("gone")

    async with receiver() as hook, guarded_client(LOOPBACK, ssl_context=NO_ROOTS) as client:
        with pytest.raises(FileNotFoundError, match="^gone$"):
            await request(client, "POST", hook.url, headers={}, body=broken)


async def test_no_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with receiver() as hook:
        assert (await post(hook.url)).status == 200


async def test_unix_sockets_are_not_reached() -> None:
    async with guarded_client(EgressOptions(), ssl_context=NO_ROOTS) as client:
        backend = client._transport._pool._network_backend  # type: ignore[attr-defined]
        with pytest.raises(EgressRefused):
            await backend.connect_unix_socket("/run/docker.sock")
        await backend.sleep(0)
