"""What the fields of Vonage's webhooks mean: the call of an answer webhook, reports on legs, keys. Pure.

A webhook is a GET with the fields in its query or a POST with a JSON object, as the operator has set it; the fields are
the same. Numbers come without plus.

Sources: Vonage "Voice API: Webhook reference", the SDKs vonage-voice 1.5.1 and @vonage/voice 1.21.0 (``CallStatus``),
read 2026-11-21. That machine detection reports ``machine`` or ``human`` under ``call_uuid``, and the beep as
``sub_state``, is from memory of that page and was not seen on a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.calls.outbound import StatusReport
from bridge.events import CallInfo
from bridge.providers import vonage
from bridge.server.sip_headers import header_variables, one_line

ANONYMOUS = "anonymous"
"""The caller of a call whose number was withheld."""
MAX_TEXT_CHARS = 2_000
"""Of one field; addresses are the longest."""

_WITHHELD = frozenset({"anonymous", "restricted", "private", "unknown", "unavailable", "withheld", "blocked"})
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""An id goes into the path of control requests."""
_BARE = re.compile(r"[1-9][0-9]{7,14}")
"""A number in international format without its plus; shorter ones are extensions and short codes."""

_STATUSES = {
    "started": "initiated",
    "ringing": "ringing",
    "answered": "in-progress",
    "busy": "busy",
    "rejected": "busy",
    "unanswered": "no-answer",
    "timeout": "no-answer",
    "cancelled": "canceled",
    "failed": "failed",
    "completed": "completed",
}
"""From Vonage's statuses of a leg to those of ``StatusReport``."""

MACHINE_STATUSES = ("machine", "human")
_BEEPS = {"beep_start": "machine_end_beep", "beep_timeout": "machine_end_other"}
"""``sub_state`` of ``machine``: the greeting is over, with a beep or without."""

GONE_STATUSES = frozenset(
    {"disconnected", "failed", "unanswered", "busy", "rejected", "timeout", "cancelled", "completed"}
)
"""Statuses of a leg after which it is no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VonageReport:
    """One webhook. Texts are empty where it says nothing."""

    uuid: str = ""
    """Of the leg; empty where there is none that could be one."""
    status: str = ""
    sub_state: str = ""
    keys: str = ""
    """Keys that were pressed, in the answer to an ``input``."""
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Every field of one value, as text."""

    @property
    def is_gone(self) -> bool:
        """Whether the leg is no more."""
        return self.status in GONE_STATUSES


def read_report(fields: Mapping[str, object]) -> VonageReport:
    """A webhook's fields, whatever types they have; what cannot be used is left out."""
    texts = {name: text for name, value in fields.items() if (text := _text(value)) is not None}
    uuid = texts.get("uuid") or texts.get("call_uuid", "")
    return VonageReport(
        uuid=uuid if _ID.fullmatch(uuid) else "",
        status=texts.get("status", "").lower(),
        sub_state=texts.get("sub_state", "").lower(),
        keys=_keys(fields.get("dtmf")),
        texts=texts,
    )


def is_id(text: str) -> bool:
    """Whether this can be a leg's id."""
    return bool(_ID.fullmatch(text))


def call_info(report: VonageReport) -> CallInfo:
    """The call as its answer webhook tells of it; of a call that came in unless somebody says otherwise."""
    texts = report.texts
    custom = one_line(texts.get("custom_data", ""))
    return CallInfo(
        provider=vonage.NAME,
        call_sid=report.uuid,
        stream_id=texts.get("conversation_uuid", ""),
        caller=_number(texts.get("from", "")) or texts.get("from_user", ""),
        called=_number(texts.get("to", "")),
        control_url=texts.get("region_url", ""),
        parameters=header_variables(texts) | ({"custom_data": custom} if custom else {}),
    )


def status_report(report: VonageReport) -> StatusReport | None:
    """What is reported of a leg's state; None for anything else."""
    status = _STATUSES.get(report.status)
    if status is None:
        return None
    code = report.texts.get("sip_code", "")
    return StatusReport(
        call_sid=report.uuid,
        status=status,
        sip_code=int(code) if re.fullmatch(r"[1-6][0-9]{2}", code) else 0,
        fields=dict(report.texts),
    )


def machine_verdict(report: VonageReport) -> str:
    """Who answered, in the words of ``bridge.calls.outbound.VERDICTS``."""
    return "human" if report.status == "human" else _BEEPS.get(report.sub_state, "machine_start")


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)[:MAX_TEXT_CHARS]
    return None


def _keys(value: object) -> str:
    """``{"digits": "1", "timed_out": false}``, or the keys alone as older versions wrote them."""
    keys = value.get("digits") if isinstance(value, Mapping) else value
    return _text(keys) or "" if not isinstance(keys, bool) else ""


def _number(text: str) -> str:
    """E.164 where it is a number; other addresses as they are."""
    bare = text.strip()
    if bare.lower() in _WITHHELD:
        return ANONYMOUS
    return f"+{bare}" if _BARE.fullmatch(bare) else bare
