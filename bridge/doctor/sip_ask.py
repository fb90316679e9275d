"""One OPTIONS request over UDP, TCP or TLS, and what came of it: whether somebody at an address speaks SIP.

Any final response is a sign of life. Nothing is answered to a challenge, and no call is begun. Over UDP the request
is repeated as a client transaction does; a connection is opened, used once and closed. It does not go through the
user agent: the bridge that runs on this machine has the ports, and a look must leave nothing in its books.

Sources: RFC 3261 sections 11 (OPTIONS), 17.1.2 (repeats) and 18.1.2 (matching responses), RFC 3581 (rport).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace

from bridge.doctor.reach import Trouble, handshake_trouble
from bridge.sip.errors import HeaderError, NotSip
from bridge.sip.flow import Flow, Transport
from bridge.sip.framing import Lost, StreamFramer, parse_datagram
from bridge.sip.grammar import split_list
from bridge.sip.headers import Headers
from bridge.sip.ids import NewId, new_branch
from bridge.sip.message import Request, Response
from bridge.sip.trunks import parse_ip
from bridge.sip.values import Via, parse_via

ASK_TIMEOUT_S = 4.0
"""For connection and answer together: long enough for three repeats over UDP."""
T1_S = 0.5
"""First wait before a repeat over UDP; doubled each time (RFC 3261 section 17.1.2.2)."""
READ_BYTES = 16 * 1024
CLOSE_S = 1.0
"""How long a peer may take to part."""


class Silence(enum.Enum):
    """Why there was no answer, where not TLS is the reason."""

    REFUSED = "nobody listens there"
    TIME_OUT = f"no answer within {ASK_TIMEOUT_S:g} s"
    NO_CONNECTION = "no connection"
    HUNG_UP = "the connection was closed without an answer"
    NOT_SIP = "what answers there is no SIP"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, the same for every way to a peer."""

    uri: str
    """Request-URI."""
    own_host: str
    """Where peers reach us, for From: IPv6 in brackets."""
    product: str
    """User-Agent."""
    bind_host: str = ""
    """Numeric address that datagrams leave from; empty = as the system routes them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one way."""

    flow: Flow
    status: int = 0
    """Of the final response; 0 = there was none."""
    product: str = ""
    """Its Server header; the peer's own words."""
    seen_as: str = ""
    """The address that the peer saw the request come from, by its own words; empty = it does not say."""
    took_ms: float = 0.0
    """From the request to the response, connection not included."""
    trouble: Silence | Trouble | None = None
    """Why there was none."""
    expires_unix_s: float | None = None
    """End of the peer's certificate, where one was verified."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Tools of a look."""

    new_id: NewId
    """Random letters and digits."""
    monotonic: Callable[[], float]
    tls: ssl.SSLContext | None = None
    """For TLS; None = what is to be shown or trusted there cannot be read, so nothing is asked."""


async def ask(flow: Flow, question: Question, asking: Asking) -> Answer:
    """Ask once over this way, in ``ASK_TIMEOUT_S`` at most. Never raises for what the network does."""
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            if flow.transport is Transport.UDP:
                return await _over_udp(flow, question, asking)
            return await _over_stream(flow, question, asking)
    except ssl.SSLError as error:
        return Answer(flow, trouble=handshake_trouble(error))
    except TimeoutError:
        return Answer(flow, trouble=Silence.TIME_OUT)
    except ConnectionRefusedError:
        return Answer(flow, trouble=Silence.REFUSED)
    except OSError:
        return Answer(flow, trouble=Silence.NO_CONNECTION)


def options_request(question: Question, transport: Transport, sent_by: tuple[str, int], new_id: NewId) -> Request:
    """The request. ``sent_by`` is this socket's own address: peers that know no ``rport`` answer to its port."""
    host, port = bracketed(sent_by[0]), sent_by[1]
    fields = (
        ("Via", f"SIP/2.0/{transport.value} {host}:{port};branch={new_branch(new_id)};rport"),
        ("Max-Forwards", "70"),
        ("From", f"<sip:{question.own_host}>;tag={new_id()}"),
        ("To", f"<{question.uri}>"),
        ("Call-ID", new_id()),
        ("CSeq", "1 OPTIONS"),
        ("Contact", f"<sip:{host}:{port};transport={transport.value.lower()}>"),
        ("Accept", "application/sdp"),
        ("User-Agent", question.product),
    )
    return Request("OPTIONS", question.uri, Headers(fields))


