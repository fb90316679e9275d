"""The log's safety net: what it blanks, in our lines and in those of other libraries, and what the lines look like."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from bridge.server.logs import REDACTED, configure, get_logger, redact, redact_text, set_level
from tests.kit import logs

SIGNED_URL = "wss://api.elevenlabs.io/v1/convai/conversation?agent_id=agent_1&conversation_signature=cvtkn_9a8b7c"


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    with logs.unconfigured():
        yield


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("call from +15551234567 to +4930123456", f"call from {REDACTED} to {REDACTED}"),
        ("tel:+15551234567;x", f"tel:{REDACTED};x"),
        ("From=%2B15551234567&To=%2b4930123456", f"From={REDACTED}&To={REDACTED}"),
        (
            SIGNED_URL,
            f"wss://api.elevenlabs.io/v1/convai/conversation?agent_id=agent_1&conversation_signature={REDACTED}",
        ),
        ("GET /x?TOKEN=abc&a=1 done", f"GET /x?TOKEN={REDACTED}&a=1 done"),
        ("api_key='k' signature=\"s\"", "api_key='k' signature=\"s\""),
        ("Key sk_0123456789abcdef is wrong", f"Key {REDACTED} is wrong"),
        ("close 1006, 48000 Hz, took 1234567 us", "close 1006, 48000 Hz, took 1234567 us"),
        ("AB+1234567=", "AB+1234567="),  # base64
    ],
)
def test_texts(text: str, clean: str) -> None:
    assert redact_text(text) == clean


def test_private_fields_are_blanked_whatever_they_hold() -> None:
    event = {
        "event": "x",
        "caller": "anonymous",
        "digit": 7,
        "token": "t",
        "url": "http://x",
        "call_sid": "CA1",
        "n": 5,
    }
    assert redact(None, "info", event) == {
        "event": "x",
        "caller": REDACTED,
        "digit": REDACTED,
        "token": REDACTED,
        "url": REDACTED,
        "call_sid": "CA1",
        "n": 5,
    }


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_our_lines_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    log = get_logger(call_id="c1").bind(call_sid="CA1")
    log.debug("too_fine")
    log.info("step", detail="from +15551234567", called="x")
    [line] = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "step",
        "level": "info",
        "call_id": "c1",
        "call_sid": "CA1",
        "detail": f"from {REDACTED}",
        "called": REDACTED,
    }


def test_a_traceback_is_part_of_its_line_and_blanked_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    try:
        raise ValueError(f"cannot open {SIGNED_URL} for +15551234567")
    except ValueError:
        get_logger().exception("bug")
    [line] = lines(capsys)
    assert "ValueError: cannot open wss://" in line["exception"]
    assert "cvtkn_" not in line["exception"] and "+1555" not in line["exception"]


@pytest.mark.parametrize("name", ["httpx", "uvicorn.error", "picows.server", "asyncio"])
def test_lines_of_other_libraries_go_the_same_way(capsys: pytest.CaptureFixture[str], name: str) -> None:
    configure("debug", "json")
    library = logging.getLogger(name)
    library.info("HTTP Request: GET %s", SIGNED_URL)
    library.warning("cannot reach %s", SIGNED_URL)
    [line] = lines(capsys)
    assert line["event"].startswith("cannot reach wss://") and line["event"].endswith(REDACTED)
    assert line["level"] == "warning"


def test_a_tracebacks_of_another_library_is_blanked(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    try:
        raise OSError(SIGNED_URL)
    except OSError:
        logging.getLogger("asyncio").exception("lost +15551234567")
    [line] = lines(capsys)
    assert line["event"] == f"lost {REDACTED}"
    assert "OSError" in line["exception"] and "cvtkn_" not in line["exception"]


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level(capsys: pytest.CaptureFixture[str], level: str, count: int) -> None:
    configure(level, "json")
    log = get_logger()
    for method in (log.debug, log.info, log.warning, log.error):
        method("x")
    assert len(lines(capsys)) == count


def test_auto_means_json_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "auto")
    get_logger().info("x")
    assert lines(capsys)[0]["event"] == "x"


def test_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "console")
    get_logger(call_id="c1").info("call_started", caller="+15551234567")
    text = capsys.readouterr().err
    assert "call_started" in text and "call_id=c1" in text
    assert "+1555" not in text and not text.startswith("{")


def test_configuring_twice_does_not_double_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    configure("info", "json")
    get_logger().info("x")
    assert len(lines(capsys)) == 1
    assert structlog.is_configured()


def test_the_level_may_change_while_the_process_runs(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning", "json")
    get_logger().info("quiet")
    set_level("info")
    get_logger().info("loud")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["loud"]
