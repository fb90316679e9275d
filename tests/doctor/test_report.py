"""The table, wide and narrow, and JSON."""

from __future__ import annotations

import json

from rich.console import Console

from bridge import __version__
from bridge.doctor.findings import Finding, failed, ok, skipped, warning
from bridge.doctor.report import table, to_json

FOUND = [
    ok("settings", "all of them can be read"),
    warning("PUBLIC_URL", "it is not set [red]", "Set it."),
    failed("agent agent_1", "no conversation", "Check ELEVENLABS_API_KEY."),
    skipped("SIP", "this version has no SIP trunks"),
]


def shown(findings: list[Finding], width: int) -> list[str]:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(table(findings, width))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_side_by_side() -> None:
    assert shown(FOUND, 80) == [
        "ok       settings       all of them can be read",
        "warning  PUBLIC_URL     it is not set [red]",
        "                        -> Set it.",
        "failed   agent agent_1  no conversation",
        "                        -> Check ELEVENLABS_API_KEY.",
        "skipped  SIP            this version has no SIP trunks",
        "",
        "1 ok, 1 to look at, 1 failed, 1 skipped. Calls will not work as they should: see",
        "what failed.",
    ]


def test_narrow() -> None:
    assert shown(FOUND[1:3], 30) == [
        "warning  PUBLIC_URL",
        "  it is not set [red]",
        "  -> Set it.",
        "failed  agent agent_1",
        "  no conversation",
        "  -> Check ELEVENLABS_API_KEY.",
        "",
        "0 ok, 1 to look at, 1 failed,",
        "0 skipped. Calls will not work",
        "as they should: see what",
        "failed.",
    ]


def test_nothing_is_cut_off_however_narrow() -> None:
    for width in (20, 40, 76, 200):
        text = "".join("".join(shown(FOUND, width)).split())
        assert "CheckELEVENLABS_API_KEY." in text


def test_the_summary_of_good_news() -> None:
    assert shown(FOUND[:1], 80)[-1] == "1 ok, 0 to look at, 0 failed, 0 skipped. All is well."
    assert shown(FOUND[:2], 80)[-1] == "1 ok, 1 to look at, 0 failed, 0 skipped. Calls can work."


def test_json() -> None:
    assert json.loads(to_json(FOUND[:2])) == {
        "ok": True,
        "version": __version__,
        "counts": {"ok": 1, "warning": 1, "failed": 0, "skipped": 0},
        "checks": [
            {"name": "settings", "verdict": "ok", "seen": "all of them can be read", "advice": "", "took_ms": 0},
            {"name": "PUBLIC_URL", "verdict": "warning", "seen": "it is not set [red]", "advice": "Set it.",
             "took_ms": 0},
        ],
    }  # fmt: skip
    assert json.loads(to_json(FOUND))["ok"] is False
