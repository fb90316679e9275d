"""The outgoing HTTP client: explicit time-outs everywhere, proxies and netrc of the environment left alone."""

from __future__ import annotations

import httpx

from bridge import __version__

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 4.0
"""A caller is on the line while we wait; what takes longer has failed for them."""

MAX_CONNECTIONS = 100
"""Bounds sockets when a thousand calls begin at once; requests beyond it wait their turn inside their deadline."""


def new_client() -> httpx.AsyncClient:
    """One client for the life of the server; close it with ``aclose``."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
        follow_redirects=False,
        trust_env=False,
        headers={"User-Agent": f"telephony-bridge/{__version__}"},
    )
