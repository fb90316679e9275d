"""Stored calls over HTTP: lists, one call, its timeline, and forgetting it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bridge.calls.journal import Journal, KeyPress, Step, ToolUse, Turn
from bridge.server.api.examples import DEAD_EVENT
from bridge.server.recording.names import AudioNotFoundError
from bridge.server.store.calls import LiveCallError
from bridge.server.store.delivery import Delivery
from bridge.server.store.listing import CallFilter
from tests.server.api.api_fakes import ADMIN, record, refusal, running_api

NO_CALL = (404, "no_such_call", "")


def delivery(event_id: str, call_id: str) -> Delivery:
    return msgspec.structs.replace(DEAD_EVENT, id=event_id, call_id=call_id)


async def test_a_list_has_what_a_table_needs() -> None:
    async with running_api() as api:
        api.calls.add(record("a1"), record("b2", state="active", ended_at=None, result="", reason="", recording=None))
        response = await api.get("/v1/calls")
    body = response.json()
    assert body["next_cursor"] is None
    assert [call["id"] for call in body["calls"]] == ["a1", "b2"]
    over, live = body["calls"]
    assert over["live"] is False and over["duration_s"] == 42.5 and over["recorded"] is True
    assert (over["result"], over["reason"]) == ("success", "caller_hangup")
    assert live["live"] is True and live["duration_s"] == 0 and live["recorded"] is False
    assert live["ended_at"] is None
    assert (over["caller"], over["called"], over["call_sid"]) == (
        "+4930123456",
        "+15550100",
        "CA0123456789abcdef0123456789abcdef",
    )
    assert "journal" not in over and "transcript" not in over


async def test_pages_follow_each_other() -> None:
    async with running_api() as api:
        api.calls.add(*(record(f"c{number}") for number in range(5)))
        seen, cursor = [], None
        for _ in range(3):
            page = (await api.get("/v1/calls", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
            seen += [call["id"] for call in page["calls"]]
            cursor = page["next_cursor"]
    assert seen == ["c0", "c1", "c2", "c3", "c4"]
    assert cursor is None


async def test_filter_cursor_and_limit_reach_the_store() -> None:
    async with running_api() as api:
        await api.get("/v1/calls?provider=twilio&live=false&caller=%2B49301&limit=7&cursor=3")
    assert api.calls.asked == [(CallFilter(provider="twilio", live=False, caller="+49301"), "3", 7)]


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("since=x", "since"), ("cursor=%3Cscript%3E", "cursor"), ("agent=1", "agent")],
)
async def test_a_wrong_parameter_is_named(query: str, field: str) -> None:
    async with running_api() as api:
        assert await api.refusal("GET", f"/v1/calls?{query}") == (400, "invalid_parameter", field)


async def test_one_call_has_everything() -> None:
    async with running_api() as api:
        api.calls.add(record("a1"))
        body = (await api.get("/v1/calls/a1")).json()
    assert body["id"] == "a1"
    assert body["conversation_id"] == "conv_01"
    assert body["advice"] == "Nothing to do: the caller hung up."
    assert body["transcript"][0] == {
        "role": "agent",
        "text": "Hello, how",
        "at_s": 1.0,
        "original": "Hello, how can I help?",
        "interrupted": True,
    }
    assert body["tools"][0]["took_ms"] == 120.0
    assert body["keys"] == [{"at_s": 10.0, "digit": "1", "duration_ms": 100}]
    assert body["recording"]["url"] == "/v1/calls/a1/audio"
    assert body["recording"]["pauses"] == [[12.0, 18.5]]
    assert body["latency"]["caller_to_agent"]["p99_ms"] == 0.25
    assert body["variables"] == {"language": "en"}


async def test_a_call_is_found_by_the_ids_of_others() -> None:
    async with running_api() as api:
        api.calls.add(record("a1", call_sid="CA1", conversation_ids=["conv_1", "conv_2"]))
        for path in ("/v1/calls/CA1?by=call_sid", "/v1/calls/conv_1?by=conversation_id", "/v1/calls/a1?by=id"):
            assert (await api.get(path)).json()["id"] == "a1"
        assert (await api.get("/v1/calls/conv_2/events?by=conversation_id")).json()["call_id"] == "a1"
        assert await api.refusal("GET", "/v1/calls/CA2?by=call_sid") == NO_CALL
        assert await api.refusal("GET", "/v1/calls/a1?by=name") == (400, "invalid_parameter", "by")


@pytest.mark.parametrize("what", ["", "/events", "/transcript", "/audio", "/webhooks"])
async def test_a_call_that_is_not_there(what: str) -> None:
    async with running_api() as api:
        assert await api.refusal("GET", f"/v1/calls/gone{what}") == NO_CALL


@pytest.mark.parametrize("given", ["a%20b", "%00", "%ff", "%3Cscript%3E", "..%5c", "x" * 256, "a.b", "%C3%A4"])
async def test_an_id_that_is_none(given: str) -> None:
    async with running_api() as api:
        response = await api.get(f"/v1/calls/{given}")
    assert refusal(response) == (400, "invalid_parameter", "id")
    assert b"<script>" not in response.content


async def test_a_path_never_leaves_its_place() -> None:
    async with running_api() as api:
        assert await api.refusal("GET", "/v1/calls/..%2f..%2fetc%2fpasswd/audio") == (404, "no_such_path", "")


async def test_the_timeline_is_in_order_of_time() -> None:
    journal = Journal(
        turns=[Turn(role="user", text="Hi", at_s=2.0), Turn(role="agent", text="Hello", at_s=4.0)],
        tools=[ToolUse(name="t", call_id="1", at_s=3.0)],
        digits=[KeyPress(at_s=2.0, digit="5", duration_ms=90)],
        steps=[Step(at_s=0.0, event="admitting"), Step(at_s=2.0, event="interrupted", detail="x")],
        lost=7,
    )
    async with running_api() as api:
        api.calls.add(record("a1", journal=journal, created_at=1000.0))
        body = (await api.get("/v1/calls/a1/events")).json()
    assert (body["call_id"], body["live"], body["entries_lost"]) == ("a1", False, 7)
    assert [(event["type"], event["at_s"], event["at"]) for event in body["events"]] == [
        ("step", 0.0, 1000.0),
        ("step", 2.0, 1002.0),
        ("turn", 2.0, 1002.0),
        ("key", 2.0, 1002.0),
        ("tool", 3.0, 1003.0),
        ("turn", 4.0, 1004.0),
    ]
    assert body["events"][1] == {"type": "step", "at": 1002.0, "at_s": 2.0, "event": "interrupted", "detail": "x"}


async def test_the_transcript() -> None:
    async with running_api() as api:
        api.calls.add(record("a1"), record("b2", journal=Journal()))
        body = (await api.get("/v1/calls/a1/transcript")).json()
        purged = (await api.get("/v1/calls/b2/transcript")).json()
    assert [turn["text"] for turn in body["turns"]] == ["Hello, how", "When do you open?", "At nine."]
    assert (body["conversation_id"], body["live"]) == ("conv_01", False)
    assert purged["turns"] == []


async def test_the_webhooks_of_a_call() -> None:
    async with running_api() as api:
        api.calls.add(record("a1"))
        api.deliveries.events = [delivery("e1", "a1"), delivery("e2", "b2")]
        body = (await api.get("/v1/calls/a1/webhooks")).json()
    assert [event["id"] for event in body["events"]] == ["e1"]


async def test_what_was_said_is_data_and_never_markup() -> None:
    evil = '</script><script>alert(1)</script>"\u2028'
    async with running_api() as api:
        api.calls.add(record("a1", caller=evil, journal=Journal(turns=[Turn(role="user", text=evil, at_s=0.0)])))
        response = await api.get("/v1/calls/a1")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert response.json()["transcript"][0]["text"] == evil


# --- forgetting ---


async def test_a_call_is_forgotten_with_all_that_belongs_to_it() -> None:
    async with running_api() as api:
        call = record("a1")
        assert call.recording is not None
        api.calls.add(call, record("b2"))
        api.audio.files = {call.recording.location: b"sound"}
        response = await api.client.delete("/v1/calls/a1")
        assert (response.status_code, response.content) == (204, b"")
        assert list(api.calls.records) == ["b2"]
        assert api.audio.files == {}
        assert api.forgotten == ["a1"], "flight record and SIP messages"
        assert await api.refusal("DELETE", "/v1/calls/a1") == NO_CALL


async def test_a_call_without_recording_is_forgotten() -> None:
    async with running_api() as api:
        api.audio.error = OSError()
        api.calls.add(record("a1", recording=None))
        assert (await api.client.delete("/v1/calls/a1")).status_code == 204


async def test_a_call_that_goes_on_is_not_forgotten() -> None:
    async with running_api() as api:
        api.calls.add(record("a1", state="active", ended_at=None))
        assert await api.refusal("DELETE", "/v1/calls/a1") == (409, "call_is_live", "")
        assert "a1" in api.calls.records


async def test_a_call_that_came_back_to_life_is_not_forgotten() -> None:
    async with running_api() as api:
        api.calls.add(record("a1", recording=None))

        async def delete(call_id: str) -> None:
            raise LiveCallError("the call goes on")

        api.calls.delete = delete  # type: ignore[method-assign]
        assert await api.refusal("DELETE", "/v1/calls/a1") == (409, "call_is_live", "")


async def test_a_recording_out_of_reach_keeps_its_record() -> None:
    async with running_api() as api:
        api.calls.add(record("a1"))
        api.audio.error = AudioNotFoundError("the recording is in a bucket that is not set")
        assert await api.refusal("DELETE", "/v1/calls/a1") == (409, "recording_elsewhere", "")
        assert "a1" in api.calls.records


async def test_a_forgetting_that_failed_can_be_repeated() -> None:
    async with running_api() as api:
        call = record("a1")
        assert call.recording is not None
        api.calls.add(call)
        api.audio.files = {call.recording.location: b"sound"}
        api.audio.error = OSError("the bucket does not answer")
        assert await api.refusal("DELETE", "/v1/calls/a1") == (503, "unavailable", "")
        assert "a1" in api.calls.records
        api.audio.error = None
        assert (await api.client.delete("/v1/calls/a1")).status_code == 204


async def test_only_our_own_id_forgets() -> None:
    async with running_api() as api:
        api.calls.add(record("a1", call_sid="CA1"))
        assert await api.refusal("DELETE", "/v1/calls/CA1?by=call_sid") == (400, "invalid_parameter", "by")


# --- numbers ---


async def test_numbers_are_masked_wherever_they_stand() -> None:
    journal = Journal(
        turns=[Turn(role="user", text="I am +49 30 123456.", at_s=0.0, original="4930123456")],
        tools=[
            ToolUse(name="t", call_id="1", at_s=0.0, parameters={"to": "tel:+4930123456"}, result="+15550100 rings")
        ],
        steps=[Step(at_s=0.0, event="transfer", detail="to sip:alice@example.com")],
    )
    changes: dict[str, Any] = {
        "variables": {"bridge_caller_id": "+4930123456", "count": 3},
        "initiation": {"user_id": "4930123456"},
        "outputs": {"callback": "+4930123456"},
        "detail": "+4930123456 hung up",
        "route": "+15550100",
        "journal": journal,
    }
    async with running_api(redact=True) as api:
        api.calls.add(record("a1", **changes))
        texts = {
            path: (await api.get(path)).text
            for path in ("/v1/calls", "/v1/calls/a1", "/v1/calls/a1/events", "/v1/calls/a1/transcript")
        }
        body = (await api.get("/v1/calls/a1")).json()
    for text in texts.values():
        for secret in ("30123456", "5550100", "30 123456", "alice"):
            assert secret not in text
    assert (body["caller"], body["called"], body["route"]) == ("+***456", "+***100", "+***100")
    assert body["variables"] == {"bridge_caller_id": "+***456", "count": 3}
    assert body["outputs"] == {"callback": "+***456"}
    assert api.calls.records["a1"].caller == "+4930123456"


async def test_a_masked_call_is_still_found_by_its_number() -> None:
    async with running_api(redact=True, key=ADMIN) as api:
        await api.get("/v1/calls?caller=%2B4930123456")
    assert api.calls.asked[0][0].caller == "+4930123456"
