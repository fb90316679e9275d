"""Both simulators with the simplest possible relay between them: the demo conversation from end to end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import wave
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import CallTools, Close, EndCall, Say, Scenario, ToolCall, WaitForCaller
from bridge.simulators.agent_server import AgentServer
from bridge.simulators.speech import CLIP_TEXTS
from bridge.simulators.twilio_caller import TwilioCallOptions, call_twilio
from bridge.simulators.twilio_line import Interrupt, Speak, WaitForAgentEnd, WaitForClose


class Relay:
    """Mu-law both ways, ``clear`` on interruption, a mark before the hang-up. What a bridge is, minus the care."""

    def __init__(self, agent_url: str) -> None:
        self._agent_url = agent_url
        self._played = asyncio.Event()

    async def __call__(self, carrier: ServerConnection) -> None:
        await carrier.recv()  # connected
        start = json.loads(await carrier.recv())
        async with connect(self._agent_url, subprotocols=["convai"]) as agent:  # type: ignore[list-item]
            await agent.send(json.dumps({"type": "conversation_initiation_client_data"}))
            upward = asyncio.create_task(self._upward(carrier, agent))
            last_interrupt = 0
            try:
                async for text in agent:
                    message = json.loads(text)
                    kind = message["type"]
                    if kind == "audio" and message["audio_event"]["event_id"] > last_interrupt:
                        await self._send(carrier, start, "media", payload=message["audio_event"]["audio_base_64"])
                    elif kind == "interruption":
                        last_interrupt = message["interruption_event"]["event_id"]
                        await self._send(carrier, start, "clear")
                    elif kind == "ping":
                        pong = {"type": "pong", "event_id": message["ping_event"]["event_id"]}
                        await agent.send(json.dumps(pong))
                    elif kind == "client_tool_call":
                        call_id = message["client_tool_call"]["tool_call_id"]
                        result = {"tool_call_id": call_id, "result": "sent today", "is_error": False}
                        await agent.send(json.dumps({"type": "client_tool_result", **result}))
                self._played.clear()
                await self._send(carrier, start, "mark", name="end")
                await self._played.wait()
            except ConnectionClosed:
                pass
            finally:
                upward.cancel()

    async def _send(self, carrier: ServerConnection, start: dict[str, Any], event: str, **body: str) -> None:
        message: dict[str, Any] = {"event": event, "streamSid": start["streamSid"]}
        await carrier.send(json.dumps({**message, event: body} if body else message))

    async def _upward(self, carrier: ServerConnection, agent: Any) -> None:
        async for text in carrier:
            message = json.loads(text)
            if message["event"] == "media":
                with contextlib.suppress(ConnectionClosed):  # the goodbye still plays
                    await agent.send(json.dumps({"user_audio_chunk": message["media"]["payload"]}))
            elif message["event"] == "mark":
                self._played.set()
        await agent.close()


CONVERSATION = Scenario(
    name="short",
    steps=(
        Say(text="Hello.", duration_ms=300),
        WaitForCaller(),
        Say(text=CLIP_TEXTS["agent_answer"], clip="agent_answer"),
        WaitForCaller(),
        CallTools(calls=(ToolCall(tool_name="lookup_order"),)),
        Say(text="Goodbye.", duration_ms=1600),
        EndCall(),
        Close(),
    ),
)
CALLER = (
    WaitForAgentEnd(quiet_ms=100),
    Speak(clip="caller_thanks"),
    Interrupt(clip="caller_thanks", after_ms=300),
    WaitForClose(),
)


@pytest.mark.e2e
async def test_a_conversation_from_end_to_end(tmp_path: Path) -> None:
    async with (
        AgentServer(AgentOptions(scenario=CONVERSATION)) as agent,
        serve(Relay(agent.conversation_url("agent_1")), "127.0.0.1", 0) as relay,
    ):
        port = relay.sockets[0].getsockname()[1]
        result = await call_twilio(
            TwilioCallOptions(to=f"ws://127.0.0.1:{port}/twilio/media", actions=CALLER, recording=tmp_path / "call.wav")
        )
        log = await agent.wait_ended()

    assert result.violations == [] and log.violations == []
    assert (result.ended_by, result.close_code, result.unplayed_ms) == ("bridge", 1000, 0.0)
    assert (result.clear_count, result.marks_echoed, result.gaps) == (1, ["end"], [])
    [reaction_ms] = result.reaction_ms
    assert 60 < reaction_ms < 400  # the agent's ears need 70 ms of talk
    assert len(result.response_ms) == 2 and all(400 < ms < 800 for ms in result.response_ms)
    assert len(log.talkspurts) == 2 and len(log.interruptions) == 1
    assert [tool.result for tool in log.tool_results] == ["sent today"]
    assert log.pongs == log.pings_sent > 0
    # All that was sent was heard, but for what the clear dropped and what came after it, too late.
    stale_ms = 300
    heard_ms = sum(b != 0xFF for b in result.heard) / 8
    assert heard_ms == pytest.approx(log.sent_audio_ms - result.cleared_ms - stale_ms, rel=0.2)
    assert log.subprotocol == "convai"
    with wave.open(str(tmp_path / "call.wav")) as recording:
        assert (recording.getnchannels(), recording.getnframes()) == (2, len(result.heard))
