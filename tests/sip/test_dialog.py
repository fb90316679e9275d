"""Dialogs: identity, numbers, routes and targets."""

from __future__ import annotations

from dataclasses import replace

from bridge.sip.dialog import BAD_CONTACT, BAD_RECORD_ROUTE, NO_CONTACT, Dialog, accept_dialog, found_dialog
from bridge.sip.envelope import Envelope, read_request
from bridge.sip.headers import Headers
from bridge.sip.message import Request
from bridge.sip.uri import SipUri, parse_uri
from bridge.sip.values import parse_address, parse_addresses


def envelope(*more: tuple[str, str], uri: str = "sip:us@198.51.100.1") -> Envelope:
    fields = (
        ("Via", "SIP/2.0/UDP a;branch=z9hG4bK1"),
        ("From", '"Bell, A." <sip:a@x>;tag=f'),
        ("To", "<sip:us@y>"),
        ("Call-ID", "c"),
        ("CSeq", "7 INVITE"),
    )
    read = read_request(Request("INVITE", uri, Headers((*fields, *more))))
    assert isinstance(read, Envelope)
    return read


def accepted(*more: tuple[str, str], uri: str = "sip:us@198.51.100.1") -> Dialog:
    dialog = accept_dialog(envelope(*more, uri=uri), "t")
    assert isinstance(dialog, Dialog)
    return dialog


def found(*more: tuple[str, str]) -> Dialog:
    uri = parse_uri("sip:callee@trunk.example")
    assert isinstance(uri, SipUri)
    return found_dialog(replace(envelope(*more), to=parse_address("<sip:us@y>;tag=p")), uri, 3)


CONTACT = ("Contact", "<sip:a@192.0.2.9:5070>")


def test_the_dialog_of_an_incoming_call() -> None:
    dialog = accepted(CONTACT, ("Record-Route", "<sip:p1;lr>, <sip:p2;lr>"))
    assert dialog.id == ("c", "t", "f")
    assert (dialog.remote_cseq, dialog.local_cseq, dialog.is_secure) == (7, 0, False)
    assert dialog.request_uri() == "sip:a@192.0.2.9:5070"
    assert str(dialog.next_hop) == "sip:p1;lr"
    assert dialog.next_cseq() == 1
    assert dialog.request_fields(1, "BYE") == (
        ("Route", "<sip:p1;lr>"),
        ("Route", "<sip:p2;lr>"),
        ("From", "<sip:us@y>;tag=t"),
        ("To", '"Bell, A." <sip:a@x>;tag=f'),
        ("Call-ID", "c"),
        ("CSeq", "1 BYE"),
    )


def test_the_dialog_of_an_outgoing_call() -> None:
    dialog = found(CONTACT, ("Record-Route", "<sip:p1;lr>, <sip:p2;lr>"))
    assert dialog.id == ("c", "f", "p")
    assert (dialog.remote_cseq, dialog.local_cseq) == (-1, 3)
    assert [str(route) for route in dialog.routes] == ["<sip:p2;lr>", "<sip:p1;lr>"]
    assert dialog.request_uri() == "sip:a@192.0.2.9:5070"


def test_a_response_without_a_usable_contact_or_route() -> None:
    dialog = found(("Contact", "<tel:+1>"), ("Record-Route", "<tel:+1>"))
    assert (dialog.request_uri(), dialog.routes) == ("sip:callee@trunk.example", ())
    assert found().request_uri() == "sip:callee@trunk.example"


def test_no_dialog() -> None:
    assert accept_dialog(envelope(), "t") == NO_CONTACT
    assert accept_dialog(envelope(("Contact", "<tel:+1>")), "t") == BAD_CONTACT
    assert accept_dialog(envelope(CONTACT, ("Record-Route", "<tel:+1>")), "t") == BAD_RECORD_ROUTE


def test_secure_dialogs() -> None:
    assert accepted(CONTACT, uri="sips:us@y").is_secure
    assert accepted(("Contact", "<sips:a@b>")).is_secure
    assert accepted(CONTACT, ("Record-Route", "<sips:p;lr>")).is_secure
    assert not accepted(("Contact", "<sips:a@b>"), ("Record-Route", "<sip:p;lr>")).is_secure


def test_a_strict_router() -> None:
    dialog = accepted(("Contact", "<sip:a@b?Subject=x>"), ("Record-Route", "<sip:p1:5070>, <sip:p2;lr>"))
    assert dialog.request_uri() == "sip:p1:5070"
    fields = dialog.request_fields(1, "BYE")
    assert fields[:2] == (("Route", "<sip:p2;lr>"), ("Route", "<sip:a@b?Subject=x>"))


def test_headers_in_a_contact_do_not_reach_the_request_uri() -> None:
    assert accepted(("Contact", "<sip:a@b?Subject=x>")).request_uri() == "sip:a@b"


def test_the_order_of_requests() -> None:
    dialog = accepted(CONTACT)
    assert [dialog.is_in_order(number) for number in (7, 8, 6, 8, 100)] == [True, True, False, True, True]


def test_refreshing_the_target() -> None:
    dialog = accepted(CONTACT)
    assert not dialog.refresh_target(None)
    assert not dialog.refresh_target(parse_addresses([CONTACT[1]])[0])
    assert not dialog.refresh_target(parse_address("<tel:+1>"))
    assert dialog.refresh_target(parse_address("<sip:new@host>"))
    assert dialog.request_uri() == "sip:new@host"
