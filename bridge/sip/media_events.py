"""What a call's media has to tell its owner. Plain data.

Public: ``MediaEvent`` and its cases.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sip.telephone_event import Digit


@dataclass(frozen=True, slots=True)
class FirstMedia:
    """The first good packet of the call has come."""


@dataclass(frozen=True, slots=True)
class KeyHeard:
    """The caller pressed a key, and it is over."""

    digit: Digit
    is_inband: bool = False
    """Found as a tone in the audio; otherwise the peer sent a telephone-event."""


@dataclass(frozen=True, slots=True)
class MarkReached:
    """All audio that was queued before this mark has been sent, or was thrown away (``CallMedia.flush``)."""

    name: str


@dataclass(frozen=True, slots=True)
class SendInfo:
    """Send this key in a SIP INFO now (``dtmf_info.build_relay``)."""

    digit: Digit


@dataclass(frozen=True, slots=True)
class DigitsSent:
    """One ``CallMedia.send_digits`` is done, the pause after its last key included."""

    is_complete: bool = True
    """False: a new description of the peer's took telephone-events away in the middle of it."""


@dataclass(frozen=True, slots=True)
class MediaLost:
    """No packet has come for as long as the options allow. Once; again only after packets have come again."""

    silent_s: float
    has_begun: bool
    """Whether there ever was one."""


@dataclass(frozen=True, slots=True)
class MediaBroken:
    """A mistake of ours: the media is closed, and the call should end."""


MediaEvent = FirstMedia | KeyHeard | MarkReached | SendInfo | DigitsSent | MediaLost | MediaBroken
