"""The client tools that the bridge carries out for an agent: from a tool call to an order. Pure, and total.

What it is: the one place that reads what an agent's model wrote. Whatever it wrote, ``Toolbox.read`` returns an order
that may be carried out, or ``Refused`` with words that the model understands and can act on. What it is not: carrying
out (``bridge.calls.call``, ``bridge.server.transfers``), the answers to that (``bridge.calls.tool_words``), and the
definitions that an agent needs (``bridge.calls.tool_definitions``).

The tools have one meaning on every carrier; what a carrier can do is an argument (``Abilities``). Parameters that are
not known are ignored: models add some. A text that is too long is cut where it is only heard or logged, and refused
where it decides what is dialled or pressed.

Source for names and parameters: ElevenLabs docs, "System tools", "Transfer to human" and "Play keypad touch tone", read
2026-11-21; on a plain WebSocket the vendor's own tools cannot work, so agents define client tools of the same names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.calls import tool_words as words
from bridge.calls.http_tools import TOOL_NAME, HttpTool
from bridge.calls.orders import (
    EndOrder,
    HoldOrder,
    HttpOrder,
    Order,
    Refused,
    TonesOrder,
    TransferOrder,
    VoicemailOrder,
)
from bridge.calls.redact import MASK
from bridge.calls.targets import Shape, Target, Wrong, allowed_patterns, find_target
from bridge.calls.tool_words import (
    ALREADY_ON_HOLD,
    ENDING,
    NOT_ON_HOLD,
    NOTED,
    OFF_HOLD,
    ON_HOLD,
    TRANSFERRED,
    TRANSFERRING,
    ToolFailure,
    tool_failed,
    transfer_failed,
)
from bridge.calls.tool_words import KEYS_PRESSED as PRESSED
from bridge.leg import ToneWay, TransferKind

__all__ = [
    "ALREADY_ON_HOLD",
    "ENDING",
    "NOTED",
    "NOT_ON_HOLD",
    "OFF_HOLD",
    "ON_HOLD",
    "PRESSED",
    "TRANSFERRED",
    "TRANSFERRING",
    "ToolFailure",
    "END",
    "HOLD",
    "RESUME",
    "STANDARD_TOOLS",
    "TONES",
    "TRANSFER",
    "VOICEMAIL",
    "Abilities",
    "ToolOptions",
    "Toolbox",
    "allowed_patterns",
    "checked_names",
    "masked_keys",
    "tool_failed",
    "transfer_failed",
]
"""The words of results are part of it: whoever carries out an order answers with them."""

TRANSFER = "transfer_to_number"
TONES = "play_keypad_touch_tone"
END = "end_call"
VOICEMAIL = "voicemail_detection"
HOLD = "hold"
RESUME = "resume"

STANDARD_TOOLS = (TRANSFER, TONES, END, VOICEMAIL, HOLD, RESUME)

TARGET_NAMES = ("transfer_number", "sip_uri", "destination")
"""Parameters that may name the target, the first given one counts; ``destination`` may be a word of the flow's."""

MAX_TARGET_CHARS = 256
"""As ``bridge.calls.numbers`` looks at."""
MAX_REASON_CHARS = 500
"""For the log and the record; the rest is cut."""
MAX_MESSAGE_CHARS = 1_000
"""Of what is spoken: a good minute. The rest is cut at a word."""
MAX_TONES = 50
"""Keys and pauses of one call: the longest menus and card numbers stay well below, and nobody listens for longer."""
MAX_PAUSES_S = 20.0
"""Of the pauses of one call together."""
MAX_NAME_SHOWN_CHARS = 64
"""Of an unknown tool's name that the answer repeats."""

_KEY_NAMES = frozenset({"dtmf_tones", "post_dial_digits"})
_KEYS = re.compile(r"[0-9*#wW]*")
_PAUSES_S = {"w": 0.5, "W": 1.0}

_KIND_SPELLINGS = {
    "conference": TransferKind.WARM,
    "warm": TransferKind.WARM,
    "attended": TransferKind.WARM,
    "consultative": TransferKind.WARM,
    "blind": TransferKind.BLIND,
    "cold": TransferKind.BLIND,
    "unattended": TransferKind.BLIND,
    "direct": TransferKind.BLIND,
    "refer": TransferKind.REFER,
    "sip_refer": TransferKind.REFER,
    "sip": TransferKind.REFER,
    "sipreferral": TransferKind.REFER,
    "siprefer": TransferKind.REFER,
    "flow": TransferKind.FLOW,
}
_NO_KIND = frozenset({"", "default", "auto", "none", "null"})

