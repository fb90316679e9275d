"""What is known of a Vonage call when its socket begins: from the headers of our NCCO, and from the socket's address.

Our own NCCO (``vonage_ncco.connect_media``) puts the caller leg's uuid, the one-time token and the region into the
endpoint's headers, and what finds no room there into the query. Those who come from the connector that the agents'
vendor recommends have everything in the query (``peer_uuid``, ``webhook_url``, ``call_direction``, ``caller_number``,
``callee_number``, ``participant``); both are understood, headers first.

Nothing here is trusted. What the answer webhook knew comes from the token's claims and takes the place of what is said
here (``CallInfo.control_url`` too: what a header says of it counts only where no token is asked for), and an address
for requests of ours is for whoever makes the request to check.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from bridge.errors import RemoteError
from bridge.events import CallInfo
from bridge.leg import UpgradeRequest
from bridge.providers.vonage_messages import Connected

HEADER_UUID, HEADER_TOKEN, HEADER_REGION = "uuid", "token", "region_url"
"""Our own headers; in the query too, but for the token, which would stand in logs there."""
PARAM_PEER = "peer_uuid"
"""Parameter of ``CallInfo`` where the old connector's own was in the socket's address: whoever names the caller's leg
there has written the NCCO, which has no token of ours."""
PARAM_WEBHOOK = "webhook_url"
"""Parameter of ``CallInfo`` with where the old connector posted its events, where one was named."""

VIDEO_CONNECTION_HEADER = "x-opentok-ws-connectionid"
"""Of the upgrade request: the Video API's Audio Connector, whose wire is the same but for ``clear``."""

MAX_QUERY_CHARS = 4096
MAX_QUERY_FIELDS = 64

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""An id goes into the path of control requests, so it is nothing but letters, digits, dashes and underscores."""
_KEY_HEADER = "sec-websocket-key"
_UUIDS = (HEADER_UUID, PARAM_PEER, "call_uuid")
_CALLERS = ("caller", "caller_number", "from")
_CALLED = ("called", "callee_number", "to")
_DIRECTIONS = ("direction", "call_direction")
_CONVERSATIONS = ("conversation_uuid",)
_QUERY = frozenset(
    (*_UUIDS, *_CALLERS, *_CALLED, *_DIRECTIONS, *_CONVERSATIONS, HEADER_REGION, PARAM_WEBHOOK, "participant")
)


def read_query(raw_path: str) -> dict[str, str]:
    """The parameters of a socket's address that mean something here; the first of each name counts."""
    query = raw_path.partition("?")[2]
    if len(query) > MAX_QUERY_CHARS:
        return {}
    try:
        pairs = parse_qsl(query, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        return {}
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in _QUERY:
            found.setdefault(name, value)
    return found


def call_info(provider: str, connected: Connected, request: UpgradeRequest) -> CallInfo:
    """The call as its socket tells of it. Raises ``RemoteError`` where its id cannot be one."""
    given = dict(connected.headers)
    query = read_query(request.raw_path)
    peer = query.get(PARAM_PEER, "")
    token = given.pop(HEADER_TOKEN, "")
    call_sid = _taken(_UUIDS, given, query) or _own_id(request.headers)
    if not _ID.fullmatch(call_sid):
        raise RemoteError("websocket:connected: uuid is no id of a call")
    caller, called = _taken(_CALLERS, given, query), _taken(_CALLED, given, query)
    direction = _taken(_DIRECTIONS, given, query)
    stream_id = _taken(_CONVERSATIONS, given, query)
    control_url = _taken((HEADER_REGION,), given, query)
    return CallInfo(
        provider=provider,
        call_sid=call_sid,
        stream_id=stream_id,
        caller=caller,
        called=called,
        token=token,
        direction="outbound" if direction == "outbound" else "inbound",
        control_url=control_url,
        parameters={**({PARAM_PEER: peer} if peer else {}), **query, **given},
    )


def _taken(names: tuple[str, ...], headers: dict[str, str], query: dict[str, str]) -> str:
    """The first of these names that has a value, headers first; all of them are used up."""
    values = [source.pop(name, "") for source in (headers, query) for name in names]
    return next((value for value in values if value), "")


def _own_id(headers: Mapping[str, str]) -> str:
    """An id for a call without one: of the Video API's connection, or made of the handshake's random key."""
    video = headers.get(VIDEO_CONNECTION_HEADER, "").strip()
    if video:
        return video
    key = headers.get(_KEY_HEADER, "").strip()
    return "ws-" + key.rstrip("=").replace("+", "-").replace("/", "_") if key else ""
