"""SIP headers as carriers put them into their webhooks (``SipHeader_X-Name``): variables for the agent. Pure.

They come from the caller's side. They become variables of the agent under names of their own, so that none can pass for
a fact of ours; they are bounded, and those that look like credentials are dropped.

Sources: Twilio "Receiving SIP headers", Vonage "Webhook reference: transmitting additional data with SIP headers";
ElevenLabs docs "SIP trunking: inbound custom headers as dynamic variables" (``X-Contact-ID`` becomes
``sip_contact_id``); read 2026-11-21.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MAX_HEADERS = 30
"""SIP headers that become variables; beyond it they are dropped, as the vendor bounds variables too."""
MAX_NAME_CHARS = 64
MAX_VALUE_CHARS = 500

_HEADER = "SipHeader_"
_HEADER_NAME = re.compile(r"(?i)(?:X-(?P<own>[A-Za-z0-9_-]+)|(?P<known>User-to-User))")
"""Carriers hand on ``X-`` headers and this one."""
_SECRETS = re.compile(r"(?i)auth|cookie|token|secret|passw|pwd|credential|api-?key|signature|session-?key|private")
"""Headers with such names are for machines, not for a language model."""


def header_variables(fields: Mapping[str, str]) -> dict[str, str]:
    """The variables of a webhook's fields; the first of a name counts, empty ones are left out."""
    headers: dict[str, str] = {}
    for field, value in fields.items():
        name = _variable_name(field)
        if name and len(headers) < MAX_HEADERS:
            headers.setdefault(name, one_line(value))
    return {name: value for name, value in headers.items() if value}


def one_line(value: str) -> str:
    """One line of bounded length."""
    text = "".join(char if char.isprintable() else " " for char in value)
    return text.strip()[:MAX_VALUE_CHARS]


def _variable_name(field: str) -> str:
    """The variable of a SIP header; empty = none."""
    if not field.startswith(_HEADER):
        return ""
    match = _HEADER_NAME.fullmatch(field.removeprefix(_HEADER))
    if match is None or len(field) > len(_HEADER) + MAX_NAME_CHARS or _SECRETS.search(field):
        return ""
    return "sip_" + (match["own"] or match["known"]).lower().replace("-", "_")
