"""The Caddyfile that is deployed, in front of real bridges: TLS, signatures, media sockets, and a rolling restart.

Calls are placed through Caddy with a certificate of its own making. One bridge after the other is stopped and started
anew, as an upgrade does it, while callers talk; none of them is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import ssl
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bridge.auth.twilio import sign_upgrade, sign_webhook
from tests.kit import twilio
from tests.kit.caller import WireCaller
from tests.kit.cluster import Cluster, Instance, new_number, running_cluster, until_true
from tests.kit.database import PostgresServer, shared_postgres
from tests.kit.server import AUTH_TOKEN, free_port

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed"),
]

__all__ = ["shared_postgres"]

CADDYFILE = Path(__file__).parents[2] / "deploy" / "Caddyfile"
HALF_A_SECOND = b"\x12\x34" * 2000


class ProxyCaller(WireCaller):
    """A caller who only knows PUBLIC_URL, and trusts Caddy's own authority."""

    def __init__(self, at: Any, trust: ssl.SSLContext) -> None:
        super().__init__(at, call_sid=f"CA{secrets.token_hex(16)}", caller=new_number())
        self.trust = trust

    async def post(self, path: str, *, sign: bool = True, **fields: str) -> httpx.Response:
        form = {"CallSid": self.call_sid, "AccountSid": twilio.ACCOUNT_SID, "From": self.caller, "To": self.called}
        form |= fields
        url = f"{self.at.settings.public_base_url}{path}"
        headers = {"X-Twilio-Signature": sign_webhook(AUTH_TOKEN, url, tuple(form.items()))} if sign else {}
        async with httpx.AsyncClient(trust_env=False, verify=self.trust) as client:
            return await client.post(url, data=form, headers=headers)

    async def open(self) -> None:
        url = f"{self.at.settings.public_ws_url}/twilio/media"
        self._socket = await connect(
            url,
            additional_headers={"X-Twilio-Signature": sign_upgrade(AUTH_TOKEN, url)},
            ssl=self.trust,
            compression=None,
            ping_interval=None,
            proxy=None,
            max_size=None,
        )
        self._reader = asyncio.create_task(self._read(self._socket))

    async def is_heard(self) -> bool:
        """Whether what is said now comes back: the echo agent repeats it."""
        wanted = len(self.heard) + len(HALF_A_SECOND) // 2

        async def heard() -> bool:
            return len(self.heard) >= wanted or self.code != 0

        await self.say(HALF_A_SECOND)
        await until_true(heard, "nothing comes back")
        return len(self.heard) >= wanted

    async def hang_up(self) -> None:
        await self.send(twilio.STOP)
        await self.close()


@contextlib.asynccontextmanager
async def caddy(folder: Path, port: int, upstreams: str) -> AsyncIterator[ssl.SSLContext]:
    """Caddy with the deployed file; gives what trusts it. Only its port for plain HTTP is another than 80."""
    config = folder / "Caddyfile"
    plain = f"admin off\n\thttp_port {free_port()}"
    config.write_text(CADDYFILE.read_text(encoding="utf-8").replace("admin off", plain, 1), encoding="utf-8")
    variables = {
        **os.environ, "SITE_ADDRESS": f"https://localhost:{port}", "BRIDGE_UPSTREAMS": upstreams,
        "XDG_DATA_HOME": str(folder / "data"), "XDG_CONFIG_HOME": str(folder / "config"), "HOME": str(folder),
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        "caddy", "run", "--adapter", "caddyfile", "--config", str(config),
        env=variables, cwd=folder, stdout=DEVNULL, stderr=DEVNULL,
    )  # fmt: skip
    root = folder / "data" / "caddy" / "pki" / "authorities" / "local" / "root.crt"
    try:

        async def answers() -> bool:
            if not root.exists():
                return False
            with contextlib.suppress(httpx.HTTPError, ssl.SSLError):
                trust = ssl.create_default_context(cafile=str(root))
                async with httpx.AsyncClient(trust_env=False, verify=trust) as client:
                    return (await client.get(f"https://localhost:{port}/healthz")).status_code == 200
            return False

        await until_true(answers, "Caddy does not answer")
        yield ssl.create_default_context(cafile=str(root))
    finally:
        process.terminate()
        await process.wait()


async def placed(cluster: Cluster, trust: ssl.SSLContext, count: int) -> list[ProxyCaller]:
    """Callers who were let in through Caddy, and are heard."""
    callers = []
    for _ in range(count):
        caller = ProxyCaller(cluster["a"].place, trust)

        async def let_in(caller: ProxyCaller = caller) -> bool:
            tokens = await tokens_of(caller)
            try:
                await caller.dial(tokens[0])
            except (IndexError, InvalidStatus):  # webhook or socket met a bridge whose drain Caddy has yet to see
                return False
            return True

        await until_true(let_in, "all bridges say that they are busy")
        callers.append(caller)
    for caller in callers:
        assert await caller.is_heard()
    return callers


async def tokens_of(caller: ProxyCaller) -> list[str]:
    answer = await caller.post("/twilio/voice")
    assert answer.status_code == 200, answer.text
    return [each.attrib["value"] for each in ElementTree.fromstring(answer.text).findall(".//Parameter[@name='token']")]


async def carried(instance: Instance) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return int((await client.get(f"http://{instance.address}/readyz")).json()["active_calls"])


async def test_nobody_is_cut_off_by_a_rolling_restart(tmp_path: Path, shared_postgres: PostgresServer) -> None:
    port = free_port()
    async with running_cluster(tmp_path, shared_postgres, PUBLIC_URL=f"https://localhost:{port}") as cluster:
        addresses = " ".join(instance.address for instance in cluster.instances.values())
        async with caddy(tmp_path, port, addresses) as trust:
            stranger = ProxyCaller(cluster["a"].place, trust)
            assert (await stranger.post("/twilio/voice", sign=False)).status_code == 403
            talking = await placed(cluster, trust, 4)
            for name in ("a", "b"):
                instance = cluster[name]
                on_it = await carried(instance)
                instance.send(signal.SIGTERM)
                during = await placed(cluster, trust, 2)
                assert await carried(instance) <= on_it, "it drains, and was given a new call"
                for caller in (*talking, *during):
                    assert caller.code == 0, "a call was cut"
                    assert await caller.is_heard()
                for caller in talking:
                    await caller.hang_up()
                assert await instance.place.exited() == 0
                await instance.start()
                talking = during
            for caller in talking:
                await caller.hang_up()
            records = await cluster.records("a")
        ended = [(call["result"], call["reason"]) for call in records if call["state"] == "ended"]
        assert set(ended) == {("success", "caller_hangup")}
        assert len(ended) >= 6
        cluster.assert_no_bugs()


async def test_a_bridge_that_drains_alone_answers_for_the_calls_that_it_has(
    tmp_path: Path, shared_postgres: PostgresServer
) -> None:
    port = free_port()
    public_url = f"https://localhost:{port}"
    async with (
        running_cluster(tmp_path, shared_postgres, ("a",), PUBLIC_URL=public_url) as cluster,
        caddy(tmp_path, port, cluster["a"].address) as trust,
    ):
        (caller,) = await placed(cluster, trust, 1)
        cluster["a"].send(signal.SIGTERM)
        await asyncio.sleep(2.5)  # two looks of Caddy's at /readyz
        assert (await caller.post("/twilio/fallback")).status_code == 200
        assert await tokens_of(ProxyCaller(cluster["a"].place, trust)) == [], "it takes no new calls"
        assert await caller.is_heard()
        await caller.hang_up()
        assert await cluster["a"].place.exited() == 0
