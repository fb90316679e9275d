"""Whether the bridge of this machine answers, for container engines: ``python -m bridge.server.healthcheck``.

Exits with 0 when it does, else with 1. Loads nothing of the bridge: it runs every few seconds. With ``tcp:PORT`` it is
enough that somebody listens there.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys

TIMEOUT_S = 3.0
DEFAULT_PORT = 8080


def answers(target: str, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether the bridge is alive (``target`` empty), or somebody listens (``tcp:PORT``)."""
    try:
        if target.startswith("tcp:"):
            socket.create_connection(("127.0.0.1", int(target[4:])), timeout_s).close()
            return True
        port = int(os.environ.get("BRIDGE_PORT") or DEFAULT_PORT)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException):
        return False


if __name__ == "__main__":
    sys.exit(0 if answers("".join(sys.argv[1:2])) else 1)
