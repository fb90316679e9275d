"""The REST interface of the simulated Vonage: by hand, through the bridge's client, and through the vendor's SDK."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import httpx
import pytest

from bridge.auth.vonage_application import TokenMint, load_private_key
from bridge.calls.orders import TransferOrder
from bridge.leg import TransferKind
from bridge.server.carrier_control import ControlError, ControlFault, Line, OutboundOrder, Whisper
from bridge.server.vonage_control import VonageControl, VonageControlOptions
from bridge.server.vonage_rest import VonageApiOptions, VonageRest
from bridge.simulators.twilio_cloud_media import MUSIC_HZ, SAY_HZ
from bridge.simulators.twilio_line import HangUp, Silence
from bridge.simulators.twilio_person import Answer, PersonScript
from bridge.simulators.vonage_cloud import VonageCloud
from bridge.simulators.vonage_cloud_options import Fault
from bridge.simulators.vonage_leg import Leg
from tests.kit.vonage_calls import APPLICATION, key_pair
from tests.simulators.vonage_app import CALLER, HUMAN, OURS, App, level, wired

pytestmark = pytest.mark.e2e

TALK = [{"action": "talk", "text": "x" * 100}]
NEW_CALL: dict[str, Any] = {
    "to": [{"type": "phone", "number": HUMAN}],
    "from": {"type": "phone", "number": OURS},
    "ncco": TALK,
}


@dataclass
class Rest:
    cloud: VonageCloud
    app: App
    client: httpx.AsyncClient
    mint: TokenMint

    async def ask(self, method: str, path: str, body: object = None, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.mint.token() if token is None else token}"}
        return await self.client.request(method, f"{self.cloud.base_url}{path}", json=body, headers=headers)

    async def caller(self) -> Leg:
        """Somebody who waits on the line."""
        self.app.answers["/answer"] = [[{"action": "wait", "timeout": 30}]]
        leg = self.cloud.incoming(CALLER, OURS, self.app.url("/answer"), PersonScript())
        await self.cloud.wait_until(lambda: leg.live)
        return leg

    def control(self) -> VonageControl:
        rest = VonageRest(self.client, self.mint, VonageApiOptions(self.cloud.base_url, 2.0))
        return VonageControl(rest, VonageControlOptions(self.app.http))

    def line(self, leg: Leg) -> Line:
        return Line(leg.uuid, caller=f"+{CALLER}", called=f"+{OURS}")


@pytest.fixture
async def rest() -> AsyncIterator[Rest]:
    pair = key_pair()
    mint = TokenMint(load_private_key(pair.private_pem), APPLICATION, unix=time.time, new_jti=lambda: str(uuid.uuid4()))
    async with (
        wired(application_id=APPLICATION, public_key_pem=pair.public_pem) as (cloud, app),
        httpx.AsyncClient() as client,
    ):
        yield Rest(cloud, app, client, mint)


# --- by hand -------------------------------------------------------------------------------------------------


async def test_nothing_without_a_good_token(rest: Rest) -> None:
    for token in ("x", "a.b.c", rest.mint.token()[:-4] + "AAAA"):
        assert (await rest.ask("GET", "/v1/calls", token=token)).status_code == 401
    assert (await rest.ask("GET", "/v1/calls")).json()["count"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"to": []},
        {"to": [{"type": "phone", "number": "+15550123"}]},
        {"to": [{"type": "app", "user": "jo"}]},
        {"from": None, "random_from_number": False},
        {"random_from_number": True},
        {"from": {"type": "phone", "number": "0123"}},
        {"answer_url": ["https://x"]},
        {"ncco": None},
        {"ncco": [{"action": "hangup"}]},
        {"ringing_timer": 121},
        {"length_timer": 0},
        {"event_url": "https://x"},
        {"machine_detection": "maybe"},
        {"advanced_machine_detection": {"mode": "detect_beep", "beep_timeout": 44}},
        {"colour": "red"},
    ],
)
async def test_calls_that_cannot_be_placed(rest: Rest, change: dict[str, Any]) -> None:
    body = {name: value for name, value in (NEW_CALL | change).items() if value is not None}
    response = await rest.ask("POST", "/v1/calls", body)
    assert (response.status_code, response.json()["title"]) == (400, "Bad Request")
    assert rest.cloud.calls == []


async def test_a_call_that_is_placed(rest: Rest) -> None:
    body = {**NEW_CALL, "event_url": [rest.app.url("/mine")], "advanced_machine_detection": {"behavior": "continue"}}
    rest.cloud.people[HUMAN] = PersonScript(actions=(Silence(ms=3000),))
    response = await rest.ask("POST", "/v1/calls", body)
    placed = response.json()
    assert (response.status_code, placed["status"], placed["direction"]) == (201, "started", "outbound")
    leg = rest.cloud.calls[0]
    assert placed["uuid"] == leg.uuid
    assert placed["conversation_uuid"] == leg.conversation.uuid
    await rest.cloud.wait_ended(leg)
    await rest.cloud.wait_until(lambda: "completed" in rest.app.statuses("/mine"))
    statuses = rest.app.statuses("/mine")
    assert [status for status in statuses if status != "human"] == ["started", "ringing", "answered", "completed"]
    assert rest.app.statuses("/events") == []
    assert level(leg.heard, SAY_HZ) > 0.1


@pytest.mark.parametrize(
    ("mode", "told", "ends"), [("detect", {}, "detection"), ("detect_beep", {"sub_state": "beep_start"}, "detection")]
)
async def test_a_machine_that_answers(rest: Rest, mode: str, told: dict[str, str], ends: str) -> None:
    rest.cloud.people[HUMAN] = PersonScript(answer=Answer.MACHINE)
    body = {
        **NEW_CALL,
        "ncco": [{"action": "wait", "timeout": 30}],
        "event_url": [rest.app.url("/mine")],
        "advanced_machine_detection": {"behavior": "hangup", "mode": mode},
    }
    await rest.ask("POST", "/v1/calls", body)
    leg = rest.cloud.calls[0]
    await rest.cloud.wait_ended(leg)
    assert leg.ended_by == ends
    await rest.cloud.wait_until(lambda: "completed" in rest.app.statuses("/mine"))
    [machine] = [asked.fields for asked in rest.app.asked if asked.fields.get("status") == "machine"]
    assert machine["call_uuid"] == leg.uuid
    assert told.items() <= machine.items()


async def test_what_can_be_done_with_a_call(rest: Rest) -> None:
    leg = await rest.caller()
    path = f"/v1/calls/{leg.uuid}"

    def playing() -> bool:
        return leg.is_playing

    found = (await rest.ask("GET", path)).json()
    assert (found["uuid"], found["status"], found["from"]) == (
        leg.uuid,
        "answered",
        {"type": "phone", "number": CALLER},
    )
    for action, states in (
        ("mute", (True, False)),
        ("earmuff", (True, True)),
        ("unmute", (False, True)),
        ("unearmuff", (False, False)),
    ):
        assert (await rest.ask("PUT", path, {"action": action})).status_code == 204
        assert (leg.is_muted, leg.is_earmuffed) == states
    assert (await rest.ask("PUT", f"{path}/dtmf", {"digits": "1p*#"})).json() == {
        "message": "DTMF sent",
        "uuid": leg.uuid,
    }
    assert (await rest.ask("PUT", f"{path}/dtmf", {"digits": "1w"})).status_code == 400
    assert (await rest.ask("PUT", f"{path}/stream", {"stream_url": ["https://x"], "loop": 0})).status_code == 200
    assert playing() is True
    assert (await rest.ask("DELETE", f"{path}/stream")).json()["message"] == "Stream stopped"
    assert playing() is False
    assert (await rest.ask("PUT", f"{path}/talk", {"text": "Hello."})).status_code == 200
    assert (await rest.ask("DELETE", f"{path}/talk")).status_code == 200
    assert leg.words == ["Hello."]
    for body in (
        {"action": "transfer"},
        {"action": "hangup", "destination": {"type": "ncco", "ncco": []}},
        {},
        {"action": "x"},
    ):
        assert (await rest.ask("PUT", path, body)).status_code == 400
    both = {"type": "ncco", "ncco": [], "url": ["https://x"]}
    assert (await rest.ask("PUT", path, {"action": "transfer", "destination": both})).status_code == 400
    assert (await rest.ask("POST", path)).status_code == 405
    assert (await rest.ask("GET", f"{path}/secrets")).status_code == 404
    assert (await rest.ask("GET", "/v2/calls")).status_code == 404
    assert (await rest.ask("PUT", path, {"action": "hangup"})).status_code == 204
    assert leg.ended_by == "rest"
    assert (await rest.ask("PUT", path, {"action": "hangup"})).status_code == 404
    assert (await rest.ask("GET", path)).json()["status"] == "completed"


async def test_a_transfer_to_a_url(rest: Rest) -> None:
    leg = await rest.caller()
    rest.app.answers["/next"] = [TALK]
    body = {"action": "transfer", "destination": {"type": "ncco", "url": [rest.app.url("/next")]}}
    assert (await rest.ask("PUT", f"/v1/calls/{leg.uuid}", body)).status_code == 204
    await rest.cloud.wait_ended(leg)
    assert leg.words == ["x" * 100]


async def test_a_media_socket_as_a_leg_of_its_own_in_a_conversation(rest: Rest) -> None:
    rest.app.answers["/answer"] = [[{"action": "conversation", "name": "room", "endOnExit": True}]]
    caller = rest.cloud.incoming(CALLER, OURS, rest.app.url("/answer"), PersonScript())
    await rest.cloud.wait_until(lambda: caller.conversation.name == "room")
    [endpoint] = rest.app.socket(24000)["endpoint"]
    ncco = [{"action": "conversation", "name": "room"}]
    response = await rest.ask("POST", "/v1/calls", {"to": [endpoint], "random_from_number": True, "ncco": ncco})
    assert response.status_code == 201
    media = await rest.cloud.wait_for_media()
    await rest.cloud.wait_until(lambda: level(caller.heard, 1000.0) > 0.1)
    await rest.ask("PUT", f"/v1/calls/{media.uuid}", {"action": "hangup"})
    assert (media.over, caller.over) == (True, False), "it can be hung up alone"
    assert len(rest.app.heard) % 960 == 0


# --- faults, and the bridge's client -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(status=404), ControlFault.GONE),
        (Fault(status=409), ControlFault.GONE),
        (Fault(status=429, times=2, headers={"Retry-After": "0"}), ControlFault.BUSY),
        (Fault(status=503), ControlFault.DOWN),
        (Fault(drop=True), ControlFault.DOWN),
        (Fault(delay_s=3.0), ControlFault.DOWN),
        (Fault(status=400), ControlFault.REFUSED),
    ],
)
async def test_faults_reach_the_client_of_the_bridge(rest: Rest, fault: Fault, expected: ControlFault) -> None:
    leg = await rest.caller()
    rest.cloud.faults.append(fault)
    with pytest.raises(ControlError) as caught:
        await rest.control().play_tones(rest.line(leg), "1", None)
    assert caught.value.fault is expected


async def test_a_fault_after_the_request_was_carried_out(rest: Rest) -> None:
    leg = await rest.caller()
    rest.cloud.faults.append(Fault(method="PUT", status=500, carried_out=True))
    with pytest.raises(ControlError):
        await rest.control().hang_up(rest.line(leg))
    assert leg.over
    assert ("PUT", f"/v1/calls/{leg.uuid}", 500) in rest.cloud.rest_requests


async def test_the_client_of_the_bridge_does_all_of_it(rest: Rest) -> None:
    leg, control = await rest.caller(), rest.control()
    line, whisper = rest.line(leg), Whisper("x1", ring_s=20)
    await control.play_tones(line, "42w#", None)
    rest.app.answers["/vonage/transfer/whisper"] = [TALK]
    human_sid = await control.ring_human(line, TransferOrder(kind=TransferKind.WARM, target=f"+{HUMAN}"), whisper)
    human = await rest.cloud.wait_for_call_to(HUMAN)
    assert human.uuid == human_sid
    await rest.cloud.wait_until(lambda: human.words)
    await control.drop_human(line, human_sid)
    assert human.ended_by == "rest"
    rest.cloud.people[HUMAN] = PersonScript(actions=(Silence(ms=300), HangUp()))
    await control.transfer(line, TransferOrder(kind=TransferKind.BLIND, target=f"+{HUMAN}"), whisper)
    await rest.cloud.wait_ended(leg)
    rest.app.answers["/vonage/answer"] = [TALK]
    placed = await control.place(OutboundOrder("c1", f"+{HUMAN}", f"+{OURS}", 20))
    await rest.cloud.wait_until(lambda: rest.cloud.exchange.legs[placed].over)
    assert [item.text for item in rest.cloud.violations if "NCCO" in item.text] == []


# --- the vendor's SDK ----------------------------------------------------------------------------------------


def sdk(name: str) -> Any:
    """A module of the SDK, or why the test does not run."""
    try:
        return import_module(name)
    except ImportError:
        pytest.skip(f"the public Vonage SDK is not installed: no module {name} (pip install vonage-voice)")


def sdk_voice(base_url: str) -> Any:
    """The SDK's client; it knows https only, so its session is given plain HTTP."""
    adapters = import_module("requests.adapters")

    class Plain(adapters.HTTPAdapter):  # type: ignore[misc,name-defined]
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            request.url = request.url.replace("https://", "http://", 1)
            return super().send(request, *args, **kwargs)

    auth = import_module("vonage_http_client.auth").Auth(application_id=APPLICATION, private_key=key_pair().private_pem)
    client = import_module("vonage_http_client.http_client").HttpClient(auth, {"api_host": base_url[len("http://") :]})
    client._session.mount("https://", Plain())
    return sdk("vonage_voice.voice").Voice(client)


