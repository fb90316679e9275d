"""Verdicts, exit codes, and that no secret gets through."""

from __future__ import annotations

from bridge.doctor.findings import (
    EXIT_FAILED,
    EXIT_OK,
    Finding,
    Verdict,
    count,
    exit_code,
    failed,
    ok,
    skipped,
    warning,
    without_secrets,
)


def test_only_failures_fail() -> None:
    fine = [ok("a", "x"), warning("b", "x", "y"), skipped("c", "x")]
    assert exit_code(fine) == EXIT_OK == 0
    assert exit_code([*fine, failed("d", "x", "y")]) == EXIT_FAILED == 1
    assert exit_code([]) == EXIT_OK


def test_counting() -> None:
    found = [ok("a", ""), ok("b", ""), warning("c", "", "")]
    assert [count(found, verdict) for verdict in Verdict] == [2, 1, 0, 0]


def test_each_kind_has_its_verdict() -> None:
    assert ok("n", "s", "a") == Finding("n", Verdict.OK, "s", "a")
    assert warning("n", "s", "a") == Finding("n", Verdict.WARNING, "s", "a")
    assert failed("n", "s", "a") == Finding("n", Verdict.FAILED, "s", "a")
    assert skipped("n", "s", "a") == Finding("n", Verdict.SKIPPED, "s", "a")


def test_secrets_are_blotted_out_the_longest_first() -> None:
    finding = failed("n", "refused: token-123456 and token-123", "use token-123")
    clean = without_secrets(finding, ["token-123", "token-123456"])
    assert (clean.seen, clean.advice) == ("refused: (hidden) and (hidden)", "use (hidden)")


def test_short_secrets_do_not_blot_out_words() -> None:
    assert without_secrets(ok("n", "the key is on"), ["on", ""]).seen == "the key is on"
