"""Twilio's control client: the requests of every step, with the vendor's library as the judge of their parameters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from twilio.http.http_client import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

from bridge.calls.orders import TransferOrder
from bridge.errors import LocalError
from bridge.leg import ToneWay, TransferKind
from bridge.server.call_pace import CallPace, PaceOptions
from bridge.server.carrier_control import (
    CarrierControl,
    Comeback,
    ControlError,
    ControlFault,
    Line,
    OutboundOrder,
    Whisper,
)
from bridge.server.twilio_control import TwilioControl, TwilioControlOptions
from bridge.server.twilio_rest import TwilioRest, TwilioRestOptions

ACCOUNT = "AC" + "1" * 32
SUB_ACCOUNT = "AC" + "2" * 32
CALL = "CA" + "3" * 32
HUMAN = "CA" + "4" * 32
TOKEN = "f" * 32
BASE = "https://bridge.example.com/prefix"
HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
LINE = Line(CALL, ACCOUNT, caller="+15550111", called="+15550100")
SIP_LINE = Line(CALL, ACCOUNT, caller="sip:alice@pbx.example", called="sip:agent@x.sip.twilio.com")
WHISPER = Whisper("t+1/", ring_s=25, language="de")
COMEBACK = Comeback("token-2", "+15550111", "+15550100")
OPTIONS = TwilioControlOptions(BASE, "wss://bridge.example.com/prefix/twilio/media")


def order(kind: TransferKind = TransferKind.BLIND, target: str = "+4930123456", **fields: Any) -> TransferOrder:
    return TransferOrder(kind=kind, target=target, **fields)


class Twilio:
    """A control client, and Twilio behind it: what it was asked, and its answers."""

    def __init__(
        self,
        *answers: httpx.Response,
        rest: TwilioRestOptions | None = None,
        options: TwilioControlOptions = OPTIONS,
        new_pace: Callable[[PaceOptions], CallPace] | None = None,
    ) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.turns: list[bool] = []
        self.control = TwilioControl(
            TwilioRest(rest or TwilioRestOptions(ACCOUNT, TOKEN), transport=httpx.MockTransport(self.answer)),
            options,
            new_pace=new_pace or (lambda options: Unhurried(options, self.turns)),
        )

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answers.pop(0) if self.answers else httpx.Response(200, json={"sid": HUMAN})

    @property
    def path(self) -> str:
        [request] = self.requests
        assert request.method == "POST"
        return request.url.path

    @property
    def form(self) -> list[tuple[str, str]]:
        [request] = self.requests
        return parse_qsl(request.content.decode(), keep_blank_values=True, strict_parsing=True)

    @property
    def twiml(self) -> str:
        [(name, document)] = self.form
        assert name == "Twiml"
        assert self.path == f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json"
        return document


class Unhurried(CallPace):
    """Keeps a list of turns instead of time."""

    def __init__(self, options: PaceOptions, turns: list[bool]) -> None:
        super().__init__(options)
        self._turns = turns

    async def turn(self, *, urgent: bool = False) -> None:
        self._turns.append(urgent)


async def refusal(attempt: Any) -> str:
    with pytest.raises(ControlError) as caught:
        await attempt
    assert caught.value.fault is ControlFault.REFUSED
    return str(caught.value)


def error(status: int, code: int) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": "about +15550111", "status": status})


# --- the card ------------------------------------------------------------------------------------------------


def test_what_it_can_do_takes_credentials() -> None:
    control: CarrierControl = Twilio().control
    assert control.transfers == {TransferKind.BLIND, TransferKind.WARM, TransferKind.REFER}
    assert control.tones is ToneWay.EXCURSION
    control = Twilio(rest=TwilioRestOptions(ACCOUNT)).control
    assert control.transfers == set()
    assert control.tones is ToneWay.NONE


async def test_closing_it_closes_the_connections() -> None:
    twilio = Twilio()
    await twilio.control.aclose()
    assert twilio.control._rest._client.is_closed


# --- ends ----------------------------------------------------------------------------------------------------


async def test_hanging_up_on_the_caller_and_on_the_human() -> None:
    caller, human = Twilio(), Twilio()
    await caller.control.hang_up(LINE)
    await human.control.drop_human(LINE, HUMAN)
    for twilio, sid in ((caller, CALL), (human, HUMAN)):
        assert twilio.path == f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{sid}.json"
        assert twilio.form == [("Status", "completed")]


@pytest.mark.parametrize("answer", [(404, 20404), (400, 21220)])
async def test_hanging_up_on_who_is_gone_is_a_success(answer: tuple[int, int]) -> None:
    await Twilio(error(*answer)).control.hang_up(LINE)
    await Twilio(error(*answer)).control.drop_human(LINE, HUMAN)


async def test_hanging_up_is_tried_again_because_it_may_be_done_twice() -> None:
    twilio = Twilio(error(500, 20500))
    await twilio.control.hang_up(LINE)
    assert len(twilio.requests) == 2


async def test_a_hang_up_that_fails_is_said() -> None:
    assert "code 20003" in await refusal(Twilio(error(401, 20003)).control.hang_up(LINE))


async def test_calls_of_sub_accounts_are_reached_below_their_account() -> None:
    twilio = Twilio()
    await twilio.control.hang_up(Line(CALL, SUB_ACCOUNT))
    assert twilio.path == f"/2010-04-01/Accounts/{SUB_ACCOUNT}/Calls/{CALL}.json"
    twilio = Twilio()
    await twilio.control.hang_up(Line(CALL))
    assert twilio.path == f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json"


async def test_last_words_before_the_end() -> None:
    twilio = Twilio()
    await twilio.control.say_and_hang_up(LINE, "Bitte rufen Sie zurück.", "de")
    assert twilio.twiml == (HEAD + '<Response><Say language="de-DE">Bitte rufen Sie zurück.</Say><Hangup /></Response>')


# --- keys ----------------------------------------------------------------------------------------------------


async def test_keys_and_a_fresh_stream() -> None:
    twilio = Twilio()
    await twilio.control.play_tones(LINE, "1w2#", COMEBACK)
    assert twilio.twiml == (
        HEAD + '<Response><Play digits="1w2#" /><Connect><Stream url="wss://bridge.example.com/prefix/twilio/media" '
        'statusCallback="https://bridge.example.com/prefix/twilio/status">'
        '<Parameter name="token" value="token-2" /><Parameter name="caller" value="+15550111" />'
        '<Parameter name="called" value="+15550100" /></Stream></Connect>'
        '<Redirect method="POST">https://bridge.example.com/prefix/twilio/fallback</Redirect></Response>'
    )


async def test_what_may_press_keys_twice_is_never_repeated() -> None:
    twilio = Twilio(error(500, 20500))
    with pytest.raises(ControlError) as caught:
        await twilio.control.play_tones(LINE, "1", COMEBACK)
    assert caught.value.fault is ControlFault.DOWN
    assert len(twilio.requests) == 1


async def test_numbers_that_make_the_document_too_long_are_left_to_the_token() -> None:
    twilio = Twilio()
    await twilio.control.play_tones(LINE, "1", Comeback("token-2", "&" * 490, '"' * 490))
    assert '<Parameter name="token" value="token-2" /></Stream>' in twilio.twiml
    assert len(twilio.twiml) < 4000


async def test_a_document_that_is_too_long_is_not_sent() -> None:
    twilio = Twilio()
    words = await refusal(twilio.control.play_tones(LINE, "1" * 4000, COMEBACK))
    assert words == "the TwiML would be longer than Twilio takes"
    assert twilio.requests == []


async def test_keys_without_a_way_back_are_a_bug_of_ours() -> None:
    with pytest.raises(LocalError, match="^Twilio needs a comeback: pressing keys ends the media stream$"):
        await Twilio().control.play_tones(LINE, "1", None)


# --- sending the caller on -------------------------------------------------------------------------------------


async def test_a_blind_transfer() -> None:
    twilio = Twilio()
    given = order(client_message="Ich verbinde.", post_dial_digits="ww7")
    await twilio.control.transfer(LINE, given, WHISPER)
    assert twilio.twiml == (
        HEAD + '<Response><Say language="de-DE">Ich verbinde.</Say>'
        '<Dial action="https://bridge.example.com/prefix/twilio/transfer/action?id=t%2B1%2F" method="POST" '
        'timeout="25" answerOnBridge="true" callerId="+15550100">'
        '<Number statusCallback="https://bridge.example.com/prefix/twilio/transfer/human?id=t%2B1%2F" '
        'statusCallbackEvent="answered completed" statusCallbackMethod="POST" sendDigits="ww7">+4930123456</Number>'
        "</Dial></Response>"
    )


async def test_a_blind_transfer_of_a_sip_caller_to_a_sip_phone() -> None:
    twilio = Twilio()
    await twilio.control.transfer(SIP_LINE, order(target="sip:desk@pbx.example"), WHISPER)
    assert "callerId" not in twilio.twiml  # Twilio takes numbers only
    assert ">sip:desk@pbx.example</Sip></Dial>" in twilio.twiml
    twilio = Twilio(options=TwilioControlOptions(BASE, OPTIONS.stream_url, caller_id="+15550199"))
    await twilio.control.transfer(SIP_LINE, order(), WHISPER)
    assert 'callerId="+15550199"' in twilio.twiml


async def test_keys_after_dialling_need_a_number() -> None:
    twilio = Twilio()
    given = order(target="sip:desk@pbx.example", post_dial_digits="1")
    words = await refusal(twilio.control.transfer(LINE, given, WHISPER))
    assert words == "keys after dialling work with phone numbers only"
    assert twilio.requests == []


async def test_a_refer() -> None:
    twilio = Twilio()
    given = order(TransferKind.REFER, "sip:desk@pbx.example", client_message="Ich verbinde.")
    await twilio.control.transfer(SIP_LINE, given, WHISPER)
    assert twilio.twiml == (
        HEAD + '<Response><Say language="de-DE">Ich verbinde.</Say>'
        '<Refer action="https://bridge.example.com/prefix/twilio/transfer/action?id=t%2B1%2F" method="POST">'
        "<Sip>sip:desk@pbx.example</Sip></Refer></Response>"
    )


@pytest.mark.parametrize(
    ("line", "target", "words"),
    [
        (LINE, "sip:desk@pbx.example", "SIP REFER works with SIP callers only; this one came by phone"),
        (Line(CALL), "sip:desk@pbx.example", "SIP REFER works with SIP callers only; this one came by phone"),
        (SIP_LINE, "+4930123456", "SIP REFER needs the address of a SIP phone"),
    ],
)
async def test_a_refer_that_cannot_work_is_not_asked_for(line: Line, target: str, words: str) -> None:
    twilio = Twilio()
    given = order(TransferKind.REFER, target)
    assert await refusal(twilio.control.transfer(line, given, WHISPER)) == words
    assert twilio.requests == []


@pytest.mark.parametrize("kind", [TransferKind.WARM, TransferKind.FLOW])
async def test_other_transfers_are_not_made_in_one_step(kind: TransferKind) -> None:
    with pytest.raises(LocalError, match=f"^a transfer of kind {kind.value} is not made in one step$"):
        await Twilio().control.transfer(LINE, order(kind), WHISPER)


# --- a human who is told first -----------------------------------------------------------------------------------

RINGING = [
    ("To", "+4930123456"),
    ("From", "+15550100"),
    ("Url", "https://bridge.example.com/prefix/twilio/transfer/whisper?id=t%2B1%2F"),
    ("StatusCallback", "https://bridge.example.com/prefix/twilio/transfer/human?id=t%2B1%2F"),
    ("StatusCallbackEvent", "initiated"),
    ("StatusCallbackEvent", "ringing"),
    ("StatusCallbackEvent", "answered"),
    ("StatusCallbackEvent", "completed"),
    ("Timeout", "25"),
]
DETECTING = [
    ("MachineDetection", "Enable"),
    ("AsyncAmd", "true"),
    ("AsyncAmdStatusCallback", "https://bridge.example.com/prefix/twilio/transfer/amd?id=t%2B1%2F"),
]


@pytest.mark.parametrize(
    ("whisper", "digits", "more"),
    [
        (WHISPER, "", DETECTING),
        (WHISPER, "ww7", [("SendDigits", "ww7")]),
        (Whisper("t+1/", ring_s=25, detect_machine=False), "", []),
    ],
)
async def test_ringing_the_human(whisper: Whisper, digits: str, more: list[tuple[str, str]]) -> None:
    twilio = Twilio()
    given = order(TransferKind.WARM, post_dial_digits=digits)
    assert await twilio.control.ring_human(LINE, given, whisper) == HUMAN
    assert twilio.path == f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json"
    assert twilio.form == RINGING + more
    assert twilio.turns == [True]


async def test_the_human_is_rung_from_the_sub_account_of_the_call() -> None:
    twilio = Twilio()
    await twilio.control.ring_human(Line(CALL, SUB_ACCOUNT, called="+15550100"), order(TransferKind.WARM), WHISPER)
    assert twilio.path == f"/2010-04-01/Accounts/{SUB_ACCOUNT}/Calls.json"


async def test_without_a_number_of_ours_no_human_is_rung() -> None:
    twilio = Twilio()
    words = await refusal(twilio.control.ring_human(SIP_LINE, order(TransferKind.WARM), WHISPER))
    assert words == "there is no number of ours to call the human from"
    twilio = Twilio(options=TwilioControlOptions(BASE, OPTIONS.stream_url, caller_id="+15550199"))
    await twilio.control.ring_human(SIP_LINE, order(TransferKind.WARM), WHISPER)
    assert ("From", "+15550199") in twilio.form


async def test_more_keys_than_twilio_presses() -> None:
    given = order(TransferKind.WARM, post_dial_digits="1" * 33)
    words = await refusal(Twilio().control.ring_human(LINE, given, WHISPER))
    assert words == "Twilio presses 32 keys after dialling at most"


async def test_joining_the_caller_to_the_human() -> None:
    twilio = Twilio()
    await twilio.control.join(LINE, HUMAN, order(TransferKind.WARM), WHISPER, "Sie werden verbunden.")
    assert twilio.twiml == (
        HEAD + '<Response><Say language="de-DE">Sie werden verbunden.</Say><Dial>'
        '<Conference startConferenceOnEnter="true" endConferenceOnExit="true" beep="false" waitUrl="">'
        "transfer-t+1/</Conference></Dial></Response>"
    )


async def test_joining_a_caller_who_is_gone_is_said() -> None:
    with pytest.raises(ControlError) as caught:
        await Twilio(error(404, 20404)).control.join(LINE, HUMAN, order(TransferKind.WARM), WHISPER, "")
    assert (caught.value.fault, caught.value.code) == (ControlFault.GONE, 20404)


# --- a new call ----------------------------------------------------------------------------------------------------

PLACED = [
    ("To", "+4930123456"),
    ("From", "+15550100"),
    ("Url", "https://bridge.example.com/prefix/twilio/voice?call=c%261"),
    ("FallbackUrl", "https://bridge.example.com/prefix/twilio/fallback"),
    ("StatusCallback", "https://bridge.example.com/prefix/twilio/status?call=c%261"),
    ("StatusCallbackEvent", "initiated"),
    ("StatusCallbackEvent", "ringing"),
    ("StatusCallbackEvent", "answered"),
    ("StatusCallbackEvent", "completed"),
    ("Timeout", "40"),
]
AMD_URL = "https://bridge.example.com/prefix/twilio/amd?call=c%261"


def outbound(**fields: Any) -> OutboundOrder:
    return OutboundOrder("c&1", "+4930123456", "+15550100", ring_s=40, **fields)


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({}, []),
        (
            {"detect_machine": "enable", "max_duration_s": 600},
            [
                ("TimeLimit", "600"),
                ("MachineDetection", "Enable"),
                ("AsyncAmd", "true"),
                ("AsyncAmdStatusCallback", AMD_URL),
            ],
        ),
        (
            {"detect_machine": "detect_message_end"},
            [("MachineDetection", "DetectMessageEnd"), ("AsyncAmd", "true"), ("AsyncAmdStatusCallback", AMD_URL)],
        ),
        ({"detect_machine": "enable", "send_digits": "wW1#"}, [("SendDigits", "wW1#")]),
        (
            {"extra": (("CallReason", "a & b"), ("MachineDetectionTimeout", "10"))},
            [("CallReason", "a & b"), ("MachineDetectionTimeout", "10")],
        ),
    ],
)
async def test_placing_a_call(fields: dict[str, Any], more: list[tuple[str, str]]) -> None:
    twilio = Twilio()
    assert await twilio.control.place(outbound(**fields)) == HUMAN
    assert twilio.path == f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json"
    assert twilio.form == PLACED + more
    assert twilio.turns == [False]


async def test_an_operators_parameters_undo_none_of_ours() -> None:
    twilio = Twilio()
    extra = (("Url", "https://x"), ("CallReason", "x"), ("AsyncAmd", "false"))
    assert await refusal(twilio.control.place(outbound(extra=extra))) == "the bridge itself sets AsyncAmd, Url"
    assert twilio.requests == []
    assert twilio.turns == []


async def test_a_detection_that_does_not_exist_is_a_bug_of_ours() -> None:
    with pytest.raises(LocalError, match="^detect_machine is 'sync'; known are off, enable, detect_message_end$"):
        await Twilio().control.place(outbound(detect_machine="sync"))


async def test_more_keys_than_twilio_presses_in_a_new_call() -> None:
    words = await refusal(Twilio().control.place(outbound(send_digits="1" * 33)))
    assert words == "Twilio presses 32 keys after dialling at most"


async def test_a_call_is_never_placed_twice() -> None:
    twilio = Twilio(error(503, 20503))
    with pytest.raises(ControlError) as caught:
        await twilio.control.place(outbound())
    assert caught.value.fault is ControlFault.DOWN
    assert len(twilio.requests) == 1


async def test_without_credentials_nobody_waits_for_a_turn() -> None:
    twilio = Twilio(rest=TwilioRestOptions(ACCOUNT))
    assert await refusal(twilio.control.place(outbound())) == "no credentials for Twilio's REST API are set"
    assert twilio.turns == []


async def test_calls_are_paced_by_account() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    def new_pace(options: PaceOptions) -> CallPace:
        return CallPace(options, monotonic=lambda: 7.0, sleep=sleep)

    options = TwilioControlOptions(BASE, OPTIONS.stream_url, pace=PaceOptions(calls_per_second=10.0))
    twilio = Twilio(options=options, new_pace=new_pace)
    await asyncio.gather(*(twilio.control.place(outbound()) for _ in range(3)))
    await twilio.control.ring_human(Line(CALL, SUB_ACCOUNT, called="+15550100"), order(TransferKind.WARM), WHISPER)
    await twilio.control.hang_up(LINE)
    assert waits == pytest.approx([0.1, 0.2])
    assert len(twilio.requests) == 5


# --- the vendor's library would ask the same ---------------------------------------------------------------------


class Recorded(HttpClient):  # type: ignore[misc]  # the vendor's library is not looked into
    """What the vendor's own library would send."""

    def __init__(self) -> None:
        super().__init__(None, False, None)
        self.path = ""
        self.form: list[tuple[str, str]] = []

    def request(self, method: str, url: str, data: dict[str, Any], **_: Any) -> Response:
        self.path = httpx.URL(url).path
        for name, value in data.items():
            self.form += [(name, str(item)) for item in (value if isinstance(value, list) else [value])]
        return Response(201, json.dumps({"sid": HUMAN}))


