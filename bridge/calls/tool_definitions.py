"""The bridge's tools as an agent has to know them: client tool definitions in the vendor's schema. Pure.

What it is: JSON to paste into an agent's tools, or to send to ``POST /v1/convai/tools`` as ``tool_config``. What it is
not: the vendor's own ("system") tools of the same names; those have to be switched off in the agent, because on a plain
WebSocket they can do nothing.

Three members matter more than they look:

- ``expects_response``: the agent waits for the result, and so learns what failed.
- ``tool_error_handling_mode`` is ``passthrough``: with the vendor's default the text of a failed client tool is hidden
  from the model, which then cannot tell the caller why.
- ``execution_mode`` is ``post_tool_speech`` where the tool takes the line away: the agent finishes its sentence first.

Sources: ElevenLabs API reference, "Create tool", schemas ToolRequestModel, ClientToolConfig and
LiteralJsonSchemaProperty; docs, "Transfer to human", "Play keypad touch tone", "Voicemail detection", "End call" (read
2026-11-21).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bridge.calls.http_tools import HttpParameter, HttpTool
from bridge.calls.tools import (
    END,
    HOLD,
    MAX_TONES,
    RESUME,
    STANDARD_TOOLS,
    TONES,
    TRANSFER,
    VOICEMAIL,
    Abilities,
)
from bridge.leg import ToneWay, TransferKind

MAX_TIMEOUT_S = 120
"""The vendor's bound; beyond it there is only ``FOREVER``."""
FOREVER = -1
"""The vendor waits until the answer comes; the bridge answers every tool call."""
MARGIN_S = 10
"""What the vendor waits beyond the bridge's own bound, so that it is always the bridge's words that the agent hears."""
TONES_S = 50
"""For the longest sequence of keys, with the media stream's return."""

_TRANSFER_KINDS = (TransferKind.WARM, TransferKind.BLIND, TransferKind.REFER)
"""Those that an agent can choose between; a carrier's flow is all there is where it is there."""
_KIND_WORDS = {
    TransferKind.WARM: "conference = the person is called and told first, the caller stays with you until they answer",
    TransferKind.BLIND: "blind = the caller is sent on at once",
    TransferKind.REFER: "sip_refer = the caller's own telephone system connects them, to SIP addresses only",
}


class ToolDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A client tool, in the vendor's names. ``document`` makes it JSON."""

    name: str
    description: str
    parameters: dict[str, Any] | None = None
    """A JSON schema of type ``object``."""
    response_timeout_secs: int = 20
    """1 to 120, or -1."""
    execution_mode: str = "immediate"
    expects_response: bool = True
    tool_error_handling_mode: str = "passthrough"
    type: str = "client"

    def document(self) -> dict[str, Any]:
        """As ``tool_config`` of the vendor's create-tool request."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the definitions depend on."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Standard name -> the agent's own; empty = switched off (``ToolOptions.names``)."""
    http_tools: Mapping[str, HttpTool] = field(default_factory=dict)
    ring_s: float = 30.0
    """How long a human's telephone rings."""
    whisper_s: float = 45.0
    """How long they may take to hear what it is about, and to accept."""
    tool_timeout_s: float = 20.0
    """The bridge's own bound for all other tools."""


def definitions(options: ExportOptions, abilities: Abilities | None = None) -> list[ToolDefinition]:
    """All tools, or only those that a line with these abilities can carry out."""
    found = []
    for standard in STANDARD_TOOLS:
        name = options.names.get(standard, standard)
        if name and _possible(standard, abilities):
            found.append(_standard(standard, name, options, abilities))
    taken = {tool.name for tool in found}
    found += [_of_http(tool) for name, tool in options.http_tools.items() if name not in taken]
    return found


def bound_s(standard: str, options: ExportOptions) -> float:
    """The bridge's own bound for a standard tool: by then it has answered."""
    if standard == TRANSFER:
        return options.ring_s + options.whisper_s
    return max(TONES_S, options.tool_timeout_s) if standard == TONES else options.tool_timeout_s


