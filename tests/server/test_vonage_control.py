"""Control of calls at Vonage: every request to the letter."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import httpx
import pytest

from bridge.calls.orders import TransferOrder
from bridge.leg import ToneWay, TransferKind
from bridge.providers.vonage_ncco import MediaConnect, render
from bridge.server import vonage_control
from bridge.server.carrier_control import (
    CarrierControl,
    Comeback,
    ControlError,
    ControlFault,
    Line,
    OutboundOrder,
    Whisper,
)
from bridge.server.vonage_control import VonageControl, VonageControlOptions
from bridge.server.vonage_rest import VonageRest
from tests.kit.vonage_api import FakeApi

REGION = "https://api-eu-3.vonage.com"
URL = "https://bridge.example/p"
LINE = Line("caller-1", caller="447700900000", called="447700900001", control_url=REGION)
CALLS = f"{REGION}/v1/calls"
COMEBACK = Comeback("t2")
WHISPER = Whisper("x/1", ring_s=25, accept_key="1", language="de")
PLACED = {"uuid": "human-1", "status": "started", "direction": "outbound", "conversation_uuid": "CON-1"}


def order(kind: TransferKind = TransferKind.WARM, target: str = "+4930123456", **fields: Any) -> TransferOrder:
    return TransferOrder(kind=kind, target=target, **fields)


def control(*answers: httpx.Response | Exception) -> tuple[VonageControl, FakeApi]:
    api = FakeApi(list(answers))
    return VonageControl(api.rest(), VonageControlOptions(URL)), api


def placed(api: FakeApi) -> Any:
    """The body of the one request that places a call, checked with the vendor's model where it is installed."""
    ((method, _, body),) = api.asked
    assert method == "POST"
    try:
        request = import_module("vonage_voice.models.requests").CreateCallRequest
    except ImportError:
        return body
    fields = {"from_" if name == "from" else name: value for name, value in body.items() if name != "ncco"}
    fields |= {"ncco": []} if "ncco" in body else {}
    fields["to"] = [
        {"content_type" if name == "content-type" else name: value for name, value in to.items()} for to in fields["to"]
    ]
    made = request(**fields).model_dump(by_alias=True, exclude_none=True, mode="json")
    assert {name: made[name] for name in made if name not in ("to", "ncco")} == {
        name: value for name, value in body.items() if name not in ("to", "ncco")
    }
    return body


async def refused(attempt: Any) -> ControlError:
    with pytest.raises(ControlError) as caught:
        await attempt
    return caught.value


# --- what it can do ----------------------------------------------------------------------------------------


async def test_it_keeps_the_contract() -> None:
    client: CarrierControl = control()[0]
    assert client.transfers == {TransferKind.BLIND, TransferKind.WARM}
    assert client.tones is ToneWay.CONTROL
    await client.aclose()


async def test_without_credentials_it_can_do_nothing() -> None:
    rest = VonageRest(httpx.AsyncClient(), None)
    client = VonageControl(rest, VonageControlOptions(URL))
    assert client.transfers == frozenset()
    assert client.tones is ToneWay.NONE
    assert (await refused(client.hang_up(LINE))).fault is ControlFault.REFUSED
    await client.aclose()


# --- hang up, tones ----------------------------------------------------------------------------------------


async def test_the_callers_leg_is_hung_up() -> None:
    client, api = control()
    await client.hang_up(LINE)
    assert api.asked == [("PUT", f"{CALLS}/caller-1", {"action": "hangup"})]


async def test_one_who_is_gone_need_not_be_hung_up() -> None:
    client, _ = control(httpx.Response(404), httpx.Response(409), httpx.Response(400))
    await client.hang_up(LINE)
    await client.drop_human(LINE, "human-1")
    assert (await refused(client.drop_human(LINE, "human-1"))).fault is ControlFault.REFUSED


async def test_the_humans_leg_is_hung_up() -> None:
    client, api = control()
    await client.drop_human(LINE, "human-1")
    assert api.asked == [("PUT", f"{CALLS}/human-1", {"action": "hangup"})]


async def test_tones_with_pauses() -> None:
    client, api = control(httpx.Response(200, json={"message": "DTMF sent", "uuid": "caller-1"}))
    await client.play_tones(LINE, "1w2W*#", None)
    assert api.asked == [("PUT", f"{CALLS}/caller-1/dtmf", {"digits": "1p2pp*#"})]


