"""Option tags of Require and Supported."""

from __future__ import annotations

from bridge.sip.headers import Headers
from bridge.sip.option_tags import listed, requires, supports


def test_tags() -> None:
    headers = Headers((("Require", "100rel"), ("k", "Timer, , replaces"), ("Supported", "path"), ("Allow", '"x, y')))
    assert requires(headers, "100rel")
    assert not requires(headers, "timer")
    assert supports(headers, "timer")
    assert supports(headers, "100rel")
    assert supports(headers, "path")
    assert not supports(headers, "gruu")
    assert listed(headers, "Supported") == ("Timer", "replaces", "path")
    assert listed(headers, "Allow") == listed(headers, "Accept") == ()
