"""What calls begin with: the operator's settings, then the rules of the call's route and what its carrier can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bridge.calls.hold import HoldAudio
from bridge.calls.http_tools import HttpTool
from bridge.calls.machine import MachineAction, MachineOptions
from bridge.calls.options import CallOptions
from bridge.calls.outbound import OutboundCall
from bridge.calls.routing import Resolved
from bridge.calls.tools import Abilities, ToolOptions
from bridge.config import Settings
from bridge.leg import CarrierSpec, ToneWay, TransferKind
from bridge.server.carrier_control import CarrierControl
from bridge.server.handing import WHISPER_S
from bridge.sip import leg as sip

CLEANING_UP_S = 44.0
"""What a transfer may take beyond ringing and asking: requests to the carrier with their time-outs, the way back of the
stream. Its own bounds are tighter; this one answers the agent even when they all fail."""

TRANSFER_KINDS = {"conference": TransferKind.WARM, "blind": TransferKind.BLIND}
"""TRANSFER_TYPE; ``auto`` leaves it to ``bridge.calls.tools``."""


def common_options(settings: Settings, hold_audio: HoldAudio | None) -> CallOptions:
    """What all calls begin with."""
    return CallOptions(
        settings.caller_buffer_ms,
        int(settings.playout_queue_s * 1000),
        keypad=settings.keypad_options,
        results_wait_s=settings.genesys_output_wait_s,
        hold_audio=hold_audio,
        tools=ToolOptions(
            names=settings.tool_name_map,
            default_kind=TRANSFER_KINDS.get(settings.transfer_type),
        ),
        tool_timeout_s=settings.tool_timeout_s,
        transfer_timeout_s=settings.transfer_ring_s + WHISPER_S + CLEANING_UP_S,
        reconnect_s=settings.agent_reconnect_s if settings.agent_reconnect else 0.0,
        apologise=settings.apology_audio is not None,
    )


def route_options(
    common: CallOptions,
    route: Resolved,
    abilities: Abilities,
    *,
    http_tools: Mapping[str, HttpTool],
    placed: OutboundCall | None,
) -> CallOptions:
    """What a call of this route begins with; ``placed``: we have called, and know why."""
    return replace(
        common,
        keypad=route.keypad,
        machine=_machine_options(route, placed),
        tools=replace(common.tools, transfer_allow=route.transfer_allow, http_tools=http_tools),
        abilities=abilities,
    )


def abilities_of(control: CarrierControl | None, spec: CarrierSpec, caller: str) -> Abilities:
    """What can be done for a call of this carrier, with the credentials that there are."""
    transfers = control.transfers if control is not None else frozenset()
    if spec.name != sip.NAME and not caller.startswith(("sip:", "sips:")):
        transfers -= {TransferKind.REFER}
    if spec.takes_results:
        transfers |= {TransferKind.FLOW}
    tones = spec.tones
    if tones in (ToneWay.CONTROL, ToneWay.EXCURSION):
        tones = control.tones if control is not None else ToneWay.NONE
    return Abilities(transfers, tones, refer_takes_numbers=spec.name == sip.NAME)


def _machine_options(route: Resolved, placed: OutboundCall | None) -> MachineOptions:
    """What is done about machines: as the request says that placed the call, else as its route does."""
    if placed is None:
        return route.machine
    return replace(
        route.machine,
        message=placed.message or route.machine.message,
        awaits_end=placed.detection == "detect_message_end",
        actions={verdict: MachineAction(action) for verdict, action in placed.actions.items()},
    )