def bracketed(host: str) -> str:
    """A numeric host or name as URIs have it: IPv6 in brackets, without zone."""
    return f"[{host.partition('%')[0]}]" if ":" in host else host


def answers(message: object, request: Request) -> bool:
    """Whether a message is the final response to this request."""
    if not isinstance(message, Response) or message.status < 200:
        return False
    return _branch(message.headers) == _branch(request.headers)


def _branch(headers: Headers) -> str:
    via = _top_via(headers)
    return via.branch if via is not None else ""


def _top_via(headers: Headers) -> Via | None:
    try:
        return parse_via(split_list(headers.get("Via") or "")[0])
    except (HeaderError, IndexError):
        return None


def _answer(flow: Flow, response: Response, took_s: float) -> Answer:
    via = _top_via(response.headers)
    received = parse_ip(via.received) if via is not None else None
    return Answer(
        flow,
        response.status,
        response.headers.get("Server") or "",
        "" if received is None else str(received),
        took_s * 1000,
    )


# --- UDP -------------------------------------------------------------------------------------------------


class _Datagrams(asyncio.DatagramProtocol):
    """Keeps the first final response to a request."""

    def __init__(self) -> None:
        self.request: Request | None = None
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """See asyncio. What is no answer to us is nothing to us."""
        with contextlib.suppress(NotSip):
            message = parse_datagram(data)
            if self.request is not None and answers(message, self.request) and not self.response.done():
                assert isinstance(message, Response)
                self.response.set_result(message)

    def error_received(self, exc: Exception) -> None:
        """See asyncio: the network says that nobody is there."""
        if not self.response.done():
            self.response.set_exception(exc)


async def _over_udp(flow: Flow, question: Question, asking: Asking) -> Answer:
    loop = asyncio.get_running_loop()
    transport, datagrams = await loop.create_datagram_endpoint(
        _Datagrams,
        local_addr=(question.bind_host, 0) if question.bind_host else None,
        remote_addr=(flow.host, flow.port),
    )
    try:
        request = options_request(question, flow.transport, transport.get_extra_info("sockname")[:2], asking.new_id)
        datagrams.request = request
        data, began_s, wait_s = request.encode(), asking.monotonic(), T1_S
        while True:
            transport.sendto(data)
            with contextlib.suppress(asyncio.TimeoutError):
                response = await asyncio.wait_for(asyncio.shield(datagrams.response), wait_s)
                return _answer(flow, response, asking.monotonic() - began_s)
            wait_s *= 2
    finally:
        datagrams.response.cancel()
        transport.close()


# --- TCP and TLS -----------------------------------------------------------------------------------------


async def _over_stream(flow: Flow, question: Question, asking: Asking) -> Answer:
    is_tls = flow.transport is Transport.TLS
    if is_tls and asking.tls is None:
        return Answer(flow, trouble=Trouble.NO_TLS)
    reader, writer = await asyncio.open_connection(
        flow.host,
        flow.port,
        ssl=asking.tls if is_tls else None,
        server_hostname=(flow.server_name or flow.host) if is_tls else None,
    )
    try:
        sent_by = writer.get_extra_info("sockname")[:2]
        request = options_request(question, flow.transport, sent_by, asking.new_id)
        began_s = asking.monotonic()
        writer.write(request.encode())
        response = await _response(reader, request)
        if isinstance(response, Silence):
            return Answer(flow, trouble=response)
        answer = _answer(flow, response, asking.monotonic() - began_s)
        return replace(answer, expires_unix_s=_expiry(writer))
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):  # how the peer parts is its own affair
            async with asyncio.timeout(CLOSE_S):
                await writer.wait_closed()


async def _response(reader: asyncio.StreamReader, request: Request) -> Response | Silence:
    framer = StreamFramer()
    try:
        while data := await reader.read(READ_BYTES):
            for event in framer.receive(data):
                if isinstance(event, Lost):
                    return Silence.NOT_SIP
                if answers(event, request):
                    assert isinstance(event, Response)
                    return event
    except ConnectionResetError:
        pass
    return Silence.HUNG_UP


def _expiry(writer: asyncio.StreamWriter) -> float | None:
    session = writer.get_extra_info("ssl_object")
    shown = session.getpeercert() if session is not None else None
    return ssl.cert_time_to_seconds(shown["notAfter"]) if shown else None