PREFERENCE = (TransferKind.WARM, TransferKind.BLIND, TransferKind.FLOW, TransferKind.REFER)
"""Which kind is taken when the agent asks for none: first the one that never strands a caller."""


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """The operator's choices for one agent."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Standard name -> the agent's own name for it; absent = the standard name, empty = switched off. See
    ``checked_names``."""
    transfer_allow: tuple[str, ...] = ()
    """Where the agent may transfer to, from ``allowed_patterns``; empty = nowhere."""
    http_tools: Mapping[str, HttpTool] = field(default_factory=dict)
    """By name; a name that a standard tool has already is never reached."""
    default_kind: TransferKind | None = None
    """Preferred where the agent asks for no kind and the line can make it; None = ``PREFERENCE``."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the call's line can do now."""

    transfers: frozenset[TransferKind] = frozenset()
    """Without ``REFER`` where the caller does not come over SIP."""
    tones: ToneWay = ToneWay.NONE
    refer_takes_numbers: bool = False
    """Whether ``REFER`` takes a phone number too, not only a SIP address."""


def checked_names(names: Mapping[str, str]) -> dict[str, str]:
    """The operator's names for the standard tools. Raises ``ValueError`` with the mend."""
    found: dict[str, str] = {}
    for standard, own in names.items():
        if standard not in STANDARD_TOOLS:
            raise ValueError(f"has {standard[:64]!r}, which is no tool; there are {', '.join(STANDARD_TOOLS)}")
        if own and not TOOL_NAME.fullmatch(own):
            raise ValueError(f"calls {standard} what is no name; use up to 64 letters, digits, underscores and hyphens")
        found[standard] = own
    effective = [name for standard in STANDARD_TOOLS if (name := found.get(standard, standard))]
    twice = next((name for name in effective if effective.count(name) > 1), "")
    if twice:
        raise ValueError(f"gives two tools the name {twice}; each needs its own")
    return found