async def test_the_public_sdk_controls_a_call(rest: Rest) -> None:
    sdk("vonage_voice.voice")
    leg = await rest.caller()
    voice = sdk_voice(rest.cloud.base_url)
    requests = import_module("vonage_voice.models.requests")
    ncco = import_module("vonage_voice.models.ncco")

    async def do(method: str, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(getattr(voice, method), *args, **kwargs)

    info = await do("get_call", leg.uuid)
    assert (info.uuid, info.status, info.direction, info.to.number) == (leg.uuid, "answered", "inbound", OURS)
    calls, following = await do("list_calls")
    assert ([call.uuid for call in calls], following) == ([leg.uuid], None)
    for action in ("mute", "unmute", "earmuff", "unearmuff"):
        assert await do(action, leg.uuid) is None
    assert (await do("play_dtmf_into_call", leg.uuid, "12*#p")).message == "DTMF sent"
    stream = requests.AudioStreamOptions(stream_url=["https://x/y.mp3"], loop=0)
    assert (await do("play_audio_into_call", leg.uuid, stream)).uuid == leg.uuid
    await rest.cloud.wait_until(lambda: level(leg.heard, MUSIC_HZ) > 0.1)
    assert (await do("stop_audio_stream", leg.uuid)).message == "Stream stopped"
    assert (await do("play_tts_into_call", leg.uuid, requests.TtsStreamOptions(text="Hi"))).message == "Talk started"
    assert (await do("stop_tts", leg.uuid)).message == "Talk stopped"
    order = requests.CreateCallRequest(
        to=[requests.ToPhone(number=HUMAN)], random_from_number=True, ncco=[ncco.Talk(text="Hello")], ringing_timer=30
    )
    placed = await do("create_call", order)
    assert (placed.status, placed.direction) == ("started", "outbound")
    await rest.cloud.wait_until(lambda: rest.cloud.exchange.legs[placed.uuid].words == ["Hello"])
    await do("transfer_call_ncco", leg.uuid, [ncco.Talk(text="Moved")])
    await rest.cloud.wait_until(lambda: "Moved" in leg.words)
    await rest.cloud.wait_ended(leg)
    with pytest.raises(import_module("vonage_http_client.errors").NotFoundError):
        await do("hangup", leg.uuid)
    assert rest.cloud.violations == []


async def test_the_public_sdk_verifies_what_the_simulator_signs(rest: Rest) -> None:
    verify = sdk("vonage_jwt.verify_jwt").verify_signature
    await rest.caller()
    await rest.cloud.wait_until(lambda: len(rest.app.asked) >= 3)
    token = rest.app.asked[0].headers["authorization"].removeprefix("Bearer ")
    assert verify(token, rest.cloud.options.signature_secret) is True
    assert verify(token, "another-signature-secret-of-some-length") is False
