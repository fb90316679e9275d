"""Every message of RFC 4475 comes to what its section says: taken with these fields, refused with this status, ignored.

Where the RFC leaves a choice, the test's comment says which one was made.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.sip.abilities import Abilities, find_objection
from bridge.sip.envelope import Dropped, Envelope, read_request, read_response
from bridge.sip.errors import NotSip, Rejection
from bridge.sip.framing import Lost, StreamEvent, StreamFramer, parse_datagram
from bridge.sip.message import Request, Response, is_answerable, make_response, reject
from bridge.sip.uri import OtherUri, SipUri
from bridge.sip.values import Address, parse_vias

FILES = Path(__file__).parents[1] / "vectors/sip/rfc4475"
EVERYTHING = Abilities(
    methods=("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER", "MESSAGE"),
    content_types=("application/sdp", "multipart/mixed"),
)

FIT_FOR_STREAMS = {
    "badaspec", "badbranch", "baddate", "baddn", "badinv01", "badvers", "bcast", "bext01", "cparam01", "cparam02",
    "esc01", "esc02", "escnull", "escruri", "insuf", "intmeth", "invut", "longreq", "ltgtruri", "lwsdisp", "lwsruri",
    "lwsstart", "mismatch01", "mismatch02", "mpart01", "multi01", "noreason", "novelsc", "quotbal", "regaut01",
    "regbadct", "regescrt", "scalar02", "scalarlg", "sdp01", "semiuri", "transports", "trws", "unkscm", "unksm2",
    "unreason", "wsinv", "zeromf",
}  # fmt: skip
"""Messages that a stream can be cut at."""
UNFIT_FOR_STREAMS = {"bigcode", "clerr", "inv2543", "mcl01", "ncl"}
"""No status line, or no Content-Length that could be trusted; ``clerr`` waits for a body that never comes."""


def data(name: str) -> bytes:
    return (FILES / f"{name}.dat").read_bytes()


def request(name: str) -> Request:
    message = parse_datagram(data(name))
    assert isinstance(message, Request)
    return message


def response(name: str) -> Response:
    message = parse_datagram(data(name))
    assert isinstance(message, Response)
    return message


def taken(name: str) -> tuple[Request, Envelope]:
    """The request and its envelope; it can be sent on as it was read."""
    message = request(name)
    envelope = read_request(message)
    assert isinstance(envelope, Envelope), envelope
    assert parse_datagram(message.encode()) == message
    return message, envelope


def taken_response(name: str) -> tuple[Response, Envelope]:
    message = response(name)
    envelope = read_response(message)
    assert isinstance(envelope, Envelope), envelope
    assert parse_datagram(message.encode()) == message
    return message, envelope


def rejected(name: str) -> tuple[int, str]:
    """Status and phrase; the answer to it can be sent, and says the same at the other end."""
    message = request(name)
    rejection = read_request(message)
    assert isinstance(rejection, Rejection)
    assert is_answerable(message)
    answer = reject(message, rejection, "our-tag")
    sent = parse_datagram(answer.encode())
    assert isinstance(sent, Response)
    assert (sent.status, sent.reason) == (rejection.status, rejection.reason)
    assert sent.headers.all("Via") == message.headers.all("Via")
    return rejection.status, rejection.reason


def objection(name: str, abilities: Abilities = EVERYTHING) -> Rejection | None:
    return find_objection(*taken(name), abilities)


def sip(address: Address | None) -> SipUri:
    assert address is not None and isinstance(address.uri, SipUri)
    return address.uri


# --- 3.1.1 valid messages ---


def test_3_1_1_1_a_short_tortuous_invite() -> None:
    message, envelope = taken("wsinv")
    assert (message.method, message.uri) == ("INVITE", "sip:vivekg@chair-dnrc.example.com;unknownparam")
    assert envelope.to.tag == "1918181833n"
    assert (envelope.from_.display, envelope.from_.tag) == ('J Rosenberg \\"', "98asjd8")
    assert (envelope.cseq.number, envelope.cseq.method, envelope.max_forwards) == (9, "INVITE", 68)
    assert envelope.call_id == "wsinv.ndaksdj@192.0.2.1"
    assert envelope.vias == 3
    hops = parse_vias(message.headers.all("via"))
    assert [(hop.transport, hop.host, hop.branch) for hop in hops] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert message.headers.get("Subject") == ""
    assert message.headers.get("newfangledheader") == "newfangled value continued newfangled value"
    assert message.headers.get("UnknownHeaderWithUnusualValue") == ";;,,;;,;"
    assert sip(envelope.routes[0]).raw_params == ";lr;unknownwith=value;unknown-no-value"
    assert envelope.contact is not None and envelope.contact.display == 'Quoted string ""'
    assert envelope.contact.params.items == (("newparam", "newvalue"), ("secondparam", None), ("q", "0.33"))
    assert len(message.body) == 150
    assert objection("wsinv") is None


def test_3_1_1_2_wide_range_of_valid_characters() -> None:
    message, envelope = taken("intmeth")
    assert message.method == envelope.cseq.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert isinstance(envelope.uri, SipUri)
    assert envelope.uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert envelope.uri.raw_password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert envelope.to.display == "BEL:\a NUL:\0 DEL:\x7f"
    assert envelope.from_.display == "token1~` token2'+_ token3*%!.-"
    assert envelope.from_.params.get("fromparam''~+*_!.-%") == "работающий"
    assert envelope.from_.tag == "_token~1'+`*%!-."
    assert envelope.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
    assert message.headers.get("extensionheader-!.%*+_`'~") == "\ufeff大停電"
    answer = objection("intmeth")  # a UAS answers methods that it does not know
    assert answer is not None and answer.status == 501
    assert answer.fields == (("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, MESSAGE"),)


def test_3_1_1_3_valid_escapes() -> None:
    _, envelope = taken("esc01")
    assert isinstance(envelope.uri, SipUri)
    assert (envelope.uri.user, envelope.uri.host) == ("sips:user@example.com", "example.net")
    assert sip(envelope.to).user == "user"
    assert sip(envelope.from_).user == "I have spaces"
    contact = sip(envelope.contact)
    assert contact.user == "caller"
    assert contact.loose  # %6C%72 is lr
    assert contact.param("name") == "value%41"
    assert str(contact) == "sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31"


def test_3_1_1_4_escaped_nulls() -> None:
    message, envelope = taken("escnull")
    assert message.method == "REGISTER"
    assert sip(envelope.to).user == "null-\0-null"
    assert [sip(contact).user for contact in envelope.contacts] == ["\0", "\0\0"]


def test_3_1_1_5_percent_that_is_no_escape() -> None:
    message, envelope = taken("esc02")
    assert message.method == "RE%47IST%45R"  # not REGISTER
    assert envelope.to.display == "%Z%45"
    assert [str(contact.uri) for contact in envelope.contacts] == [
        "sip:alias1@host1.example.com",
        "sip:alias3@host3.example.com",
    ]
    assert message.headers.get("C%6Fntact") == "<sip:alias2@host2.example.com>"
    answer = objection("esc02")
    assert answer is not None and answer.status == 501


def test_3_1_1_6_no_blank_between_display_name_and_bracket() -> None:
    _, envelope = taken("lwsdisp")
    assert (envelope.from_.display, str(envelope.from_.uri)) == ("caller", "sip:caller@example.com")


def test_3_1_1_7_long_values() -> None:
    message, envelope = taken("longreq")
    assert envelope.vias == 34
    assert [via.host for via in parse_vias(message.headers.all("Via"))][:2] == [
        "sip33.example.com",
        "sip32.example.com",
    ]
    assert envelope.from_.tag == "12" + "982" * 50 + "424"
    assert sip(envelope.to).port == 6000
    assert envelope.call_id == "longreq.one" + "really" * 20 + "longcallid"
    assert objection("longreq") is None


def test_3_1_1_8_extra_bytes_in_a_datagram() -> None:
    message, _ = taken("dblreq")
    assert (message.method, message.body) == ("REGISTER", b"")
    assert message.headers.get("Call-ID") == "dblreq.0ha0isndaksdj99sdfafnl3lk233412"


def test_3_1_1_9_semicolons_in_the_user_part() -> None:
    _, envelope = taken("semiuri")
    assert isinstance(envelope.uri, SipUri)
    assert (envelope.uri.user, envelope.uri.host) == ("user;par=u@example.net", "example.com")
    assert envelope.uri.param("par") is None
    assert objection("semiuri") is None


def test_3_1_1_10_varied_and_unknown_transports() -> None:
    message, _ = taken("transports")
    hops = parse_vias(message.headers.all("Via"))
    assert [hop.transport for hop in hops] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]


def test_3_1_1_11_multipart_with_binary_zeros() -> None:
    message, _ = taken("mpart01")
    assert len(message.body) == 553
    assert b"\0" in message.body and message.body.endswith(b"\r\n--7a9cbec02ceef655--\r\n")
    assert objection("mpart01") is None


def test_3_1_1_12_unusual_reason_phrase() -> None:
    message, envelope = taken_response("unreason")
    assert message.status == 200
    assert message.reason == "= 2**3 * 5**2 но сто девяносто девять - простое"
    assert envelope.cseq.number == 35


def test_3_1_1_13_empty_reason_phrase() -> None:
    message, _ = taken_response("noreason")
    assert (message.status, message.reason) == (100, "")


# --- 3.1.2 invalid messages ---


def test_3_1_2_1_extraneous_separators() -> None:
    assert rejected("badinv01") == (400, "Malformed Via: a parameter is malformed")


def test_3_1_2_1_extraneous_separators_in_contact_alone() -> None:
    text = data("badinv01").replace(b"192.0.2.15;;,;,,", b"192.0.2.15")
    message = parse_datagram(text)
    assert isinstance(message, Request)
    assert read_request(message) == Rejection(400, "Malformed Contact: a parameter is malformed")


def test_3_1_2_2_content_length_larger_than_the_message() -> None:
    assert rejected("clerr") == (400, "Content-Length Exceeds Message")


def test_3_1_2_3_negative_content_length() -> None:
    assert rejected("ncl") == (400, "Malformed Content-Length")


def test_3_1_2_4_request_with_overlarge_scalars() -> None:
    assert rejected("scalar02") == (400, "Malformed CSeq: a number is too high")


def test_3_1_2_5_response_with_overlarge_scalars() -> None:
    assert read_response(response("scalarlg")) == Dropped("malformed CSeq: a number is too high")


def test_3_1_2_6_unterminated_quoted_string() -> None:
    assert rejected("quotbal") == (400, "Malformed To: a quoted string does not end")


def test_3_1_2_7_angle_brackets_around_the_request_uri() -> None:
    assert rejected("ltgtruri") == (400, "Malformed Request-Line")


def test_3_1_2_8_blank_within_the_request_uri() -> None:
    assert rejected("lwsruri") == (400, "Malformed Request-Line")


def test_3_1_2_9_several_blanks_in_the_request_line() -> None:
    assert rejected("lwsstart") == (400, "Malformed Request-Line")  # rejecting is one of two choices


def test_3_1_2_10_blanks_at_the_end_of_the_request_line() -> None:
    assert rejected("trws") == (400, "Malformed Request-Line")  # likewise


def test_3_1_2_11_headers_in_the_request_uri() -> None:
    assert rejected("escruri") == (400, "Headers in Request-URI")  # likewise


def test_3_1_2_12_invalid_time_zone_in_date() -> None:
    taken("baddate")  # taking it is one of two choices: nobody here reads Date
    assert objection("baddate") is None


def test_3_1_2_13_uri_with_headers_outside_of_angle_brackets() -> None:
    assert rejected("regbadct") == (400, "Malformed Contact: an address needs angle brackets")


def test_3_1_2_14_blanks_within_angle_brackets() -> None:
    assert rejected("badaspec") == (400, "Malformed To: a URI has no scheme")  # rejecting is one of two choices


def test_3_1_2_15_display_names_that_are_no_tokens() -> None:
    _, envelope = taken("baddn")  # taking it is one of two choices
    assert (envelope.from_.display, str(envelope.from_.uri)) == ("Bell, Alexander", "sip:a.g.bell@example.com")
    assert (envelope.to.display, str(envelope.to.uri)) == ("Watson, Thomas", "sip:t.watson@example.org")


def test_3_1_2_15_without_its_last_line_is_cut_short() -> None:
    message = parse_datagram(data("baddn").removesuffix(b"\r\n"))
    assert isinstance(message, Request)
    assert message.flaw == Rejection(400, "No End of Header Section")


def test_3_1_2_16_unknown_protocol_version() -> None:
    assert rejected("badvers") == (505, "Version Not Supported")


def test_3_1_2_17_methods_that_differ() -> None:
    assert rejected("mismatch01") == (400, "CSeq Method Differs from Request")


def test_3_1_2_18_methods_that_differ_and_one_unknown() -> None:
    assert rejected("mismatch02") == (400, "CSeq Method Differs from Request")  # 501 would do as well


def test_3_1_2_19_overlarge_response_code() -> None:
    with pytest.raises(NotSip, match="a status line is malformed"):
        parse_datagram(data("bigcode"))


# --- 3.2 transaction layer ---


def test_3_2_1_branch_with_nothing_behind_the_cookie() -> None:
    _, envelope = taken("badbranch")
    assert envelope.via.branch == "z9hG4bK"
    assert not envelope.via.branch_is_unique


# --- 3.3 application layer ---


def test_3_3_1_missing_required_headers() -> None:
    assert rejected("insuf") == (400, "Missing From")


def test_3_3_2_unknown_request_uri_scheme() -> None:
    assert objection("unkscm") == Rejection(416, "Unsupported URI Scheme")
    _, envelope = taken("unkscm")
    assert envelope.uri == OtherUri("nobodyknowsthisscheme", "totallyopaquecontent")


def test_3_3_3_known_but_unusual_request_uri_scheme() -> None:
    assert objection("novelsc") == Rejection(416, "Unsupported URI Scheme")


def test_3_3_4_unknown_schemes_in_to_from_and_contact() -> None:
    _, envelope = taken("unksm2")
    assert envelope.to.uri == OtherUri("isbn", "2983792873")
    assert envelope.from_.uri == OtherUri("http", "//www.example.com")
    assert envelope.contacts == (Address(OtherUri("name", "John_Smith")),)


def test_3_3_5_unknown_extensions_required() -> None:
    assert objection("bext01") == Rejection(
        420, "Bad Extension", (("Unsupported", "nothingSupportsThis, nothingSupportsThisEither"),)
    )


def test_3_3_6_unknown_content_type() -> None:
    assert objection("invut") == Rejection(
        415, "Unsupported Media Type", (("Accept", "application/sdp, multipart/mixed"),)
    )


def test_3_3_7_unknown_authorization_scheme() -> None:
    message, _ = taken("regaut01")  # that it counts as no credentials is in tests/auth/test_sip_digest.py
    assert message.headers.all("Authorization") == ("NoOneKnowsThisScheme opaque-data=here",)


def test_3_3_8_several_values_where_one_is_allowed() -> None:
    assert rejected("multi01") == (400, "More than one To")


def test_3_3_9_several_content_lengths() -> None:
    assert rejected("mcl01") == (400, "Malformed Content-Length")


def test_3_3_10_response_with_a_second_via() -> None:
    assert read_response(response("bcast")) == Dropped("a response has more than one Via")


def test_3_3_11_max_forwards_of_zero() -> None:
    _, envelope = taken("zeromf")
    assert envelope.max_forwards == 0
    assert objection("zeromf") is None  # an end point is where it may arrive


def test_3_3_12_parameter_of_the_contact_header() -> None:
    _, envelope = taken("cparam01")
    assert envelope.contact is not None
    assert envelope.contact.params.items == (("unknownparam", None),)
    assert sip(envelope.contact).raw_params == ""


def test_3_3_13_parameter_of_the_contact_uri() -> None:
    _, envelope = taken("cparam02")
    assert envelope.contact is not None
    assert envelope.contact.params.items == ()
    assert sip(envelope.contact).raw_params == ";unknownparam"


def test_3_3_14_headers_in_the_contact_uri() -> None:
    _, envelope = taken("regescrt")
    assert sip(envelope.contact).raw_headers == "Route=%3Csip:sip.example.com%3E"


def test_3_3_15_unacceptable_accept() -> None:
    assert objection("sdp01") == Rejection(406, "Not Acceptable")


# --- 3.4 backward compatibility ---


def test_3_4_1_invite_of_rfc_2543() -> None:
    message, envelope = taken("inv2543")
    assert (envelope.from_.tag, envelope.via.branch, envelope.max_forwards) == ("", "", 70)
    assert message.body.endswith(b"RTP/AVP 0\r\n")  # no Content-Length: the rest of the datagram
    assert sip(envelope.record_routes[0]).param("maddr") == "ss1.example.com"
    assert objection("inv2543") is None


# --- all of them ---


def test_every_file_has_its_test() -> None:
    names = {path.stem for path in FILES.glob("*.dat")}
    assert len(names) == 49
    source = Path(__file__).read_text("utf-8")
    assert [name for name in sorted(names) if f'("{name}")' not in source] == []
    assert names == FIT_FOR_STREAMS | UNFIT_FOR_STREAMS | {"dblreq"}


@pytest.mark.parametrize("path", sorted(FILES.glob("*.dat")), ids=lambda path: path.stem)
def test_every_request_can_be_answered_and_stamped(path: Path) -> None:
    try:
        message = parse_datagram(path.read_bytes())
    except NotSip:
        return
    if isinstance(message, Request):
        stamped = message.stamped("198.51.100.7", 5062)
        answer = parse_datagram(make_response(stamped, 500, to_tag="t").encode())
        assert isinstance(answer, Response)
        if message.flaw is None and path.stem != "badinv01":
            assert parse_vias(stamped.headers.all("Via"))[0].received == "198.51.100.7"


def all_at_once(text: bytes) -> list[StreamEvent]:
    return StreamFramer().receive(text)


def byte_by_byte(text: bytes) -> list[StreamEvent]:
    framer = StreamFramer()
    return [event for place in range(len(text)) for event in framer.receive(text[place : place + 1])]


@pytest.mark.parametrize("name", sorted(FIT_FOR_STREAMS))
def test_on_a_stream_as_in_a_datagram(name: str) -> None:
    message = parse_datagram(data(name))
    once, twice = all_at_once(data(name)), all_at_once(data(name) + data(name))
    assert once == [message]
    assert twice == [message, message]
    assert byte_by_byte(data(name)) == once


@pytest.mark.parametrize("name", sorted(UNFIT_FOR_STREAMS - {"clerr"}))
def test_what_no_stream_can_be_cut_at(name: str) -> None:
    for events in (all_at_once(data(name)), byte_by_byte(data(name))):
        assert isinstance(events[-1], Lost)
        assert [event.flaw is not None for event in events[:-1] if isinstance(event, Request)] == [True] * (
            len(events) - 1
        )


def test_a_stream_waits_for_the_body_that_was_promised() -> None:
    framer = StreamFramer()
    assert framer.receive(data("clerr")) == []
    assert framer.unfinished


def test_both_requests_of_one_read_come_out_of_a_stream() -> None:
    events = all_at_once(data("dblreq"))
    assert [event.method for event in events if isinstance(event, Request)] == ["REGISTER", "INVITE"]