def masked_keys(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of any tool call with keys to press masked, for records where digits are redacted."""
    return {name: MASK if name in _KEY_NAMES and value else value for name, value in parameters.items()}


class Toolbox:
    """Reads the tool calls of one agent. Immutable; one may serve all of its calls."""

    __slots__ = ("_readers", "_standard", "options")

    def __init__(self, options: ToolOptions) -> None:
        self.options = options
        self._standard = {own: name for name in STANDARD_TOOLS if (own := options.names.get(name, name))}
        self._readers: dict[str, Callable[[Mapping[str, Any], Abilities], Order]] = {
            TRANSFER: self._transfer,
            TONES: self._tones,
            END: self._end,
            VOICEMAIL: self._voicemail,
            HOLD: lambda parameters, abilities: HoldOrder(True),
            RESUME: lambda parameters, abilities: HoldOrder(False),
        }

    def standard_name(self, name: str) -> str:
        """The standard tool that this name of the agent's stands for; empty = none."""
        return self._standard.get(name, "")

    def read(self, name: str, parameters: Mapping[str, Any], abilities: Abilities) -> Order:
        """What this tool call comes to. Never raises on what an agent sends."""
        standard = self._standard.get(name)
        if standard is not None:
            return self._readers[standard](parameters, abilities)
        tool = self.options.http_tools.get(name)
        if tool is not None:
            checked = tool.checked(parameters)
            return Refused(checked) if isinstance(checked, str) else HttpOrder(tool.name, checked)
        return Refused(words.UNAVAILABLE.format(name=name[:MAX_NAME_SHOWN_CHARS]))

    # --- transfer ---

    def _transfer(self, parameters: Mapping[str, Any], abilities: Abilities) -> Order:
        if not abilities.transfers:
            return Refused(words.NO_TRANSFERS)
        target = self._target(parameters)
        if isinstance(target, Refused):
            return target
        kind = self._kind(parameters.get("transfer_type"), target, abilities)
        if isinstance(kind, Refused):
            return kind
        digits = _keys(parameters, "post_dial_digits")
        if isinstance(digits, Refused):
            return digits
        if digits and kind in (TransferKind.FLOW, TransferKind.REFER):
            return Refused(words.NO_KEYS_AFTER)
        for name in ("client_message", "agent_message"):
            if not isinstance(parameters.get(name), str | None):
                return Refused(words.NOT_A_TEXT.format(parameter=name))
        return TransferOrder(
            kind=kind,
            target=target.address,
            client_message=_spoken(parameters.get("client_message")),
            agent_message=_spoken(parameters.get("agent_message")),
            post_dial_digits=digits,
            reason=_logged(parameters.get("reason")),
        )

    def _target(self, parameters: Mapping[str, Any]) -> Target | Refused:
        for name in TARGET_NAMES:
            given = parameters.get(name)
            if given is None or (isinstance(given, str) and not given.strip()):
                continue
            if not isinstance(given, str):
                return Refused(words.NO_TARGET_TEXT.format(parameter=name))
            if len(given) > MAX_TARGET_CHARS:
                return Refused(words.UNREADABLE_TARGET)
            found = find_target(given, self.options.transfer_allow)
            return found if isinstance(found, Target) else Refused(_WRONG[found])
        return Refused(words.NO_TARGET)

    def _kind(self, asked: object, target: Target, abilities: Abilities) -> TransferKind | Refused:
        """The kind that is asked for, else the best that the line can make to this target."""
        fits = [kind for kind in PREFERENCE if kind in abilities.transfers and _takes(kind, target, abilities)]
        shown = ", ".join(kind.value for kind in fits)
        if not isinstance(asked, str | None):
            return Refused(words.NOT_A_TEXT.format(parameter="transfer_type"))
        spelling = _kind_spelling(asked or "")
        if spelling in _NO_KIND:
            if not fits:
                return Refused(words.WORD_TARGET if target.shape is Shape.WORD else words.REFER_NEEDS_SIP)
            return self.options.default_kind if self.options.default_kind in fits else fits[0]
        kind = _KIND_SPELLINGS.get(spelling)
        if kind in fits:
            return kind
        if target.shape is Shape.WORD and not fits:
            return Refused(words.WORD_TARGET)
        if kind is TransferKind.REFER and kind in abilities.transfers:
            return Refused(words.REFER_NEEDS_SIP)
        if kind is None:
            return Refused(words.UNKNOWN_KIND.format(kinds=shown))
        return Refused(words.WRONG_KIND.format(kind=kind.value, kinds=shown))

    # --- the others ---

    def _tones(self, parameters: Mapping[str, Any], abilities: Abilities) -> Order:
        if abilities.tones is ToneWay.NONE:
            return Refused(words.NO_TONES)
        digits = _keys(parameters, "dtmf_tones")
        if isinstance(digits, Refused):
            return digits
        return TonesOrder(digits) if digits.strip("wW") else Refused(words.NO_KEYS)

    def _end(self, parameters: Mapping[str, Any], abilities: Abilities) -> Order:
        # An agent that wants to end the call is never held up by a reason that is missing or no text.
        return EndOrder(_logged(parameters.get("reason")), _spoken(parameters.get("message")))

    def _voicemail(self, parameters: Mapping[str, Any], abilities: Abilities) -> Order:
        return VoicemailOrder(_logged(parameters.get("reason")))


_WRONG = {
    Wrong.UNREADABLE: words.UNREADABLE_TARGET,
    Wrong.NATIONAL: words.NATIONAL_TARGET,
    Wrong.NOT_ALLOWED: words.NOT_ALLOWED,
    Wrong.EMERGENCY: words.EMERGENCY,
}


def _takes(kind: TransferKind, target: Target, abilities: Abilities) -> bool:
    """Whether this kind of transfer reaches this kind of target."""
    if kind is TransferKind.FLOW:
        return True
    if kind is TransferKind.REFER and not abilities.refer_takes_numbers:
        return target.shape is Shape.SIP
    return target.shape is not Shape.WORD


def _kind_spelling(text: str) -> str:
    """``SIP-REFER transfer`` as ``sip_refer``."""
    return re.sub(r"[\s\-_]+", "_", text[:MAX_TARGET_CHARS].strip().lower()).removesuffix("_transfer")


def _keys(parameters: Mapping[str, Any], name: str) -> str | Refused:
    """Keys to press; empty where none are given. Blanks between them are let be."""
    given = parameters.get(name)
    if given is None:
        return ""
    if not isinstance(given, str):
        return Refused(words.NOT_A_TEXT.format(parameter=name))
    keys = given[: 4 * MAX_TONES].replace(" ", "")
    if not _KEYS.fullmatch(keys):
        return Refused(words.WRONG_KEYS.format(parameter=name))
    if len(given) > 4 * MAX_TONES or len(keys) > MAX_TONES or sum(_PAUSES_S.get(k, 0.0) for k in keys) > MAX_PAUSES_S:
        return Refused(words.TOO_MANY_KEYS.format(parameter=name, most=MAX_TONES, pause_s=f"{MAX_PAUSES_S:g}"))
    return keys


def _plain(value: object, limit: int) -> str:
    """One line of printable text, without what a log or a voice could stumble over; empty for anything else."""
    if not isinstance(value, str):
        return ""
    line = " ".join(value[: 4 * limit].split())
    return "".join(char for char in line if char.isprintable())


def _logged(value: object) -> str:
    return _plain(value, MAX_REASON_CHARS)[:MAX_REASON_CHARS]


def _spoken(value: object) -> str:
    """A text to be spoken, cut at a word."""
    text = _plain(value, MAX_MESSAGE_CHARS)
    if len(text) <= MAX_MESSAGE_CHARS:
        return text
    cut = text[:MAX_MESSAGE_CHARS]
    return cut.rpartition(" ")[0] or cut
