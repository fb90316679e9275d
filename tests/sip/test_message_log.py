"""The SIP messages of a call: which are kept, and that nothing secret is shown."""

from __future__ import annotations

import pytest

from bridge.sip import message_log
from bridge.sip.flow import Flow, Transport
from bridge.sip.framing import parse_datagram
from bridge.sip.message import Message, Request, Response
from bridge.sip.message_log import MessageLog, MessageLogs, show_message, summarize, trace_text

FLOW = Flow(Transport.UDP, "192.0.2.10", 5060)
SIX = Flow(Transport.TLS, "2001:db8::1", 5061)
INVITE = (
    b"INVITE sip:+4930111@bridge.example SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKa1\r\n"
    b"From: <sip:+49151:pass@carrier.example>;tag=1\r\n"
    b"To: <sip:+4930111@bridge.example>\r\n"
    b"Call-ID: c1@192.0.2.10\r\n"
    b"CSeq: 2 INVITE\r\n"
    b'Authorization: Digest username="pbx", realm="bridge", nonce="n0", uri="sip:x", response="deadbeef", qop=auth, '
    b'nc=00000001, cnonce="c"\r\n'
    b"Proxy-Authorization: Bearer hunter2\r\n"
    b"X-Auth-Token: hunter3\r\n"
    b"X-Contact-ID: 42\r\n"
    b"Content-Type: application/sdp\r\n"
    b"Content-Length: 133\r\n\r\n"
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nk=clear:hunter4\r\nm=audio 4000 RTP/SAVP 0\r\n"
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:hunter5|2^20\r\n"
)


def parsed(data: bytes) -> Message:
    message = parse_datagram(data)
    assert message is not None
    return message


def made(method: str, call_id: str = "c1@192.0.2.10", body: bytes = b"", kind: str = "") -> Request:
    lines = [
        f"{method} sip:+4930111@bridge.example SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKa1",
        "From: <sip:a@b.example>;tag=1",
        "To: <sip:c@d.example>",
        f"Call-ID: {call_id}",
        f"CSeq: 1 {method}",
        *([f"Content-Type: {kind}"] if kind else []),
        f"Content-Length: {len(body)}",
    ]
    message = parsed("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    assert isinstance(message, Request)
    return message


def test_a_message_as_it_is_shown() -> None:
    assert show_message(parsed(INVITE)) == (
        "INVITE sip:+4930111@bridge.example SIP/2.0\n"
        "Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKa1\n"
        "From: <sip:+49151:(left out)@carrier.example>;tag=1\n"
        "To: <sip:+4930111@bridge.example>\n"
        "Call-ID: c1@192.0.2.10\n"
        "CSeq: 2 INVITE\n"
        'Authorization: Digest username="pbx", (left out)\n'
        "Proxy-Authorization: Bearer (left out)\n"
        "X-Auth-Token: (left out)\n"
        "X-Contact-ID: 42\n"
        "Content-Type: application/sdp\n"
        "\n"
        "v=0\n"
        "o=- 1 1 IN IP4 192.0.2.10\n"
        "s=-\n"
        "k=(left out)\n"
        "m=audio 4000 RTP/SAVP 0\n"
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:(left out)"
    )


@pytest.mark.parametrize(
    ("method", "kind", "body", "shown"),
    [
        ("INFO", "application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", "(24 bytes left out)"),
        ("INFO", "application/dtmf", b"5", "(1 bytes left out)"),
        ("INFO", "text/plain", b"5", "(1 bytes left out)"),
        ("INFO", "application/media_control+xml", b"<media_control/>", "<media_control/>"),
        ("NOTIFY", "application/kpml-response+xml", b"<digits>5</digits>", "(18 bytes left out)"),
        ("NOTIFY", "message/sipfrag;version=2.0", b"SIP/2.0 200 OK\r\n", "SIP/2.0 200 OK"),
        ("INVITE", "multipart/mixed;boundary=x", b"--x", "(3 bytes left out)"),
        ("INVITE", "application/sdp", b"v=0\r\n" + b"a=x\r\n" * 1000, "(5005 bytes left out)"),
        ("INVITE", "application/sdp", b"v=0\r\na=\xff\x07\r\n", "v=0\na=��"),
    ],
)
def test_bodies(method: str, kind: str, body: bytes, shown: str) -> None:
    assert show_message(made(method, body=body, kind=kind)).partition("\n\n")[2] == shown


def test_long_messages_are_cut() -> None:
    text = show_message(Request("INVITE", "sip:" + "a" * 20_000))
    assert (len(text), text[-1]) == (16_385, "…")


def test_what_a_message_is_called() -> None:
    assert summarize(parsed(INVITE)) == "INVITE"
    ok = Response(200, "OK", made("BYE").headers)
    assert summarize(ok) == "200 OK (BYE)"
    assert summarize(Response(180, "Ringing\x07")) == "180 Ringing�"
    assert show_message(ok).startswith("SIP/2.0 200 OK\nVia: ")


def test_a_trace() -> None:
    log = MessageLog("c1", 10.0)
    log.add(parsed(INVITE), FLOW, 10.0, sent=False)
    log.add(b"SIP/2.0 100 Trying\r\nCSeq: 2 INVITE\r\n\r\n", SIX, 10.25, sent=True)
    log.add(b"\x00garbage", SIX, 10.5, sent=True)
    assert len(log) == 3
    trace = log.trace()
    assert (trace.call_id, trace.left_out, trace.first) == ("c1", 0, 0)
    assert [(entry.at, entry.sent, entry.transport, entry.peer, entry.summary) for entry in trace.messages] == [
        (10.0, False, "UDP", "192.0.2.10:5060", "INVITE"),
        (10.25, True, "TLS", "[2001:db8::1]:5061", "100 Trying (INVITE)"),
        (10.5, True, "TLS", "[2001:db8::1]:5061", "?"),
    ]
    text = trace_text(trace, ["Call 7"])
    assert text.startswith("Call 7\n--- 0.000 s received from 192.0.2.10:5060 over UDP ---\nINVITE sip:")
    assert "\n--- 0.250 s sent to [2001:db8::1]:5061 over TLS ---\nSIP/2.0 100 Trying\nCSeq: 2 INVITE\n" in text
    assert text.endswith("(8 bytes left out)\n")
    assert "hunter" not in text
    assert trace_text(MessageLog("c1", 0).trace()) == ""


def test_the_beginning_and_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_log, "MAX_FIRST", 2)
    monkeypatch.setattr(message_log, "MAX_LATEST", 3)
    log = MessageLog("c1", 0.0)
    for number in range(9):
        log.add(f"SIP/2.0 {200 + number} x\r\n\r\n".encode(), FLOW, float(number), sent=True)
    trace = log.trace()
    assert [entry.summary[:3] for entry in trace.messages] == ["200", "201", "206", "207", "208"]
    assert (trace.left_out, trace.first) == (4, 2)
    assert "SIP/2.0 201 x\n\n--- 4 messages are not kept ---\n\n--- 6.000 s" in trace_text(trace)


