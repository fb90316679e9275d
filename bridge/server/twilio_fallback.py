"""What Twilio does with a call after our media stream: the webhook behind every ``<Connect>`` decides.

It is asked whenever a stream has ended and the call goes on: because we closed it, because it broke, because the
process that carried it has died. So it looks at how the call ended, wherever that was written down:

- well, or the caller was told already: hang up;
- the agent failed for good, or there was no slot, and there is another number: dial it;
- the line broke, or nobody knows what became of it: connect the stream again, once, as a new conversation that is
  told what the first one was about;
- otherwise: an apology in the language of the call, by Twilio's own voice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bridge.calls.resume import PREVIOUS_ID, RESUMED
from bridge.events import CallInfo
from bridge.outcome import Result
from bridge.providers import twilio, twilio_twiml
from bridge.providers.twilio_words import Phrase
from bridge.server.answer import Connect, answer
from bridge.server.carrier_control import Comeback
from bridge.server.handing import card_of
from bridge.server.service import APOLOGISED, BROKEN_LINE, CONVERSATION_ID, DIVERT_TO, LANGUAGE
from bridge.server.shared_state import CallEnd
from bridge.server.transfers import come_back

if TYPE_CHECKING:
    from bridge.server.service import Bridge

RESERVED = "twilio-answered:{call_sid}"
"""Where such a token is kept."""

END_WAIT_S = 1.0
"""How long a fallback waits to hear how the stream ended: another process may have carried it."""

AGAIN_TTL_S = 3600.0
"""A call is connected again once in so long: one that breaks a second time has a cause that a third try meets too."""


async def after_stream(bridge: Bridge, info: CallInfo) -> str:
    """The TwiML with which the call goes on."""
    live = next((session for session in bridge.sessions.values() if _is_awaited(session.call.info, info)), None)
    if live is not None and live.call.is_waited_for:  # an errand's own document has run to its end
        return connect_again(bridge, await come_back(bridge.tokens, card_of(live)))
    end = await bridge.shared.end_of(info.call_sid, END_WAIT_S)
    if end is not None and end.extra.get(DIVERT_TO):
        return twilio_twiml.dial(end.extra[DIVERT_TO])
    if end is not None and (end.reason.result is Result.SUCCESS or APOLOGISED in end.extra):
        return twilio_twiml.hang_up()
    if end is None or end.reason in BROKEN_LINE:
        again = await _once_more(bridge, info, end)
        if again:
            return again
    return twilio_twiml.phrase_and_hang_up(Phrase.APOLOGY, end.extra.get(LANGUAGE, "") if end is not None else "")


def _is_awaited(known: CallInfo | None, info: CallInfo) -> bool:
    return known is not None and known.provider == info.provider and known.call_sid == info.call_sid


async def _once_more(bridge: Bridge, info: CallInfo, end: CallEnd | None) -> str:
    """The document that connects the stream again; empty where that was done before, or there is no room."""
    if not info.call_sid or not await bridge.shared.first_time(f"stream-again:{info.call_sid}", AGAIN_TTL_S):
        return ""
    previous = end.extra.get(CONVERSATION_ID, "") if end is not None else ""
    resumed = {RESUMED: "true", PREVIOUS_ID: previous} if previous else {RESUMED: "true"}
    decided = await answer(bridge, msgspec.structs.replace(info, parameters={**info.parameters, **resumed}))
    bridge.log.warning("stream_again", call_sid=info.call_sid, after="unknown" if end is None else str(end.reason))
    if not isinstance(decided, Connect):
        return ""
    await keep_reserved(bridge, info.call_sid, decided.token)
    return connect_again(bridge, Comeback(decided.token, info.caller, info.called))


async def keep_reserved(bridge: Bridge, call_sid: str, token: str) -> None:
    """Remember the token of a call that was answered and whose media has not come: its end frees the slot."""
    await bridge.shared.put(RESERVED.format(call_sid=call_sid), token.encode(), bridge.settings.call_token_ttl_s)


def connect_again(bridge: Bridge, comeback: Comeback) -> str:
    """The document that connects the call's media stream again."""
    settings = bridge.settings
    return twilio_twiml.connect_stream(
        settings.instance_ws_url + twilio.SPEC.media_paths[0],
        {
            twilio.PARAM_TOKEN: comeback.token,
            twilio.PARAM_CALLER: comeback.caller,
            twilio.PARAM_CALLED: comeback.called,
        },
        settings.instance_base_url + "/twilio/fallback",
        status_url=settings.instance_base_url + "/twilio/status",
    )