def vendor_timeout_s(bound: float) -> int:
    """The vendor's ``response_timeout_secs`` for a tool that the bridge answers within ``bound`` seconds."""
    wanted = int(-(-bound // 1)) + MARGIN_S
    return wanted if wanted <= MAX_TIMEOUT_S else FOREVER


def _possible(standard: str, abilities: Abilities | None) -> bool:
    if abilities is None:
        return True
    if standard == TRANSFER:
        return bool(abilities.transfers)
    return standard != TONES or abilities.tones is not ToneWay.NONE


def _standard(standard: str, name: str, options: ExportOptions, abilities: Abilities | None) -> ToolDefinition:
    properties, required = _PARAMETERS[standard]
    shown: dict[str, Any] = {key: _text(about) for key, about in properties.items()}
    if standard == TRANSFER:
        shown, required = _transfer_parameters(shown, abilities)
    return ToolDefinition(
        name=name,
        description=_DESCRIPTIONS[standard].format(resume=options.names.get(RESUME, RESUME) or RESUME),
        parameters={"type": "object", "properties": shown, "required": list(required)} if shown else None,
        response_timeout_secs=vendor_timeout_s(bound_s(standard, options)),
        execution_mode="post_tool_speech" if standard in (TRANSFER, END, HOLD) else "immediate",
    )


def _transfer_parameters(shown: dict[str, Any], abilities: Abilities | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A flow takes any word; the other ways take numbers and SIP addresses, and more parameters."""
    if abilities is not None and abilities.transfers == {TransferKind.FLOW}:
        about = "Where to, as the phone system's flow knows it: a queue or department, or a number such as +14155550100"
        return {"destination": _text(about), "reason": shown["reason"]}, ("destination",)
    kinds = [kind for kind in _TRANSFER_KINDS if abilities is None or kind in abilities.transfers]
    if len(kinds) > 1:
        words = "; ".join(_KIND_WORDS[kind] for kind in kinds)
        shown["transfer_type"] = _text(
            f"How. Leave it out unless told otherwise. {words}", [kind.value for kind in kinds]
        )
    if TransferKind.WARM not in kinds:
        del shown["agent_message"]
    if kinds == [TransferKind.REFER]:
        del shown["post_dial_digits"]
    return shown, ()


def _of_http(tool: HttpTool) -> ToolDefinition:
    properties = {each.name: _literal(each) for each in tool.parameters}
    required = [each.name for each in tool.parameters if each.required]
    return ToolDefinition(
        name=tool.name,
        description=tool.description,
        parameters={"type": "object", "properties": properties, "required": required} if properties else None,
        response_timeout_secs=vendor_timeout_s(tool.timeout_s),
    )


def _literal(parameter: HttpParameter) -> dict[str, Any]:
    found: dict[str, Any] = {"type": parameter.kind.value, "description": parameter.description}
    return {**found, "enum": list(parameter.choices)} if parameter.choices else found


def _text(about: str, choices: Iterable[str] = ()) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "string", "description": about}
    return {**found, "enum": list(choices)} if choices else found


_DESCRIPTIONS = {
    TRANSFER: (
        "Connects the caller to a person. Use it when the caller asks for one, or when you cannot help. Say that you "
        "are connecting them, then call it. The result says whether it worked; if not, the caller is still with you."
    ),
    TONES: (
        "Presses keys on the telephone, to get through a menu or to enter an extension or code. Listen to what the "
        "line answers before you press more."
    ),
    END: (
        "Ends the call. Use it when everything is settled and you have both said goodbye, or when the caller wants to "
        "stop. What you said before is heard to its end."
    ),
    VOICEMAIL: (
        "Tells the phone system that an answering machine has taken the call, not a person. Use it as soon as you hear "
        "a recorded greeting, a beep, or to leave a message after the tone."
    ),
    HOLD: (
        "Puts the caller on hold: they hear hold music and not you. Say that you put them on hold, then call it. Call "
        "{resume} to go back to them."
    ),
    RESUME: "Takes the caller off hold, so that they hear you again.",
}

_REASON = "Why, in a few words; for the records only"
_PARAMETERS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    TRANSFER: (
        {
            "transfer_number": "Phone number with + and country code, such as +14155550100",
            "sip_uri": "SIP address instead of a number, such as sip:sales@pbx.example.com",
            "client_message": "What the caller is told while the person is called",
            "agent_message": "What the person is told before the caller joins: who calls, and what about",
            "reason": _REASON,
            "post_dial_digits": "Keys to press once the person's side has answered, such as an extension: 0-9, * and "
            "#, w for half a second, W for a second",
        },
        (),
    ),
    TONES: (
        {
            "dtmf_tones": f"The keys in order, up to {MAX_TONES}: 0-9, * and #, w for a pause of half a second, W for "
            "a pause of a second",
            "reason": _REASON,
        },
        ("dtmf_tones",),
    ),
    END: ({"reason": _REASON, "message": "Last words for the caller, if you have not said goodbye yet"}, ("reason",)),
    VOICEMAIL: ({"reason": "What made you think so, in a few words"}, ("reason",)),
    HOLD: ({}, ()),
    RESUME: ({}, ()),
}
