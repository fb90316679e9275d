"""What an agent may do on a call: tools by their names, and where it may send callers."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import AfterValidator

from bridge.calls.tools import allowed_patterns, checked_names
from bridge.settings.base import CommaList, Lower, Number, Topic, setting


def _patterns(texts: tuple[str, ...]) -> tuple[str, ...]:
    allowed_patterns(texts)
    return texts


def parse_tool_names(text: str) -> dict[str, str]:
    """Standard name -> the agent's name, from a JSON object. Raises ``ValueError`` with the mend."""
    mend = 'give a JSON object such as {"transfer_to_number": "connect_caller"}'
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"is no JSON; {mend}") from None
    if not isinstance(document, dict) or not all(isinstance(name, str) for name in document.values()):
        raise ValueError(f"is no JSON object of texts; {mend}")
    return checked_names(document)


def _tool_names(text: str) -> str:
    parse_tool_names(text)
    return text


class ToolSettings(Topic):
    """Tools and transfers."""

    tool_names: Annotated[str, AfterValidator(_tool_names)] | None = setting(
        None,
        "Other names of the agent's client tools, as a JSON object from the usual name to the agent's: "
        '`{"transfer_to_number": "connect_caller"}`; an empty name switches a tool off. Unset: the usual names.',
    )
    tool_timeout_s: Number = setting(
        20,
        "How long a tool of the bridge may take before the agent is told that it failed; the vendor gives up on "
        "client tools after its own `response_timeout_secs`, 20 unless set. A transfer has `TRANSFER_RING_S` besides.",
        unit="s",
        gt=0,
        le=120,
    )
    transfer_allow: Annotated[tuple[str, ...], CommaList, AfterValidator(_patterns)] = setting(
        (),
        "Where agents may transfer callers to: numbers, SIP addresses and words of the carrier's flow, with commas "
        "between them and `*` for any characters: `+4930*, sip:*@pbx.example.com, sales`. Unset: nowhere.",
    )
    transfer_type: Annotated[Literal["auto", "conference", "blind"], Lower] = setting(
        "auto",
        "Transfers that the agent leaves open: `conference` = the human is called and asked first, and the caller "
        "stays with the agent until then; `blind` = the caller is sent on at once; `auto` = `conference` where the "
        "carrier can, else what it can.",
    )
    transfer_ring_s: int = setting(
        30, "How long the human's telephone may ring before the agent gets the caller back.", unit="s", ge=5, le=300
    )
    transfer_accept_key: Annotated[str, AfterValidator(str.strip)] = setting(
        "",
        "Key that the human must press to take the caller: one of `0-9`, `*` and `#`. Unset: whoever answers takes "
        "the caller.",
        pattern=r"^[0-9*#]?$",
        expected="one of 0-9, * and #",
    )
    transfer_machine_detection: bool = setting(
        True, "`on` counts an answering machine as nobody, so that a caller is never left with one."
    )

    @property
    def tool_name_map(self) -> dict[str, str]:
        """The agent's names of tools by their usual ones; empty = switched off."""
        return parse_tool_names(self.tool_names) if self.tool_names else {}
