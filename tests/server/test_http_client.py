"""The outgoing HTTP client's manners."""

from __future__ import annotations

import httpx
import pytest

from bridge import __version__
from bridge.server.http_client import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, new_client


async def test_time_outs_redirects_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with new_client() as client:
        assert client.timeout == httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        assert not client.follow_redirects
        assert client.headers["User-Agent"] == f"telephony-bridge/{__version__}"
        assert not client._mounts, "a proxy of the environment would read our keys"
