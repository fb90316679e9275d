"""What the fields of Twilio's webhooks mean: the call of an answer webhook, and status reports. Pure.

Sources: Twilio "TwiML Voice: Twilio's request to your application", "Caller ID: anonymous calls", "Status callbacks",
read 2026-11-21. SIP headers: ``bridge.server.sip_headers``.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.calls.outbound import StatusReport
from bridge.events import CallInfo
from bridge.providers import twilio
from bridge.server.sip_headers import header_variables, one_line

ANONYMOUS = "anonymous"
"""The caller of a call whose number was withheld."""

_WITHHELD = frozenset(
    {
        "+266696687",  # ANONYMOUS on a keypad
        "+7378742833",  # RESTRICTED
        "+2562533",  # BLOCKED
        "+8656696",  # UNKNOWN
        "+86282452253",  # UNAVAILABLE
        "anonymous",
        "restricted",
        "blocked",
        "unknown",
        "unavailable",
        "private",
    }
)
"""What Twilio writes in place of a number that was withheld."""

_SAID = {
    "ForwardedFrom": "forwarded_from",
    "CallerName": "caller_name",
    "StirVerstat": "stir_verstat",
    "SipDomain": "sip_domain",
}
"""Fields that become variables of these names: who forwarded the call, and how far the caller's number is to be
believed."""


def call_info(form: Mapping[str, str]) -> CallInfo:
    """The call as its answer webhook tells of it."""
    outbound = form.get("Direction", "").startswith("outbound")
    return CallInfo(
        provider=twilio.NAME,
        call_sid=form.get("CallSid", ""),
        account_id=form.get("AccountSid", ""),
        caller=_caller(form.get("From", "")),
        called=form.get("To", ""),
        direction="outbound" if outbound else "inbound",
        parameters=_variables(form),
    )


def status_report(form: Mapping[str, str]) -> StatusReport:
    """A call's status callback."""
    return StatusReport(
        call_sid=form.get("CallSid", ""),
        status=form.get("CallStatus", ""),
        sequence=_whole(form.get("SequenceNumber", ""), -1),
        sip_code=_whole(form.get("SipResponseCode", ""), 0),
        account_id=form.get("AccountSid", ""),
        fields=dict(form),
    )


def _caller(number: str) -> str:
    return ANONYMOUS if number.strip().lower() in _WITHHELD else number


def _variables(form: Mapping[str, str]) -> dict[str, str]:
    found = {name: one_line(form[field]) for field, name in _SAID.items() if form.get(field)}
    return {**header_variables(form), **{name: value for name, value in found.items() if value}}


def _whole(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else otherwise