async def test_no_tones_are_no_request() -> None:
    client, api = control()
    await client.play_tones(LINE, "", COMEBACK)
    assert api.asked == []


async def test_tones_that_there_are_not() -> None:
    client, api = control()
    error = await refused(client.play_tones(LINE, "12a", None))
    assert (error.fault, str(error)) == (ControlFault.REFUSED, "keys are 0-9 * #, pauses w and W")
    assert api.asked == []


@pytest.mark.parametrize("call_sid", ["", "..", "../../v2/applications", "a b", "a?b", "x" * 129])
async def test_an_id_that_is_none_names_no_call(call_sid: str) -> None:
    client, api = control()
    await client.hang_up(Line(call_sid))
    error = await refused(client.play_tones(Line(call_sid), "1", None))
    assert (error.fault, str(error)) == (ControlFault.GONE, "not the id of a call")
    assert api.asked == []


# --- transfers ---------------------------------------------------------------------------------------------


async def test_a_blind_transfer_moves_the_callers_leg() -> None:
    client, api = control()
    blind = order(TransferKind.BLIND, client_message="Einen Moment.", post_dial_digits="5w")
    await client.transfer(LINE, blind, WHISPER)
    assert api.asked == [
        (
            "PUT",
            f"{CALLS}/caller-1",
            {
                "action": "transfer",
                "destination": {
                    "type": "ncco",
                    "ncco": [
                        {"action": "talk", "text": "Einen Moment.", "language": "de-DE"},
                        {
                            "action": "connect",
                            "endpoint": [{"type": "phone", "number": "4930123456", "dtmfAnswer": "5p"}],
                            "from": "447700900001",
                            "eventType": "synchronous",
                            "eventUrl": [f"{URL}/vonage/transfer/action?id=x%2F1"],
                            "eventMethod": "POST",
                            "timeout": 25,
                        },
                    ],
                },
            },
        )
    ]


async def test_a_blind_transfer_to_a_sip_address() -> None:
    client, api = control()
    await client.transfer(LINE, order(TransferKind.BLIND, "sip:sales@pbx.example"), WHISPER)
    ((_, _, body),) = api.asked
    (action,) = body["destination"]["ncco"]
    assert action["endpoint"] == [{"type": "sip", "uri": "sip:sales@pbx.example"}]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (order(TransferKind.REFER), "Vonage cannot do a transfer of kind sip_refer"),
        (order(TransferKind.WARM), "Vonage cannot do a transfer of kind conference"),
        (order(TransferKind.BLIND, "112"), "not a number in international format"),
        (order(TransferKind.BLIND, "sip:a@b.example", post_dial_digits="1"), "keys can be pressed for numbers only"),
    ],
)
async def test_a_transfer_that_cannot_be(made: TransferOrder, words: str) -> None:
    client, api = control()
    error = await refused(client.transfer(LINE, made, WHISPER))
    assert (error.fault, str(error)) == (ControlFault.REFUSED, words)
    assert api.asked == []


async def test_the_caller_is_gone_during_the_transfer() -> None:
    client, _ = control(httpx.Response(404))
    error = await refused(client.transfer(LINE, order(TransferKind.BLIND), WHISPER))
    assert error.fault is ControlFault.GONE


async def test_the_human_is_rung() -> None:
    client, api = control(httpx.Response(201, json=PLACED))
    assert await client.ring_human(LINE, order(post_dial_digits="7W8"), WHISPER) == "human-1"
    assert placed(api) == {
        "to": [{"type": "phone", "number": "4930123456", "dtmfAnswer": "7pp8"}],
        "from": {"type": "phone", "number": "447700900001"},
        "answer_url": [f"{URL}/vonage/transfer/whisper?id=x%2F1"],
        "answer_method": "POST",
        "event_url": [f"{URL}/vonage/transfer/human?id=x%2F1"],
        "event_method": "POST",
        "ringing_timer": 25,
        "advanced_machine_detection": {"behavior": "hangup", "mode": "detect"},
    }
    assert api.asked[0][1] == CALLS