def vendor() -> tuple[Client, Recorded]:
    recorded = Recorded()
    return Client(ACCOUNT, TOKEN, http_client=recorded, environment={}), recorded


async def test_placing_a_call_as_the_vendors_library_does() -> None:
    twilio = Twilio()
    await twilio.control.place(outbound(detect_machine="enable", max_duration_s=600, extra=(("CallReason", "x"),)))
    client, recorded = vendor()
    client.calls.create(
        to="+4930123456",
        from_="+15550100",
        url=f"{BASE}/twilio/voice?call=c%261",
        fallback_url=f"{BASE}/twilio/fallback",
        status_callback=f"{BASE}/twilio/status?call=c%261",
        status_callback_event=["initiated", "ringing", "answered", "completed"],
        timeout=40,
        time_limit=600,
        machine_detection="Enable",
        async_amd="true",
        async_amd_status_callback=AMD_URL,
        call_reason="x",
    )
    assert twilio.path == recorded.path
    assert sorted(twilio.form) == sorted(recorded.form)


async def test_ringing_and_hanging_up_as_the_vendors_library_does() -> None:
    twilio = Twilio()
    await twilio.control.ring_human(LINE, order(TransferKind.WARM, post_dial_digits="ww7"), WHISPER)
    client, recorded = vendor()
    client.calls.create(
        to="+4930123456",
        from_="+15550100",
        url=RINGING[2][1],
        status_callback=RINGING[3][1],
        status_callback_event=["initiated", "ringing", "answered", "completed"],
        timeout=25,
        send_digits="ww7",
    )
    assert sorted(twilio.form) == sorted(recorded.form)
    twilio = Twilio()
    await twilio.control.hang_up(LINE)
    client, recorded = vendor()
    client.calls(CALL).update(status="completed")
    assert (twilio.path, twilio.form) == (recorded.path, recorded.form)
