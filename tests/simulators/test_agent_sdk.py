"""The vendor's own Python SDK holds a conversation with the simulated agent: the strongest check of its wire."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from bridge.media.format import PCM_16K
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import CallTools, Close, EndCall, Say, Scenario, ToolCall, WaitForCaller
from bridge.simulators.agent_server import AgentServer
from bridge.simulators.speech import CLIP_TEXTS, load_clip

with warnings.catch_warnings():
    # The SDK names a class that the websockets library has put away; that is between the two of them.
    warnings.simplefilter("ignore", DeprecationWarning)
    from elevenlabs.client import ElevenLabs
    from elevenlabs.conversational_ai.conversation import (
        AudioInterface,
        ClientTools,
        Conversation,
        ConversationInitiationData,
        DisconnectionDetails,
    )

FRAME_BYTES = PCM_16K.size_bytes(20)

SCENARIO = Scenario(
    name="short",
    steps=(
        Say(text="Hello.", duration_ms=300),
        WaitForCaller(text="When?"),
        Say(text=CLIP_TEXTS["agent_answer"], clip="agent_answer"),
        WaitForCaller(text="Order 427."),
        CallTools(calls=(ToolCall(tool_name="lookup_order", parameters={"order_id": "427"}),)),
        Say(text="Goodbye.", duration_ms=300),
        EndCall(),
        Close(code=1000),
    ),
)


class CallerLine(AudioInterface):  # type: ignore[misc]  # the SDK is not typed
    """A caller who talks when told to, in 20 ms frames in real time, and plays what it hears at once."""

    def __init__(self) -> None:
        self.heard = 0
        self.interrupted_at: list[int] = []
        self._say: list[bytes] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, input_callback: Callable[[bytes], None]) -> None:
        self._thread = threading.Thread(target=self._run, args=(input_callback,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def output(self, audio: bytes) -> None:
        self.heard += len(audio)

    def interrupt(self) -> None:
        self.interrupted_at.append(self.heard)

    def say(self, name: str) -> None:
        clip = load_clip(name, PCM_16K)
        self._say += [clip[i : i + FRAME_BYTES] for i in range(0, len(clip), FRAME_BYTES)]

    def _run(self, send: Callable[[bytes], None]) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += 0.02
            send(self._say.pop(0) if self._say else bytes(FRAME_BYTES))


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the SDK's callbacks come from its own threads
            await asyncio.sleep(0.02)


@pytest.mark.e2e
async def test_the_official_sdk_holds_a_conversation() -> None:
    options = AgentOptions(
        scenario=SCENARIO, input_format="pcm_16000", output_format="pcm_16000", api_key="k-1", ping_interval_s=0.2
    )
    line, said, understood, corrected = CallerLine(), list[str](), list[str](), list[tuple[str, str]]()
    ended: list[DisconnectionDetails] = []
    latencies: list[int] = []
    tool_calls: list[dict[str, Any]] = []

    def look_up(parameters: dict[str, Any]) -> str:
        tool_calls.append(parameters)
        return "sent today"

    tools = ClientTools()
    tools.register("lookup_order", look_up)

    async with AgentServer(options) as server:
        conversation = Conversation(
            ElevenLabs(api_key="k-1", base_url=server.base_url),
            "agent_1",
            requires_auth=True,  # fetches a signed URL
            audio_interface=line,
            config=ConversationInitiationData(dynamic_variables={"caller_id": "+15550100"}),
            client_tools=tools,
            callback_agent_response=said.append,
            callback_agent_response_correction=lambda before, after: corrected.append((before, after)),
            callback_user_transcript=understood.append,
            callback_latency_measurement=latencies.append,
            callback_disconnect=ended.append,
        )
        await asyncio.to_thread(conversation.start_session)
        try:
            await until(lambda: line.heard == PCM_16K.size_bytes(300))
            await asyncio.sleep(0.4)  # the greeting plays
            line.say("caller_thanks")
            await until(lambda: len(said) == 2)
            await asyncio.sleep(0.3)  # the answer plays, for 5 s
            line.say("caller_interruption")
            await until(lambda: bool(ended))
        finally:
            with contextlib.suppress(RuntimeError):
                conversation.end_session()
            await asyncio.to_thread(conversation.wait_for_session_end)
        log = await server.wait_ended()

    assert log.violations == []
    assert said == ["Hello.", CLIP_TEXTS["agent_answer"], "Goodbye."]
    assert understood == ["When?", "Order 427."]
    assert [call["order_id"] for call in tool_calls] == ["427"]
    assert [(tool.result, tool.is_error) for tool in log.tool_results] == [("sent today", False)]
    assert len(line.interrupted_at) == 1 == len(log.interruptions)
    [(original, heard)] = corrected
    assert original == CLIP_TEXTS["agent_answer"]
    assert original.startswith(heard) and len(heard) < len(original)
    assert log.stale_chunks == 3  # and the SDK dropped them: what it played is what was sent before
    assert line.heard == log.sent_audio_bytes - 3 * PCM_16K.size_bytes(100)
    assert latencies and latencies[0] >= 1
    assert (ended[0].reason, ended[0].close_code) == ("agent", 1000)
    assert log.initiation is not None and log.initiation["dynamic_variables"] == {"caller_id": "+15550100"}
    assert (log.closed_by, log.close_code) == ("agent", 1000)
