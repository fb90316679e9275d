"""The query parser: every mistake is named with its mend, and nothing else gets through."""

from __future__ import annotations

from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.server.api.calls import FILTERS
from bridge.server.api.errors import ApiError
from bridge.server.api.query import MAX_UNIX_S, parse_filter, parse_flag, parse_limit, parse_query, parse_time
from bridge.server.store.listing import CallFilter

KNOWN = tuple(parameter.name for parameter in FILTERS)


def parsed(raw: str) -> CallFilter:
    return parse_filter(parse_query(raw.encode(), KNOWN))


def refusal(raw: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        query = parse_query(raw, KNOWN)
        parse_filter(query)
        parse_limit(query)
    assert caught.value.status == 400
    return caught.value


def test_no_query_wants_everything() -> None:
    assert parsed("") == CallFilter()


def test_every_filter_is_taken() -> None:
    assert parsed(
        "provider=twilio&agent_id=agent_1&caller=%2B4930123456&called=sip%3Aalice%40example.com&state=active"
        "&result=success&reason=caller_hangup&direction=inbound&since=2026-03-31T09:30:00Z&until=1774949401.5"
        "&live=true&conversation_id=conv_1&call_sid=CA1"
    ) == CallFilter(
        provider="twilio",
        agent_id="agent_1",
        caller="+4930123456",
        called="sip:alice@example.com",
        state="active",
        result="success",
        reason="caller_hangup",
        direction="inbound",
        since=1774949400.0,
        until=1774949401.5,
        live=True,
        conversation_id="conv_1",
        call_sid="CA1",
    )


def test_a_plus_that_was_not_encoded_is_understood() -> None:
    assert parsed("caller=+4930123456&called=+1555").caller == "+4930123456"
    assert parsed("since=2026-03-31T11:30:00+02:00").since == 1774949400.0


def test_blank_parameters_are_none() -> None:
    assert parsed("provider=&state=&caller=") == CallFilter()


@pytest.mark.parametrize(
    ("text", "unix_s"),
    [
        ("0", 0.0),
        ("1774949400", 1774949400.0),
        ("1774949400.25", 1774949400.25),
        ("2026-03-31T09:30:00Z", 1774949400.0),
        ("2026-03-31T09:30:00", 1774949400.0),
        ("2026-03-31 09:30", 1774949400.0),
        ("2026-03-31T11:30:00 02:00", 1774949400.0),
        ("2026-03-31", 1774915200.0),
        ("20260331", 1774915200.0),
        ("1969-12-31T00:00:00Z", 0.0),
    ],
)
def test_times(text: str, unix_s: float) -> None:
    assert parse_time("since", text) == unix_s


@pytest.mark.parametrize(
    "text",
    ["yesterday", "nan", "inf", "-1", "1e9", "2026-13-01", "١٢٣", "9999999999999999"],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ApiError, match="since: is no time; write ISO 8601 such as") as caught:
        parse_time("since", text)
    assert caught.value.info.field == "since"


def test_milliseconds_are_called_by_their_name() -> None:
    with pytest.raises(ApiError, match="Unix time is in seconds here, not in milliseconds"):
        parse_time("until", "1774949400000")


@pytest.mark.parametrize(
    ("raw", "field", "message"),
    [
        ("agent=x", "agent", f"agent: is not known here; use {', '.join(KNOWN)}"),
        ("live=true&live=false", "live", "live: is there twice; give it once"),
        ("caller=" + "1" * 513, "caller", "caller: is longer than 512 characters; shorten it"),
        ("caller=a%00b", "caller", "caller: holds control characters; leave them out"),
        ("caller=a%7Fb", "caller", "caller: holds control characters; leave them out"),
        ("live=maybe", "live", "live: is neither true nor false"),
        ("direction=sideways", "direction", "direction: is none of inbound, outbound"),
        (
            "result=good",
            "result",
            "result: is none of success, client_error, server_error, upstream_error, indeterminate",
        ),
        ("state=Active", "state", "state: is none of waiting, admitting,"),
        ("reason=x", "reason", "reason: is none of caller_hangup, agent_hangup,"),
        ("provider=twilio/x", "provider", "provider: is no name; use up to 128 letters,"),
        ("call_sid=a%20b", "call_sid", "call_sid: is no id; ids have up to 255 visible ASCII characters and no spaces"),
        ("since=2026-04-01&until=2026-03-31", "until", "until: is not after since; swap them, or leave one out"),
        ("limit=0", "limit", "limit: is no whole number from 1 to 200"),
        ("limit=201", "limit", "limit: is no whole number from 1 to 200"),
        ("limit=ten", "limit", "limit: is no whole number from 1 to 200"),
        ("limit=1.5", "limit", "limit: is no whole number from 1 to 200"),
        ("limit=%D9%A1", "limit", "limit: is no whole number from 1 to 200"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_mend(raw: str, field: str, message: str) -> None:
    error = refusal(raw.encode())
    assert (error.info.code, error.info.field) == ("invalid_parameter", field)
    assert error.info.message.startswith(message)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"caller=%ff", "The query is not UTF-8; percent-encode its values as UTF-8."),
        (b"caller=\xff", "The query is not UTF-8; percent-encode its values as UTF-8."),
        (b"caller=" + b"1" * 8192, "The query is longer than 8192 bytes; shorten it."),
        (b"&".join([b"live=1"] * 51), "The query has more than 50 parameters; leave some out."),
    ],
)
def test_a_query_that_is_none(raw: bytes, message: str) -> None:
    error = refusal(raw)
    assert (error.info.code, error.info.message, error.info.field) == ("invalid_query", message, "")


def test_a_made_up_name_is_cut_and_made_plain() -> None:
    error = refusal(b"%3Cscript%3E%C3%A4" + b"x" * 100)
    assert error.info.field == "<script>\\xe4" + "x" * 28


def test_an_operation_without_parameters_says_so() -> None:
    with pytest.raises(ApiError, match="a: is not known here; use no parameter at all"):
        parse_query(b"a=1", ())


def test_limits() -> None:
    assert (parse_limit({}), parse_limit({"limit": "1"}), parse_limit({"limit": "200"})) == (50, 1, 200)
    assert parse_limit({"limit": "7"}, 100, 500) == 7


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("1", True), ("False", False), ("0", False)])
def test_flags(text: str, flag: bool) -> None:
    assert parse_flag("live", text) is flag


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    try:
        query = parse_query(raw, KNOWN)
        parse_limit(query)
        parse_filter(query)
    except ApiError as error:
        assert error.status == 400
        assert error.info.message


@given(st.dictionaries(st.sampled_from(KNOWN), st.text(max_size=40)))
def test_any_values_are_parsed_or_refused_by_name(values: dict[str, str]) -> None:
    raw = urlencode({name: value.encode("utf-8", "replace") for name, value in values.items()}).encode()
    try:
        wanted = parse_filter(parse_query(raw, KNOWN))
    except ApiError as error:
        assert error.info.field in values
    else:
        for moment in (wanted.since, wanted.until):
            assert moment is None or 0 <= moment <= MAX_UNIX_S


@given(st.text(min_size=1, max_size=50).filter(lambda text: text.isprintable() and not text.startswith(" ")))
def test_numbers_come_through_to_the_letter(number: str) -> None:
    assert parsed(f"caller={quote_plus(number.encode('utf-8'))}").caller == number


@given(st.floats(min_value=0, max_value=4e9, allow_nan=False))
def test_unix_times_come_through(unix_s: float) -> None:
    text = f"{unix_s:.6f}"
    assert parse_time("since", text) == float(text)
