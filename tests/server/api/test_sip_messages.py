"""SIP messages over HTTP: in which form, for whom, and with numbers masked where the operator wants that."""

from __future__ import annotations

from xml.etree import ElementTree

import msgspec
import pytest
from starlette.requests import Request

from bridge.auth.api_keys import Scope
from bridge.calls.sip_ladder import LADDER_CSP
from bridge.errors import RemoteError
from bridge.server.api.errors import ApiError
from bridge.server.api.openapi import build_openapi
from bridge.server.api.operations import Arrival, Operation
from bridge.server.api.sip_messages import redact_trace, sip_message_operations
from bridge.server.call_files import NoCallFileError
from bridge.sip.message_log import SipMessageEntry, SipTrace

TRACE = SipTrace(
    call_id="a84b@192.0.2.10",
    messages=[
        SipMessageEntry(
            at=1.5,
            sent=False,
            transport="UDP",
            peer="192.0.2.10:5060",
            summary="INVITE",
            text=(
                "INVITE sip:+4930111222@bridge.example SIP/2.0\n"
                "Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK4915112345\n"
                'From: "4915112345" <sip:4915112345@carrier.example>;tag=1\n'
                "X-CALLER-ID: 4915112345\n"
                "P-Asserted-Identity: <tel:+49-151-12345>\n"
                "Contact: <sip:192.0.2.10:5060>"
            ),
        )
    ],
)


class FakeMessages:
    """Has those of ``c1``; those of ``c3`` are damaged."""

    async def trace(self, call_id: str) -> SipTrace:
        if call_id == "c3":
            raise RemoteError("damaged")
        if call_id != "c1":
            raise NoCallFileError("none")
        return TRACE


def operation(redact: bool = False) -> Operation:
    (found,) = sip_message_operations(FakeMessages(), lambda: redact)
    return found


def arrival(call_id: str = "c1", accept: str = "", **query: str) -> Arrival:
    headers = [(b"accept", accept.encode())] if accept else []
    return Arrival(Request({"type": "http", "headers": headers}), {"id": call_id}, query, b"")


async def test_json_is_the_default() -> None:
    response = await operation().handler(arrival())
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert msgspec.json.decode(response.body, type=SipTrace) == TRACE
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["vary"] == "Accept"


async def test_text() -> None:
    response = await operation().handler(arrival(format="text"))
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert bytes(response.body).startswith(
        b"SIP messages of call c1\n\n--- 0.000 s received from 192.0.2.10:5060 over UDP ---\nINVITE sip:+4930111222@"
    )


async def test_a_picture() -> None:
    response = await operation().handler(arrival(format="svg"))
    assert response.headers["content-type"] == "image/svg+xml"
    assert response.headers["content-security-policy"] == f"{LADDER_CSP}; frame-ancestors 'none'"
    root = ElementTree.fromstring(bytes(response.body))
    assert root.findtext("{http://www.w3.org/2000/svg}title") == "SIP messages of call c1"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("image/svg+xml", "image/svg+xml"),
        ("image/avif, image/webp, image/*;q=0.8, */*;q=0.5", "image/svg+xml"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/plain;q=0.5, application/json", "application/json"),
        ("TEXT/*; q=0.9, application/json;q=0.1", "text/plain; charset=utf-8"),
        ("text/plain;q=0, image/svg+xml;q=0", "application/json"),
        ("text/html, */*", "application/json"),
        ("text/plain;q=nonsense", "text/plain; charset=utf-8"),
    ],
)
async def test_accept_decides(accept: str, kind: str) -> None:
    response = await operation().handler(arrival(accept=accept))
    assert response.headers["content-type"] == kind
    chosen = await operation().handler(arrival(accept=accept, format="json"))
    assert chosen.headers["content-type"] == "application/json"


async def test_refusals() -> None:
    with pytest.raises(ApiError, match="There are no SIP messages of call c2: it did not come over a") as none:
        await operation().handler(arrival("c2"))
    assert (none.value.status, none.value.info.code) == (404, "no_sip_messages")
    with pytest.raises(ApiError, match="The file with the SIP messages of call c3 is damaged") as damaged:
        await operation().handler(arrival("c3"))
    assert (damaged.value.status, damaged.value.info.code) == (404, "sip_messages_damaged")
    with pytest.raises(ApiError, match="is none of json, text, svg") as wrong:
        await operation().handler(arrival(format="pcap"))
    assert (wrong.value.status, wrong.value.info.field) == (400, "format")


async def test_numbers_are_masked_where_the_operator_wants_that() -> None:
    response = await operation(redact=True).handler(arrival(format="text"))
    text = bytes(response.body).decode()
    for number in ("4930111222", "4915112345", "151-12345"):
        assert number not in text
    assert "<sip:***345@carrier.example>" in text
    assert "X-CALLER-ID: ***345" in text
    for form in ("json", "svg"):
        shown = await operation(redact=True).handler(arrival(format=form))
        assert b"4915112345" not in shown.body


def test_a_host_is_not_taken_for_a_number() -> None:
    (message,) = redact_trace(TRACE).messages
    assert "Via: SIP/2.0/UDP 192.0.2.10;" in message.text


def test_it_takes_a_read_key_and_stands_in_the_document() -> None:
    assert operation().scope is Scope.READ
    document = build_openapi((operation(),), "")
    entry = document["paths"]["/v1/calls/{id}/sip-messages"]["get"]
    assert entry["responses"]["200"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/SipTrace"}},
        "text/plain": {},
        "image/svg+xml": {},
    }
    assert {"400", "404"} <= set(entry["responses"])
    assert document["components"]["schemas"]["SipMessageEntry"]["properties"]["sent"]["description"]
