"""What the doctor says: verdicts, findings, and what they come to. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

EXIT_OK, EXIT_FAILED, EXIT_SETTINGS = 0, 1, 2
"""Exit codes: nothing failed (warnings included); something failed; the settings do not work."""


class Verdict(enum.Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """Calls work, but not as they could, or not for long."""
    FAILED = "failed"
    """Calls, or some of them, will not work."""
    SKIPPED = "skipped"
    """Not looked at; ``Finding.seen`` has the reason."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    name: str
    """The check, and what it looked at."""
    verdict: Verdict
    seen: str
    """What was seen, or why nothing was looked at; holds no secret and no phone number."""
    advice: str = ""
    """What to do next; empty = nothing."""
    took_ms: int = 0


def ok(name: str, seen: str, advice: str = "") -> Finding:
    """All is well; an ``advice`` says how it could be better still."""
    return Finding(name, Verdict.OK, seen, advice)


def warning(name: str, seen: str, advice: str) -> Finding:
    """See ``Verdict.WARNING``."""
    return Finding(name, Verdict.WARNING, seen, advice)


def failed(name: str, seen: str, advice: str) -> Finding:
    """See ``Verdict.FAILED``."""
    return Finding(name, Verdict.FAILED, seen, advice)


def skipped(name: str, reason: str, advice: str = "") -> Finding:
    """See ``Verdict.SKIPPED``."""
    return Finding(name, Verdict.SKIPPED, reason, advice)


def exit_code(findings: Iterable[Finding]) -> int:
    """What the command ends with."""
    return EXIT_FAILED if any(finding.verdict is Verdict.FAILED for finding in findings) else EXIT_OK


def count(findings: Iterable[Finding], verdict: Verdict) -> int:
    """How many of them."""
    return sum(finding.verdict is verdict for finding in findings)


MIN_HIDDEN_CHARS = 6
"""Shorter secrets are not looked for in findings: they would blot out ordinary words."""


def without_secrets(finding: Finding, secrets: Iterable[str]) -> Finding:
    """The finding with every one of these texts blotted out: the last guard, behind words that never quote them."""
    seen, advice = finding.seen, finding.advice
    for secret in sorted((each for each in secrets if len(each) >= MIN_HIDDEN_CHARS), key=len, reverse=True):
        seen, advice = seen.replace(secret, "(hidden)"), advice.replace(secret, "(hidden)")
    return replace(finding, seen=seen, advice=advice)
