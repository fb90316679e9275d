"""The layers: imports point one way, and nothing below ``server`` touches sockets, clocks, chance or the system."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bridge"

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "outcome", "media"}),
    frozenset({"events", "leg", "auth"}),
    frozenset({"providers", "sip", "convai"}),
    frozenset({"calls"}),
    frozenset({"settings", "config", "settings_table", "readme", "server", "simulators", "web"}),
    frozenset(
        {
            "bench",
            "cli",
            "cli_bench",
            "cli_call",
            "cli_sip",
            "cli_doctor",
            "cli_replay",
            "cli_tools",
            "cli_webhooks",
            "doctor",
            "replay",
            "replay_picture",
            "__main__",
        }
    ),
)
"""Lowest first. A module imports from its own layer and those before it."""
STRANGERS = LAYERS[2]
"""Sides of a call that never import each other; only ``calls`` knows both."""
PURE = frozenset[str]().union(*LAYERS[:4])
"""What stays pure: time, ids, bytes and settings are arguments there."""
FORBIDDEN_BELOW_SERVER = frozenset(
    {
        "asyncio", "socket", "selectors", "ssl", "threading", "multiprocessing", "subprocess", "signal",
        "time", "random", "secrets", "uuid", "os", "dotenv", "logging", "structlog",
        "fastapi", "starlette", "uvicorn", "httpx", "picows", "websockets", "urllib.request", "http.client",
        "redis", "sqlalchemy", "sqlite3", "prometheus_client", "pydantic_settings",
    }
)  # fmt: skip


def wrong_imports(module: str, source: str) -> list[str]:
    """Name every import of ``module`` (dotted, below ``bridge``; a package ends in ``.__init__``) that is wrong."""
    here = module.split(".")[0]
    return [
        f"{module}:{line} imports {name}: {problem}"
        for line, name in imports(module, source)
        if (problem := why_wrong(here, name))
    ]


def imports(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute dotted name) of every import, those inside functions and type checks included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ["bridge", *module.split(".")[:-1]]
                kept = package[: len(package) - node.level + 1]
                base = ".".join([*kept, base] if base else kept)
            if base == "bridge":  # the names are modules
                yield from ((node.lineno, f"bridge.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def why_wrong(here: str, name: str) -> str:
    top, *rest = name.split(".")
    if top != "bridge":
        dotted = {top, ".".join([top, *rest[:1]])}
        return "not below server" if here in PURE and dotted & FORBIDDEN_BELOW_SERVER else ""
    if not rest or rest[0] in (here, "__version__"):
        return ""
    if layer(rest[0]) > layer(here):
        return "points upwards"
    return "two sides of a call" if {here, rest[0]} <= STRANGERS else ""


def layer(name: str) -> int:
    for number, members in enumerate(LAYERS):
        if name in members:
            return number
    raise AssertionError(f"bridge.{name} has no layer yet: put it into LAYERS here and into bridge/__init__.py")


def modules() -> list[tuple[str, str]]:
    """Every module as (dotted name below ``bridge``, source); the package's own ``__init__`` imports nothing."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]
    return [(".".join(path.relative_to(PACKAGE).with_suffix("").parts), path.read_text("utf-8")) for path in paths]


def test_imports_point_one_way() -> None:
    everything = modules()
    assert len(everything) > 10
    assert [wrong for module, source in everything for wrong in wrong_imports(module, source)] == []


def test_the_package_itself_imports_nothing() -> None:
    source = (PACKAGE / "__init__.py").read_text("utf-8")
    assert list(imports("__init__", source)) == []


@pytest.mark.parametrize(
    ("module", "source", "problem"),
    [
        ("media.g711", "import bridge.events", "media.g711:1 imports bridge.events: points upwards"),
        ("media.g711", "from bridge import events", "media.g711:1 imports bridge.events: points upwards"),
        ("media.g711", "from ..events import Audio", "media.g711:1 imports bridge.events: points upwards"),
        ("media.g711", "from .. import events", "media.g711:1 imports bridge.events: points upwards"),
        ("media.__init__", "from ..events import Audio", "media.__init__:1 imports bridge.events: points upwards"),
        ("events", "from .calls import call", "events:1 imports bridge.calls: points upwards"),
        ("auth.twilio", "from bridge.config import Settings", "auth.twilio:1 imports bridge.config: points upwards"),
        ("calls.call", "from bridge.server import app", "calls.call:1 imports bridge.server: points upwards"),
        ("server.app", "import os\nimport bridge.cli", "server.app:2 imports bridge.cli: points upwards"),
        ("providers.twilio", "import bridge.convai", "providers.twilio:1 imports bridge.convai: two sides of a call"),
        ("convai.protocol", "import bridge.sip.leg", "convai.protocol:1 imports bridge.sip.leg: two sides of a call"),
        ("calls.call", "def f():\n    import time", "calls.call:2 imports time: not below server"),
        ("errors", "from os import environ", "errors:1 imports os: not below server"),
        ("auth.tokens", "import os.path as p", "auth.tokens:1 imports os.path: not below server"),
        ("leg", "from urllib.request import urlopen", "leg:1 imports urllib.request: not below server"),
    ],
)
def test_a_wrong_import_is_caught(module: str, source: str, problem: str) -> None:
    assert wrong_imports(module, source) == [problem]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("calls.call", "import bridge.providers.twilio, bridge.convai.protocol\nfrom bridge.auth import tokens"),
        ("providers.twilio", "from bridge.providers.twilio_messages import Start\nfrom . import twilio_messages"),
        ("convai.__init__", "from .protocol import Convai"),
        ("media.resample", "import numpy\nfrom urllib.parse import urlsplit\nfrom bridge.errors import LocalError"),
        ("server.app", "import asyncio, time, os\nfrom bridge.config import Settings\nfrom bridge import __version__"),
        ("cli", "import bridge\nfrom bridge.server import app"),
    ],
)
def test_a_right_import_is_let_through(module: str, source: str) -> None:
    assert wrong_imports(module, source) == []


def test_a_module_without_a_layer_is_caught() -> None:
    with pytest.raises(AssertionError, match="bridge.novelty has no layer yet"):
        wrong_imports("calls.call", "import bridge.novelty")
