from __future__ import annotations

from pathlib import Path

from bridge.bench.floor import haproxy_command, haproxy_config, write_config

CONFIG = """\
global
    nbthread 1
    maxconn 500

defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h

frontend carrier
    bind 127.0.0.1:8001
    default_backend load

backend load
    server load 127.0.0.1:8002
"""


def test_configuration_is_one_thread_in_tcp_mode_on_loopback() -> None:
    assert haproxy_config(port=8001, target_port=8002, calls=400) == CONFIG


def test_configuration_is_written_where_it_is_told(tmp_path: Path) -> None:
    path = write_config(tmp_path, 8001, 8002, 400)
    assert path.parent == tmp_path
    assert path.read_text() == CONFIG
    assert haproxy_command("/usr/sbin/haproxy", path) == ["/usr/sbin/haproxy", "-db", "-q", "-f", str(path)]
