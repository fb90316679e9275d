"""``bridge.simulators.vonage_command``: straight to a media socket, and over the answer webhook."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.simulators.genesys_person import Hold
from bridge.simulators.twilio_line import HangUp, PressKey, Silence
from bridge.simulators.vonage_command import VonageCommand, call_vonage
from bridge.simulators.vonage_playout import BUFFER_MESSAGES
from tests.simulators.vonage_app import wired


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (VonageCommand(), "give --to or --answer, one of them"),
        (VonageCommand(to="ws://h", answer="http://h"), "give --to or --answer, one of them"),
        (VonageCommand(to="http://h"), "to must begin with ws:// or wss://"),
        (VonageCommand(to="ws://h", rate_hz=48000), "rate_hz must be one of 8000, 16000, 24000"),
        (VonageCommand(answer="ws://h"), "answer must begin with http:// or https://"),
        (VonageCommand(answer="http://h", method="PUT"), "method is GET or POST"),
        (VonageCommand(answer="http://h", actions=(Hold(ms=1),)), "a caller over Vonage cannot Hold"),
    ],
)
async def test_mistakes_are_told(command: VonageCommand, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        await call_vonage(command)


async def test_a_socket_that_is_not_there(unused_tcp_port: int) -> None:
    report = await call_vonage(VonageCommand(to=f"ws://127.0.0.1:{unused_tcp_port}/vonage/media"))
    assert not report.succeeded
    assert "ended by refused (no connection: ConnectionRefusedError) after 0.0 s" in report.to_text()


@pytest.mark.e2e
async def test_straight_to_a_media_socket(tmp_path: Path) -> None:
    async with wired() as (_, app):
        actions = (Silence(ms=200), PressKey(digit="1"), Silence(ms=400), HangUp())
        command = VonageCommand(to=f"{app.ws}/media", rate_hz=8000, actions=actions, recording=tmp_path / "call.wav")
        report = await call_vonage(command)
        assert report.succeeded, report.to_text()
        document = json.loads(json.dumps(report.to_json()))
        assert (document["rate_hz"], document["ended_by"], document["frames_received"]) == (8000, "caller", 20)
        assert document["violations"] == []
        assert (tmp_path / "call.wav").stat().st_size > 8000
        assert app.firsts[0]["content-type"] == "audio/l16;rate=8000"
        assert app.firsts[0]["from"] == "15550100"
        assert {text["event"] for text in app.texts} == {"websocket:dtmf", "websocket:notify"}


@pytest.mark.e2e
async def test_over_the_answer_webhook(tmp_path: Path) -> None:
    async with wired() as (_, app):
        app.answers["/answer"] = [[app.socket(24000)]]
        command = VonageCommand(
            answer=app.url("/answer"),
            events=app.url("/mine"),
            secret="a-signature-secret-of-32-characters",
            actions=(Silence(ms=600), HangUp()),
            recording=tmp_path / "call.wav",
        )
        report = await call_vonage(command)
        assert report.succeeded, report.to_text()
        document = json.loads(json.dumps(report.to_json()))
        caller, media = document["calls"]
        assert (caller["ended_by"], media["ended_by"], media["media"]["rate_hz"]) == ("person", "connect", 24000)
        assert 0 < media["media"]["frames_received"] <= BUFFER_MESSAGES
        assert "GET /answer 200" in document["webhooks"]
        assert "webhook GET /answer 200" in report.to_text()
        assert (tmp_path / "call.wav").exists()
        assert app.upgrades[0]["authorization"].startswith("Bearer ")