async def test_the_human_is_rung_at_a_sip_address_without_our_number() -> None:
    client, api = control(httpx.Response(201, json=PLACED))
    line = Line("caller-1", called="anonymous")
    whisper = Whisper("x", ring_s=300, detect_machine=False)
    await client.ring_human(line, order(target="sip:sales@pbx.example"), whisper)
    body = placed(api)
    assert body["to"] == [{"type": "sip", "uri": "sip:sales@pbx.example"}]
    assert body["random_from_number"] is True
    assert body["ringing_timer"] == 120
    assert "from" not in body
    assert "advanced_machine_detection" not in body
    assert api.asked[0][1] == "https://api.nexmo.com/v1/calls"


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b'{"uuid":7}', b'{"uuid":""}', b'{"uuid":"../x"}'])
async def test_an_answer_that_names_no_call(answer: bytes) -> None:
    client, api = control(httpx.Response(201, content=answer))
    error = await refused(client.ring_human(LINE, order(), WHISPER))
    assert (error.fault, str(error)) == (ControlFault.DOWN, "POST: the answer names no call")
    assert len(api.asked) == 1


async def test_the_caller_is_moved_to_the_human() -> None:
    client, api = control()
    await client.join(LINE, "human-1", order(), WHISPER, "Ich verbinde.")
    assert api.asked == [
        (
            "PUT",
            f"{CALLS}/caller-1",
            {
                "action": "transfer",
                "destination": {
                    "type": "ncco",
                    "ncco": [
                        {"action": "talk", "text": "Ich verbinde.", "language": "de-DE"},
                        {"action": "conversation", "name": "transfer-x/1", "endOnExit": True},
                    ],
                },
            },
        )
    ]


def test_the_documents_of_a_warm_transfer() -> None:
    told = vonage_control.whisper_document(
        "x/1", URL, words="Eine Frage zur Rechnung.", accept_key="1", language="de", detects_machine=True
    )
    assert json.loads(render(told)) == [
        {"action": "talk", "text": "Eine Frage zur Rechnung.", "language": "de-DE"},
        {
            "action": "talk",
            "text": "Um den Anruf anzunehmen, drücken Sie 1.",
            "language": "de-DE",
            "bargeIn": True,
        },
        {
            "action": "input",
            "type": ["dtmf"],
            "dtmf": {"timeOut": 10, "maxDigits": 1},
            "eventUrl": [f"{URL}/vonage/transfer/accept?id=x%2F1"],
            "eventMethod": "POST",
        },
    ]
    (waits,) = json.loads(render(vonage_control.accept_document("x/1")))
    assert waits == {"action": "conversation", "name": "transfer-x/1", "endOnExit": True}


@pytest.mark.parametrize(("detects", "wait_s"), [(True, 5), (False, 1)])
def test_without_a_key_the_human_only_listens(detects: bool, wait_s: int) -> None:
    told = vonage_control.whisper_document("x", URL, words="", accept_key="", language="", detects_machine=detects)
    assert json.loads(render(told)) == [
        {
            "action": "input",
            "type": ["dtmf"],
            "dtmf": {"timeOut": wait_s, "maxDigits": 1},
            "eventUrl": [f"{URL}/vonage/transfer/accept?id=x"],
            "eventMethod": "POST",
        }
    ]


def test_the_last_words() -> None:
    assert json.loads(render(vonage_control.caller_gone_document("en"))) == [
        {"action": "talk", "text": "The caller is no longer on the line. Goodbye.", "language": "en-US"}
    ]
    assert json.loads(render(vonage_control.busy_document("nl"))) == [
        {
            "action": "talk",
            "text": "Al onze lijnen zijn bezet. Bel later alstublieft nog eens.",
            "language": "nl-NL",
        }
    ]
    (sorry,) = json.loads(render(vonage_control.apology_document("fr")))
    assert sorry["language"] == "fr-FR"
    assert sorry["text"].startswith("Nous sommes désolés")


async def test_the_callers_leg_goes_on_with_another_document() -> None:
    client, api = control()
    await client.move(LINE, vonage_control.apology_document("en"))
    ((method, url, body),) = api.asked
    assert (method, url, body["action"]) == ("PUT", f"{CALLS}/caller-1", "transfer")
    assert body["destination"]["ncco"][0]["action"] == "talk"


