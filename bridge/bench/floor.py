"""The floor: HAProxy in TCP mode carries the carrier's bytes and parses nothing.

It says what the kernel's share is: two sockets per call, a read and a write for each message. No relay in user
space costs less, so a server's cost is best told as a multiple of this one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

SPARE_CONNECTIONS = 100


def find_haproxy() -> str | None:
    """Path of the program, also where it is installed but not on the path of users; None = not installed."""
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")


def haproxy_config(port: int, target_port: int, calls: int) -> str:
    """Configuration: one thread, TCP mode, no logs, no limits that matter."""
    return f"""\
global
    nbthread 1
    maxconn {calls + SPARE_CONNECTIONS}

defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h

frontend carrier
    bind 127.0.0.1:{port}
    default_backend load

backend load
    server load 127.0.0.1:{target_port}
"""


def write_config(directory: Path, port: int, target_port: int, calls: int) -> Path:
    """Write the configuration into ``directory``; returns its path."""
    path = directory / "haproxy.cfg"
    path.write_text(haproxy_config(port, target_port, calls))
    return path


def haproxy_command(program: str, config: Path) -> list[str]:
    """Run in the foreground, so that the one process is ours to measure and to stop."""
    return [program, "-db", "-q", "-f", str(config)]
