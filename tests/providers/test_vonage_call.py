"""What is known of a call when its socket begins: headers first, the old connector's query behind."""

from __future__ import annotations

import pytest

from bridge.errors import RemoteError
from bridge.events import CallInfo
from bridge.leg import UpgradeRequest
from bridge.providers.vonage_call import call_info, read_query
from bridge.providers.vonage_messages import Connected

L16 = "audio/l16;rate=16000"
OLD = (
    "/vonage/media?participant=pstn1&peer_uuid=u-1&webhook_url=https%3A%2F%2Fapp.example%2Fresults"
    "&call_direction=inbound&caller_number=447700900000&callee_number=447700900001"
)


def info(headers: dict[str, str], path: str = "/vonage/media", upgrade: dict[str, str] | None = None) -> CallInfo:
    return call_info("vonage", Connected(L16, headers), UpgradeRequest(path, upgrade or {}))


def test_our_own_headers() -> None:
    headers = {"uuid": "u-1", "token": "t1", "region_url": "https://api-eu-3.vonage.com", "plan": "gold"}
    assert info(headers) == CallInfo(
        provider="vonage",
        call_sid="u-1",
        token="t1",
        control_url="https://api-eu-3.vonage.com",
        parameters={"plan": "gold"},
    )


def test_what_found_no_room_in_the_headers_is_in_the_query() -> None:
    path = "/vonage/media?uuid=u-1&region_url=https%3A%2F%2Fapi-eu-3.vonage.com"
    assert info({"token": "t1"}, path) == info(
        {"uuid": "u-1", "token": "t1", "region_url": "https://api-eu-3.vonage.com"}
    )


def test_the_old_connectors_query() -> None:
    assert info({}, OLD) == CallInfo(
        provider="vonage",
        call_sid="u-1",
        caller="447700900000",
        called="447700900001",
        parameters={"peer_uuid": "u-1", "participant": "pstn1", "webhook_url": "https://app.example/results"},
    )


def test_headers_come_before_the_query() -> None:
    found = info({"uuid": "u-2", "caller": "1", "to": "2", "direction": "outbound"}, OLD)
    assert (found.call_sid, found.caller, found.called, found.direction) == ("u-2", "1", "2", "outbound")
    assert found.parameters == {
        "peer_uuid": "u-1",
        "participant": "pstn1",
        "webhook_url": "https://app.example/results",
    }


def test_a_conversation_is_the_streams_id() -> None:
    assert info({"uuid": "u", "conversation_uuid": "CON-1"}).stream_id == "CON-1"


def test_a_token_in_the_query_is_none() -> None:
    assert info({"uuid": "u"}, "/vonage/media?token=t1") == CallInfo(provider="vonage", call_sid="u")


@pytest.mark.parametrize(
    ("upgrade", "call_sid"),
    [
        ({"sec-websocket-key": "dGhl+HNh/XBsZQ=="}, "ws-dGhl-HNh_XBsZQ"),
        ({"x-opentok-ws-connectionid": "c-1", "sec-websocket-key": "k"}, "c-1"),
    ],
)
def test_a_call_without_an_id_gets_one_of_the_handshakes(upgrade: dict[str, str], call_sid: str) -> None:
    assert info({"uuid": ""}, upgrade=upgrade).call_sid == call_sid


@pytest.mark.parametrize("uuid", ["", "../../v2/applications", "u 1", "u/1", "ü", "x" * 129, "u\n"])
def test_an_id_that_is_none(uuid: str) -> None:
    with pytest.raises(RemoteError, match=r"^websocket:connected: uuid is no id of a call$"):
        info({"uuid": uuid})


@pytest.mark.parametrize(
    ("raw_path", "query"),
    [
        ("/vonage/media", {}),
        ("/vonage/media?", {}),
        ("/vonage/media?uuid=a&uuid=b&other=c", {"uuid": "a"}),
        ("/vonage/media?uuid=%20", {"uuid": " "}),
        ("/vonage/media?uuid=" + "x" * 4092, {}),
        ("/vonage/media?" + "&".join(["uuid=a"] * 65), {}),
    ],
)
def test_a_query_is_read_with_bounds(raw_path: str, query: dict[str, str]) -> None:
    assert read_query(raw_path) == query
