"""A process dies with its calls: the carrier's fallback has them go on at another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.simulators.twilio_cloud import running_cloud
from bridge.simulators.twilio_cloud_options import CloudOptions
from bridge.simulators.twilio_line import HangUp, Silence, Speak
from bridge.simulators.twilio_person import PersonScript
from tests.kit.cluster import running_cluster
from tests.kit.database import PostgresServer, shared_postgres
from tests.kit.server import AUTH_TOKEN, until
from tests.kit.twilio_flows import ACCOUNT, CALLER, OWN

pytestmark = pytest.mark.e2e

__all__ = ["shared_postgres"]

TALK = tuple(step for _ in range(30) for step in (Speak(clip="caller_question"), Silence(ms=100)))


async def test_the_calls_of_a_killed_process_go_on_at_another(tmp_path: Path, shared_postgres: PostgresServer) -> None:
    options = CloudOptions(account_sid=ACCOUNT, auth_token=AUTH_TOKEN, numbers=(OWN,))
    async with (
        running_cluster(tmp_path, shared_postgres, TWILIO_ACCOUNT_SID=ACCOUNT) as cluster,
        running_cloud(options) as cloud,
    ):
        leg = cloud.incoming(CALLER, OWN, f"{cluster.public_url}/twilio/voice", PersonScript(actions=(*TALK, HangUp())))
        await until(lambda: any(cluster[name].logged("agent_ready") for name in "ab"), "no call")
        dead = "a" if cluster["a"].logged("agent_ready") else "b"
        alive = "b" if dead == "a" else "a"
        await until(lambda: len(leg.heard) > 8000)
        await cluster[dead].kill()
        await until(lambda: cluster[alive].logged("agent_ready"), "the call did not go on", 15.0)
        heard_bytes = len(leg.heard)
        await until(
            lambda: any(byte not in (0x7F, 0xFF) for byte in leg.heard[heard_bytes:]), "the caller hears nothing"
        )
        assert len(leg.streams) == 2
        assert leg.words == []
        agents = (await cluster.client.get(cluster[alive].settings["ELEVENLABS_BASE_URL"] + "/stats")).json()
        told = agents["conversations"][-1]["initiation"]["dynamic_variables"]
        assert told["bridge_resumed"] == "true"
        cloud.hang_up(leg)
        await until(lambda: cluster[alive].logged("call_ended"), "it did not end")
        cluster.assert_no_bugs()
