"""POST requests on the port of the simulated agents: read whole, with a bound, whatever the pieces they come in."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from bridge.media.format import MediaFormat
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_posts import BAD_REQUEST, MAX_REQUEST_BYTES, TOO_BIG, Answer, Post, read_post
from bridge.simulators.agent_rest import SPEECH_CLIP, VOICE_ID
from bridge.simulators.agent_server import AgentServer
from bridge.simulators.speech import load_clip

WHOLE = b'POST /x?y=1 HTTP/1.1\r\nHost: a\r\nXI-API-Key: k\r\nContent-Length: 4\r\n\r\n{"a"'


def test_a_request_in_any_number_of_pieces() -> None:
    assert read_post(WHOLE) == Post("/x?y=1", {"host": "a", "xi-api-key": "k", "content-length": "4"}, b'{"a"')
    assert [read_post(WHOLE[:size]) for size in range(len(WHOLE))] == [None] * len(WHOLE)
    longer = read_post(WHOLE + b"more")
    assert isinstance(longer, Post)
    assert longer.body == b'{"a"'


def test_a_request_without_a_body() -> None:
    assert read_post(b"POST /x HTTP/1.1\r\n\r\n") == Post("/x", {}, b"")
    assert read_post(b"POST /x HTTP/1.1\r\nHost: a\r\n\r\n") == Post("/x", {"host": "a"}, b"")


@pytest.mark.parametrize(
    ("received", "answer"),
    [
        (b"POST /x\r\nHost: a\r\n\r\n", BAD_REQUEST),
        (b"POST /x HTTP/1.1\r\nHost\r\n\r\n", BAD_REQUEST),
        (b"POST /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n", BAD_REQUEST),
        (b"POST /x HTTP/1.1\r\nContent-Length: x\r\n\r\n", BAD_REQUEST),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", BAD_REQUEST),
        (b"POST /x HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", TOO_BIG),
        (b"POST " + b"x" * MAX_REQUEST_BYTES, TOO_BIG),
    ],
)
def test_what_is_no_request(received: bytes, answer: Answer) -> None:
    assert read_post(received) == answer


# --- on the port -----------------------------------------------------------------------------------------


def speech_url(server: AgentServer, voice: str = VOICE_ID, name: str = "ulaw_8000") -> str:
    return f"{server.base_url}/v1/text-to-speech/{voice}?output_format={name}"


@pytest.mark.parametrize("name", ["ulaw_8000", "pcm_16000", "pcm_24000"])
async def test_speech_in_the_format_that_was_asked_for(name: str) -> None:
    async with AgentServer(AgentOptions(api_key="k")) as server, httpx.AsyncClient(trust_env=False) as client:
        body = {"text": "Hello.", "model_id": "m"}
        response = await client.post(speech_url(server, name=name), json=body, headers={"xi-api-key": "k"})
    assert response.status_code == 200
    assert response.content == load_clip(SPEECH_CLIP, MediaFormat.parse(name))


@pytest.mark.parametrize(
    ("url", "key", "body", "status"),
    [
        ("/v1/text-to-speech/simulated_voice?output_format=ulaw_8000", "wrong", {"text": "a"}, 401),
        ("/v1/text-to-speech/simulated_voice?output_format=ulaw_8000", "", {"text": "a"}, 401),
        ("/v1/text-to-speech/another?output_format=ulaw_8000", "k", {"text": "a"}, 404),
        ("/v1/text-to-speech/simulated_voice?output_format=opus", "k", {"text": "a"}, 422),
        ("/v1/text-to-speech/simulated_voice", "k", {"text": "a"}, 422),
        ("/v1/text-to-speech/simulated_voice?output_format=ulaw_8000", "k", {"text": ""}, 422),
        ("/v1/text-to-speech/simulated_voice?output_format=ulaw_8000", "k", {"words": "a"}, 422),
        ("/v1/text-to-speech/simulated_voice?output_format=ulaw_8000", "k", {"text": "a" * 5001}, 422),
        ("/somewhere", "k", {}, 404),
    ],
)
async def test_what_is_refused(url: str, key: str, body: dict[str, str], status: int) -> None:
    async with AgentServer(AgentOptions(api_key="k")) as server, httpx.AsyncClient(trust_env=False) as client:
        response = await client.post(server.base_url + url, json=body, headers={"xi-api-key": key})
    assert response.status_code == status
    assert response.json()["detail"]["status"]


async def test_an_agents_configuration() -> None:
    options = AgentOptions(api_key="k", input_format="pcm_16000")
    async with AgentServer(options) as server, httpx.AsyncClient(trust_env=False) as client:
        url = f"{server.base_url}/v1/convai/agents/"
        assert (await client.get(url + "agent_1")).status_code == 401
        assert (await client.get(url + "sim_nonsense", headers={"xi-api-key": "k"})).status_code == 404
        found = (await client.get(url + "agent_1", headers={"xi-api-key": "k"})).json()
    assert found["agent_id"] == "agent_1"
    assert found["conversation_config"]["tts"] == {"voice_id": VOICE_ID, "agent_output_audio_format": "ulaw_8000"}
    assert found["conversation_config"]["asr"] == {"user_input_audio_format": "pcm_16000"}


async def test_bytes_that_come_one_by_one() -> None:
    body = json.dumps({"text": "Hello."}).encode()
    head = f"POST /v1/text-to-speech/{VOICE_ID}?output_format=ulaw_8000 HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    get = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    async with AgentServer() as server:
        for request, status in ((head.encode() + body, b"200 OK"), (get, b"200 OK"), (b"POST x\r\n\r\n", b"400 Bad")):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            for byte in request:
                writer.write(bytes([byte]))
                await writer.drain()
            assert status in await reader.readline()
            writer.close()
            await writer.wait_closed()
