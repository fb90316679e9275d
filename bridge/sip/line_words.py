"""What the leg of a SIP call and its line say to each other, as JSON texts; audio goes beside them as bytes.

The line (``bridge.server.sip.line``) has the dialog and the media stream of one call, the leg (``bridge.sip.leg``) is
what the call sees of them. Texts and not objects, because the driver and the flight recorder know carriers by their
messages: so a recorded SIP call is replayed like every other.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bridge.errors import RemoteError
from bridge.media.format import Encoding


class Invite(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="invite"):
    """There is a call."""

    call_sid: str
    trunk: str
    caller: str = ""
    called: str = ""
    direction: Literal["inbound", "outbound"] = "inbound"
    token: str = ""
    encoding: Encoding = Encoding.ULAW
    """Of the audio between leg and line, all along; whatever is on the wire."""
    answers_at_once: bool = False
    """Whether the call is answered, or to be answered, without waiting for the agent."""
    parameters: dict[str, str] = {}
    """Headers that become variables."""


class Key(msgspec.Struct, frozen=True, tag_field="event", tag="dtmf"):
    """The caller pressed a key."""

    digit: str
    duration_ms: int


class Played(msgspec.Struct, frozen=True, tag_field="event", tag="played"):
    """Everything before this mark has been sent, or flushed."""

    mark: str


class Held(msgspec.Struct, frozen=True, tag_field="event", tag="held"):
    """The peer does not listen for now."""


class Unheld(msgspec.Struct, frozen=True, tag_field="event", tag="unheld"):
    """The peer listens again."""


class Over(msgspec.Struct, frozen=True, tag_field="event", tag="over"):
    """The dialog has ended."""

    how: str
    """``bye``, ``cancel``, or what failed; see ``bridge.sip.leg``."""
    detail: str = ""
    """For the log: no numbers."""


Notice = Invite | Key | Played | Held | Unheld | Over
"""From the line."""


class Ring(msgspec.Struct, frozen=True, tag_field="order", tag="ring"):
    """Let the caller hear that it rings."""


class PickUp(msgspec.Struct, frozen=True, tag_field="order", tag="pick_up"):
    """Answer the call."""


class MarkHere(msgspec.Struct, frozen=True, tag_field="order", tag="mark"):
    """Say ``Played`` when everything before this was sent."""

    mark: str


class Clear(msgspec.Struct, frozen=True, tag_field="order", tag="clear"):
    """Drop what was not sent yet."""


class Press(msgspec.Struct, frozen=True, tag_field="order", tag="press"):
    """Send keypad tones behind what was said before."""

    digits: str


class End(msgspec.Struct, frozen=True, tag_field="order", tag="end"):
    """End the call: with this status while it rings, with BYE when it was answered."""

    status: int
    retry_after_s: int = 0
    """0 = no such header."""
    cause: str = ""
    """For the Reason header: how the call has ended, in our words."""


Order = Ring | PickUp | MarkHere | Clear | Press | End
"""From the leg."""

_notices = msgspec.json.Decoder(Notice)
_orders = msgspec.json.Decoder(Order)
_encoder = msgspec.json.Encoder()


def encode(words: Notice | Order) -> str:
    """As it is said."""
    return _encoder.encode(words).decode()


def read_notice(text: str) -> Notice:
    """Raises ``RemoteError`` for what is none."""
    try:
        notice: Notice = _notices.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RemoteError(f"no notice of a SIP line: {str(error)[:80]}") from None
    return notice


def read_order(text: str) -> Order:
    """Raises ``msgspec.DecodeError`` for what is none: the leg writes them."""
    order: Order = _orders.decode(text)
    return order
