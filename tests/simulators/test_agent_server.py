"""The agent simulator over loopback: HTTP, admission, ends, stalls."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bridge.errors import ConfigError
from bridge.simulators.agent_log import ConversationLog
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_server import SUBPROTOCOL, AgentServer, serve_agent

pytestmark = pytest.mark.e2e

INIT = json.dumps({"type": "conversation_initiation_client_data"})
SIGNED_URL_PATH = "/v1/convai/conversation/get-signed-url"


async def get(server: AgentServer, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=server.base_url, trust_env=False) as client:
        return await client.get(path, headers=headers)


async def messages_until_close(connection: ClientConnection) -> list[dict[str, Any]]:
    messages = []
    try:
        async for text in connection:
            messages.append(json.loads(text))
    except ConnectionClosed:
        pass
    return messages


def open_agent(server: AgentServer, agent_id: str, **options: Any) -> connect:
    return connect(server.conversation_url(agent_id), proxy=None, **options)


# --- HTTP ------------------------------------------------------------------------------------------------


async def test_health_statistics_and_unknown_paths() -> None:
    async with AgentServer() as server:
        health = await get(server, "/healthz")
        assert (health.status_code, health.json()) == (200, {"status": "ok"})
        assert health.headers["content-type"] == "application/json"
        assert (await get(server, "/stats")).json() == {"conversations": [], "violations": 0}
        assert (await get(server, "/v1/convai/conversation?agent_id=a")).status_code == 404
        assert (await get(server, "/")).json() == {"detail": "Not Found"}


async def test_a_signed_url_needs_the_key_and_an_agent() -> None:
    async with AgentServer(AgentOptions(api_key="k-1")) as server:
        for path in (SIGNED_URL_PATH, "/v1/convai/conversation/get_signed_url"):
            refused = await get(server, f"{path}?agent_id=a", **{"xi-api-key": "k-2"})
            assert (refused.status_code, refused.json()) == (
                401,
                {"detail": {"status": "invalid_api_key", "message": "Invalid API key"}},
            )
            wrong = await get(server, path, **{"xi-api-key": "k-1"})
            assert (wrong.status_code, wrong.json()["detail"][0]["loc"]) == (422, ["query", "agent_id"])
            granted = await get(server, f"{path}?agent_id=a", **{"xi-api-key": "k-1"})
            start = f"ws://127.0.0.1:{server.port}/v1/convai/conversation?agent_id=a&conversation_signature=cvtkn_"
            assert granted.json()["signed_url"].startswith(start)


async def test_a_signed_url_opens_its_agent_only_and_once_when_it_has_a_conversation_id() -> None:
    key = {"xi-api-key": "k-1"}
    async with AgentServer(AgentOptions(api_key="k-1", scenario="close_1000_0")) as server:
        plain = (await get(server, f"{SIGNED_URL_PATH}?agent_id=a", **key)).json()["signed_url"]
        single = (await get(server, f"{SIGNED_URL_PATH}?agent_id=a&include_conversation_id=true", **key)).json()
        single = single["signed_url"]
        codes = []
        for url in (plain, plain, single, single, plain.replace("agent_id=a", "agent_id=b")):
            async with connect(url, proxy=None) as connection:
                with contextlib.suppress(ConnectionClosed):  # refused before it could be sent
                    await connection.send(INIT)
                await messages_until_close(connection)
                codes.append(connection.close_code)
    assert codes == [1000, 1000, 1000, 1008, 1008]
    assert f"conversation_id={server.conversations[2].conversation_id}" in single
    assert server.conversations[3].close_reason == (
        "conversation_signature is unknown, used, expired or of another agent"
    )


async def test_without_signature_the_key_opens_and_nothing_else_does() -> None:
    async with AgentServer(AgentOptions(api_key="k-1", scenario="close_1000_0")) as server:
        with pytest.raises(InvalidStatus) as caught:
            await open_agent(server, "a")
        assert caught.value.response.status_code == 401
        async with open_agent(server, "a", additional_headers={"xi-api-key": "k-1"}) as connection:
            await connection.send(INIT)
            await messages_until_close(connection)
            assert connection.close_code == 1000


@pytest.mark.parametrize(
    ("agent_id", "status"),
    [("sim_refuse_401", 401), ("sim_refuse_429", 429), ("sim_refuse_500", 500), ("sim_nonsense", 404), ("", 422)],
)
async def test_handshakes_are_refused_with_a_status(agent_id: str, status: int) -> None:
    async with AgentServer() as server:
        with pytest.raises(InvalidStatus) as caught:
            await open_agent(server, agent_id)
        assert caught.value.response.status_code == status
        assert "detail" in json.loads(caught.value.response.body or b"{}")
    assert server.conversations == []


async def test_convai_is_taken_as_subprotocol_and_nothing_else() -> None:
    async with AgentServer(AgentOptions(scenario="silent", compression=True)) as server:
        for offered, taken in ((None, None), (["x"], None), (["bearer.abc", SUBPROTOCOL], SUBPROTOCOL)):
            async with open_agent(server, "a", subprotocols=offered) as connection:
                assert connection.subprotocol == taken


# --- conversations ---------------------------------------------------------------------------------------


async def test_an_agent_id_chooses_the_scenario_and_the_log_tells_it() -> None:
    ended: list[ConversationLog] = []
    async with AgentServer(AgentOptions(scenario="silent")) as server:
        server.on_end = ended.append
        async with open_agent(server, "sim_close_4001_20") as connection:
            await connection.send(INIT)
            messages = await messages_until_close(connection)
            assert (connection.close_code, connection.close_reason) == (4001, "as told by the scenario")
        log = await server.wait_ended()
        assert [message["type"] for message in messages] == ["conversation_initiation_metadata", "ping"]
        stats = (await get(server, "/stats")).json()
    assert (log.agent_id, log.scenario, log.closed_by) == ("sim_close_4001_20", "close_4001_20", "agent")
    assert log.path == "/v1/convai/conversation?agent_id=sim_close_4001_20"
    assert stats["conversations"][0]["close_code"] == 4001
    assert ended == [log]


async def test_a_breach_shows_in_the_statistics() -> None:
    async with AgentServer() as server:
        async with open_agent(server, "a") as connection:
            await connection.send(b"\x00")
            [error] = await messages_until_close(connection)
            assert (error["error_event"]["code"], connection.close_code) == (1008, 1008)
        await server.wait_ended()
        assert (await get(server, "/stats")).json()["violations"] == 1


async def test_drop_breaks_the_connection_off_without_a_close_frame() -> None:
    async with AgentServer() as server, open_agent(server, "sim_drop_0") as connection:
        await connection.send(INIT)
        await messages_until_close(connection)
        assert connection.close_code == 1006
        log = await server.wait_ended()
    assert (log.closed_by, log.close_code) == ("agent", 1006)


async def test_echo_comes_back_over_the_wire_and_the_client_may_close() -> None:
    payload = base64.b64encode(b"\x7f" * 160).decode()
    async with AgentServer() as server:
        async with open_agent(server, "sim_echo") as connection:
            await connection.send(INIT)
            await connection.send(json.dumps({"user_audio_chunk": payload}))
            received = [json.loads(await connection.recv()) for _ in range(3)]
            assert received[2]["audio_event"]["audio_base_64"] == payload
            await connection.close(1000, "bye")
        log = await server.wait_ended()
    assert (log.closed_by, log.close_code, log.close_reason) == ("client", 1000, "bye")


async def test_a_stalled_agent_reads_nothing_until_it_goes_on() -> None:
    chunk = json.dumps({"user_audio_chunk": base64.b64encode(b"\x7f" * 160).decode()})
    async with AgentServer() as server, open_agent(server, "sim_stall_400") as connection:
        await connection.send(INIT)
        await connection.recv()  # metadata: the stall has begun
        for _ in range(10):
            await connection.send(chunk)
        await asyncio.sleep(0.1)
        [log] = server.conversations
        during = log.received_chunks
        async with asyncio.timeout(5):
            async for text in connection:
                if json.loads(text)["type"] == "audio":
                    break
        await asyncio.sleep(0.1)
        assert (during, log.received_chunks) == (0, 10)
    assert log.received_times_s[0][0] - log.started_s >= 0.39


async def test_stopping_the_server_ends_conversations_and_stopping_twice_is_no_mistake() -> None:
    server = AgentServer(AgentOptions(scenario="silent"))
    await server.start()
    async with open_agent(server, "a") as connection:
        await connection.send(INIT)
        await connection.recv()
        await server.stop()
        await connection.wait_closed()
        assert connection.close_code == 1001
    await server.stop()


async def test_serve_agent_runs_until_it_is_cancelled() -> None:
    ready: asyncio.Future[AgentServer] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve_agent("127.0.0.1", 0, AgentOptions(), on_ready=ready.set_result))
    server = await asyncio.wait_for(ready, 5)
    assert (await get(server, "/healthz")).status_code == 200
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(httpx.ConnectError):
        await get(server, "/healthz")


def test_an_unknown_scenario_is_refused_before_the_port_opens() -> None:
    with pytest.raises(ConfigError, match="^scenario 'nonsense' is not known"):
        AgentServer(AgentOptions(scenario="nonsense"))