# --- placing calls -----------------------------------------------------------------------------------------


async def test_a_call_is_placed() -> None:
    client, api = control(httpx.Response(201, json=PLACED))
    wanted = OutboundOrder(
        "c 1", "+4930123456", "+447700900001", 30, send_digits="1w", detect_machine="enable", max_duration_s=600
    )
    assert await client.place(wanted) == "human-1"
    assert placed(api) == {
        "to": [{"type": "phone", "number": "4930123456", "dtmfAnswer": "1p"}],
        "from": {"type": "phone", "number": "447700900001"},
        "answer_url": [f"{URL}/vonage/answer?call=c%201"],
        "answer_method": "POST",
        "event_url": [f"{URL}/vonage/events?call=c%201"],
        "event_method": "POST",
        "ringing_timer": 30,
        "length_timer": 600,
        "advanced_machine_detection": {"behavior": "continue", "mode": "detect"},
    }
    assert api.asked[0][1] == "https://api.nexmo.com/v1/calls"


@pytest.mark.parametrize(
    ("detect", "detection"),
    [("off", None), ("detect_message_end", {"behavior": "continue", "mode": "detect_beep"})],
)
async def test_a_machine_is_looked_for_beside_the_conversation(detect: str, detection: Any) -> None:
    client, api = control(httpx.Response(201, json=PLACED))
    await client.place(OutboundOrder("c1", "+4930123456", "+447700900001", 30, detect_machine=detect))
    assert placed(api).get("advanced_machine_detection") == detection


async def test_the_operators_own_parameters_do_not_replace_ours() -> None:
    client, api = control(httpx.Response(201, json=PLACED))
    extra = (("shaken", "id;info"), ("flag", "true"), ("event_url", '["https://evil.example"]'), ("o", '{"a":1}'))
    await client.place(OutboundOrder("c1", "+4930123456", "+447700900001", 30, extra=extra, max_duration_s=0))
    ((_, _, body),) = api.asked
    assert (body["shaken"], body["flag"], body["o"]) == ("id;info", True, {"a": 1})
    assert body["event_url"] == [f"{URL}/vonage/events?call=c1"]
    assert body["length_timer"] == 1


@pytest.mark.parametrize(("to", "sender"), [("112", "+447700900001"), ("+4930123456", "sales")])
async def test_a_call_is_placed_between_numbers(to: str, sender: str) -> None:
    client, api = control()
    error = await refused(client.place(OutboundOrder("c1", to, sender, 30)))
    assert (error.fault, str(error)) == (ControlFault.REFUSED, "not a number in international format")
    assert api.asked == []


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (httpx.Response(429), ControlFault.BUSY),
        (httpx.Response(401), ControlFault.REFUSED),
        (httpx.Response(502), ControlFault.DOWN),
        (httpx.ReadTimeout("slow"), ControlFault.DOWN),
    ],
)
async def test_a_call_that_failed_is_not_placed_again(answer: httpx.Response | Exception, fault: ControlFault) -> None:
    client, api = control(answer)
    error = await refused(client.place(OutboundOrder("c1", "+4930123456", "+447700900001", 30)))
    assert error.fault is fault
    assert len(api.requests) == 1


async def test_our_socket_is_called_into_a_conversation() -> None:
    client, api = control(httpx.Response(201, json=PLACED))
    media = MediaConnect(
        url="wss://bridge.example/p/vonage/media",
        uuid="caller-1",
        token="t1",
        event_url=f"{URL}/vonage/events",
        from_number="447700900001",
        limit_s=600,
    )
    assert await client.connect_media_leg(LINE, media, "call-c1") == "human-1"
    assert placed(api) == {
        "to": [
            {
                "type": "websocket",
                "uri": "wss://bridge.example/p/vonage/media",
                "content-type": "audio/l16;rate=16000",
                "headers": {"token": "t1", "uuid": "caller-1"},
                "authorization": {"type": "vonage"},
            }
        ],
        "from": {"type": "phone", "number": "447700900001"},
        "ncco": [{"action": "conversation", "name": "call-c1"}],
        "event_url": [f"{URL}/vonage/events"],
        "event_method": "POST",
        "length_timer": 600,
    }