def test_the_bytes_of_a_log_are_bounded() -> None:
    log = MessageLog("c1", 0.0)
    for number in range(100):
        log.add(b"x" * 10_000, FLOW, float(number), sent=True)
        log.add(made("INVITE", body=b"y" * 10_000, kind="text/plain"), FLOW, float(number), sent=False)
    assert len(log) * 10_000 <= message_log.MAX_LOG_BYTES
    assert log.trace().left_out == 200 - len(log)


def test_messages_find_their_call() -> None:
    logs = MessageLogs()
    logs.note(made("INVITE"), FLOW, 0.0, sent=False)
    logs.note_bytes(b"SIP/2.0 100 Trying\r\ni :  c1@192.0.2.10 \r\n\r\n", FLOW, 0.1, sent=True)
    logs.note(made("INVITE", "other"), FLOW, 0.2, sent=False)
    logs.note(made("BYE", "unknown"), FLOW, 0.3, sent=False)
    logs.note_bytes(b"INVITE sip:x SIP/2.0\r\n\r\n", FLOW, 0.3, sent=True)
    logs.note_bytes(b"INVITE sip:x SIP/2.0\r\nCall-ID: ours\r\nTo: x\r\n\r\n", FLOW, 0.4, sent=True)
    assert len(logs) == 3
    found = logs.find("c1@192.0.2.10")
    assert found is not None
    assert len(found) == 2
    assert logs.find("unknown") is None
    logs.claim("c1@192.0.2.10")
    logs.claim("unknown")
    assert logs.find("c1@192.0.2.10") is found
    assert logs.take("c1@192.0.2.10") is found
    assert logs.take("c1@192.0.2.10") is None
    assert logs.take("ours") is not None
    assert len(logs) == 1


def test_logs_that_nobody_claims_are_dropped() -> None:
    logs = MessageLogs(unclaimed_s=40.0, max_unclaimed=3)
    logs.note(made("INVITE", "claimed"), FLOW, 0.0, sent=False)
    logs.claim("claimed")
    logs.note(made("INVITE", "a"), FLOW, 0.0, sent=False)
    logs.note(made("INVITE", "b"), FLOW, 39.0, sent=False)
    assert logs.find("a") is not None
    logs.note(made("INVITE", "c"), FLOW, 41.0, sent=False)
    assert logs.find("a") is None
    logs.note(made("INVITE", "d"), FLOW, 42.0, sent=False)
    logs.note(made("INVITE", "e"), FLOW, 42.0, sent=False)
    assert logs.find("b") is None
    assert logs.find("claimed") is not None


def test_claimed_logs_are_bounded_too() -> None:
    logs = MessageLogs(max_logs=1)
    for name in ("a", "b"):
        logs.note(made("INVITE", name), FLOW, 0.0, sent=False)
        logs.claim(name)
    assert logs.find("a") is not None
    assert logs.find("b") is None
