"""The container engines' question whether the bridge answers."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from bridge.server.healthcheck import answers


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/healthz" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.status = 200  # type: ignore[attr-defined]
    threading.Thread(target=made.serve_forever, daemon=True).start()
    monkeypatch.setenv("BRIDGE_PORT", str(made.server_port))
    yield made
    made.shutdown()
    made.server_close()


def test_a_bridge_that_answers(server: http.server.ThreadingHTTPServer) -> None:
    assert answers("")
    assert answers(f"tcp:{server.server_port}")
    server.status = 500  # type: ignore[attr-defined]
    assert not answers("")


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_PORT", "9")
    assert not answers("")
    assert not answers("tcp:9")
    assert not answers("tcp:x")


def test_the_exit_code_says_it(server: http.server.ThreadingHTTPServer) -> None:
    command = [sys.executable, "-m", "bridge.server.healthcheck"]
    assert subprocess.run(command).returncode == 0
    assert subprocess.run(command, env={**os.environ, "BRIDGE_PORT": "9"}).returncode == 1
