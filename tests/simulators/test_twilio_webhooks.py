"""Time-outs, retries and overrides of the cloud's requests, against servers that are slow, gone or wrong."""

from __future__ import annotations

import pytest

from bridge.simulators.twilio_cloud_options import CloudOptions, Fault
from bridge.simulators.twilio_webhooks import MAX_ANSWER_BYTES, WebhookError, Webhooks
from tests.simulators.twilio_bridge import fake_bridge

pytestmark = pytest.mark.e2e


async def fail(url: str, method: str = "POST") -> tuple[int, str, int]:
    """Code and text of what goes wrong, and how often it was tried."""
    webhooks = Webhooks(CloudOptions(), lambda: 0.0)
    try:
        with pytest.raises(WebhookError) as caught:
            await webhooks.document(method, url, {"CallSid": "CA1"})
    finally:
        await webhooks.aclose()
    assert str(caught.value) == f"{caught.value.code}: {caught.value.text}"
    return caught.value.code, caught.value.text, len(webhooks.records)


async def test_nobody_there_is_tried_again_as_often_as_the_fragment_says() -> None:
    async with fake_bridge() as bridge:
        pass
    assert await fail(bridge.url("/voice")) == (11200, "POST /voice: ConnectError", 2)
    assert await fail(bridge.url("/voice#rc=0")) == (11200, "POST /voice: ConnectError", 1)
    assert await fail(bridge.url("/voice#rc=3")) == (11200, "POST /voice: ConnectError", 4)


async def test_a_slow_answer_is_not_asked_for_again() -> None:
    async with fake_bridge() as bridge:
        bridge.answers["/voice"], bridge.delays["/voice"] = "<Response/>", 0.5
        assert await fail(bridge.url("/voice#rt=50")) == (11205, "POST /voice: ReadTimeout", 1)
        assert await fail(bridge.url("/voice#tt=50")) == (11205, "POST /voice: ReadTimeout", 1)


async def test_what_is_no_url_or_too_big() -> None:
    for url in ("/voice", "http://[", "ftp://a/", "http:///x"):
        assert await fail(url) == (11100, "the URL is not an absolute http(s) URL", 0)
    async with fake_bridge() as bridge:
        bridge.answers["/voice"] = (MAX_ANSWER_BYTES + 1) * "x"
        assert await fail(bridge.url("/voice")) == (11750, "POST /voice was answered with 1048577 bytes", 1)


async def test_get_has_its_fields_in_the_query() -> None:
    async with fake_bridge() as bridge:
        webhooks = Webhooks(CloudOptions(), lambda: 0.0)
        bridge.answers["/voice"] = "<Response/>"
        assert await webhooks.document("GET", bridge.url("/voice?a=1"), {"From": "+1 5", "Zip": ""}) == "<Response/>"
        await webhooks.aclose()
    assert bridge.asked[0].target == "/voice?a=1&From=%2B1+5&Zip="


@pytest.mark.parametrize(
    ("public", "reach", "url", "expected"),
    [
        (
            "https://a.example/p",
            "http://127.0.0.1:8080/p",
            "https://a.example/p/v?x=1",
            "http://127.0.0.1:8080/p/v?x=1",
        ),
        ("https://a.example", "http://127.0.0.1:8080", "wss://a.example/m", "ws://127.0.0.1:8080/m"),
        ("https://a.example", "https://b.example", "wss://a.example/m", "wss://b.example/m"),
        ("https://a.example", "https://b.example", "https://a.example.org/m", "https://a.example.org/m"),
        ("", "", "https://a.example/m", "https://a.example/m"),
    ],
)
async def test_public_urls_are_reached_elsewhere(public: str, reach: str, url: str, expected: str) -> None:
    webhooks = Webhooks(CloudOptions(public_url=public, reach_url=reach), lambda: 0.0)
    assert webhooks.reach(url) == expected
    await webhooks.aclose()


def test_a_fault_is_for_its_requests_and_as_often_as_it_says() -> None:
    fault = Fault(method="POST", path="/Calls/*.json", times=1)
    assert fault.matches("POST", "/Calls/CA1.json")
    assert not fault.matches("GET", "/Calls/CA1.json") and not fault.matches("POST", "/Calls.json")
    fault.times -= 1
    assert not fault.matches("POST", "/Calls/CA1.json")
