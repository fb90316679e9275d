"""How a Vonage call is connected to our media socket, in both topologies, and what is kept of it for later webhooks.

*Direct*: the caller's own document connects them to our socket; ``eventUrl`` is asked when the socket is over, and its
answer is the caller's next document. *Conversation*: the caller waits in a conversation of their own, and a request
calls our socket into it, as a leg that can go alone; ``/vonage/events`` is only told when that leg is over, so whatever
follows for the caller takes another request. It is asked for while Vonage waits for our answer: where it fails, the
caller is connected directly.

Reports on the socket's leg name the socket and neither the caller's leg nor our number, so their address has the leg,
and what is known of the call is kept under it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from bridge.events import CallInfo
from bridge.providers import vonage
from bridge.providers.vonage_ncco import MAX_LIMIT_S, MediaConnect, Ncco, connect_media, join_conversation
from bridge.server.carrier_control import Comeback, ControlError, Line
from bridge.server.vonage_control import VonageControl

if TYPE_CHECKING:
    from bridge.server.service import Bridge

CALL_WAIT_S = 2.5
"""How long the socket's leg may take to be called: Vonage waits some five seconds for an answer."""

CALL_TTL_S = MAX_LIMIT_S + 600.0
"""Of what is known of a call: the longest call, and late reports."""

_CONVERSATION, _DIRECT = b"conversation", b"direct"


class AnsweredCall(msgspec.Struct, frozen=True):
    """A call that is, or soon will be, on our media socket."""

    info: CallInfo
    token: str
    """Of its latest connection."""


_answered_call = msgspec.json.Decoder(AnsweredCall)


def control_of(bridge: Bridge) -> VonageControl | None:
    """The control client; None without credentials."""
    control = bridge.control_of(vonage.NAME)
    return control if isinstance(control, VonageControl) else None


def line_of(info: CallInfo) -> Line:
    """The caller's leg as control requests name it."""
    return Line(
        info.call_sid,
        caller=info.caller,
        called=info.called,
        direction=info.direction,
        control_url=info.control_url,
    )


async def recall(bridge: Bridge, leg: str) -> AnsweredCall | None:
    """What is known of the call of this leg."""
    kept = await bridge.shared.get(_key(leg)) if leg else None
    if kept is None:
        return None
    try:
        return _answered_call.decode(kept)
    except msgspec.DecodeError:  # of another version of this program
        return None


async def connect(bridge: Bridge, info: CallInfo, token: str) -> Ncco:
    """The document that brings a call to our media socket, as VONAGE_TOPOLOGY says. May be asked again."""
    await _remember(bridge, info, token)
    settings = bridge.settings
    if settings.vonage_topology == "conversation" and await _is_called(bridge, info, token):
        return join_conversation(conversation_of(info.call_sid))
    return connect_media(_order(bridge, info, token, settings.public_base_url, settings.public_ws_url))


async def connect_again(bridge: Bridge, info: CallInfo, comeback: Comeback) -> Ncco:
    """The document that connects the call's media stream once more, directly, to this very process."""
    await _remember(bridge, info, comeback.token)
    settings = bridge.settings
    return connect_media(_order(bridge, info, comeback.token, settings.instance_base_url, settings.instance_ws_url))


def conversation_of(leg: str) -> str:
    """Where caller and socket meet."""
    return f"call-{leg}"


# --- inside --------------------------------------------------------------------------------------------------


async def _is_called(bridge: Bridge, info: CallInfo, token: str) -> bool:
    """Whether our media socket is called into the caller's conversation: once for each token."""
    control, shared, settings = control_of(bridge), bridge.shared, bridge.settings
    if control is None:
        bridge.log.warning("topology_direct", call_sid=info.call_sid, detail="VONAGE_PRIVATE_KEY is not set")
        return False
    way = f"vonage-way:{info.call_sid}:{token}"
    if not await shared.first_time(way, CALL_TTL_S):
        return await shared.wait_for(way, CALL_WAIT_S) == _CONVERSATION
    order = _order(bridge, info, token, settings.public_base_url, settings.public_ws_url, apart=True)
    called = False
    try:
        async with asyncio.timeout(CALL_WAIT_S):
            await control.connect_media_leg(line_of(info), order, conversation_of(info.call_sid))
        called = True
    except TimeoutError:
        bridge.log.warning("topology_direct", call_sid=info.call_sid, detail=f"no answer in {CALL_WAIT_S:g} s")
    except ControlError as error:
        bridge.log.warning("topology_direct", call_sid=info.call_sid, fault=error.fault.value, detail=str(error))
    await shared.put(way, _CONVERSATION if called else _DIRECT, CALL_TTL_S)
    return called


def _order(
    bridge: Bridge, info: CallInfo, token: str, http_url: str, ws_url: str, *, apart: bool = False
) -> MediaConnect:
    ours = info.caller if info.direction == "outbound" else info.called
    leg = quote(info.call_sid, safe="")
    return MediaConnect(
        url=ws_url + vonage.SPEC.media_paths[0],
        uuid=info.call_sid,
        token=token,
        event_url=f"{http_url}/vonage/events?leg={leg}{'&apart=1' if apart else ''}",
        from_number=ours,
        region_url=info.control_url,
        rate_hz=bridge.settings.vonage_rate_hz,
    )


async def _remember(bridge: Bridge, info: CallInfo, token: str) -> None:
    kept = msgspec.json.encode(AnsweredCall(info, token))
    await bridge.shared.put(_key(info.call_sid), kept, CALL_TTL_S)


def _key(leg: str) -> str:
    return f"vonage-call:{leg}"
