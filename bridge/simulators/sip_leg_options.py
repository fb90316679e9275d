"""How one end of a simulated SIP call behaves, and what identifies its dialog: data for ``sip_leg``."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from bridge.simulators.genesys_person import AnyAction, ChangeLanguage, ReportError
from bridge.simulators.sip_rtp import MediaWays
from bridge.simulators.sip_terms import Wanted
from bridge.sip.flow import Flow
from bridge.sip.uri import SipUri

ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO, PRACK, REFER, NOTIFY"
AGENT = "Simulated-Trunk/1"


class Keys(enum.Enum):
    """How keys are sent."""

    EVENTS = "rfc4733"
    INFO = "info"
    TONES = "inband"


class HoldBy(enum.Enum):
    """How the other side is put on hold."""

    SENDONLY = "sendonly"
    INACTIVE = "inactive"
    NO_ADDRESS = "0.0.0.0"  # noqa: S104  # as RFC 2543 did


@dataclass(frozen=True, slots=True)
class Referral:
    """What becomes of a REFER."""

    status: int = 202
    progress: tuple[int, ...] = (100, 180, 200)
    """Statuses that NOTIFYs tell; empty = there are none."""
    interval_s: float = 0.05
    hangs_up: bool = True
    """Whether this side sends BYE when it worked, or after 202 where there are no NOTIFYs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegOptions:
    """How one end behaves in a call."""

    actions: tuple[AnyAction, ...] = ()
    wanted: Wanted = Wanted()
    ways: MediaWays = MediaWays("127.0.0.1")
    keys: Keys = Keys.EVENTS
    hold: HoldBy = HoldBy.SENDONLY
    referral: Referral = Referral()

    def __post_init__(self) -> None:
        for action in self.actions:
            if isinstance(action, ChangeLanguage | ReportError):
                raise ValueError("a telephone can neither change the language nor report errors")


@dataclass(slots=True)
class Dialog:
    """What identifies a dialog and says where its requests go."""

    call_id: str
    local: str
    """From of our requests, tag included."""
    remote: str
    """To of our requests, tag included."""
    target: str
    contact: str
    """Ours."""
    routes: tuple[str, ...] = ()
    flow: Flow | None = None
    sequence: int = 1
    remote_sequence: int | None = None


def flow_for(uri: object, known: Flow) -> Flow:
    """Where a request to this URI goes: literal addresses over UDP as they say, all else back along ``known``."""
    if known.transport.is_reliable or not isinstance(uri, SipUri) or not uri.bare_host.replace(".", "").isdigit():
        return known
    return Flow(known.transport, uri.bare_host, uri.port or known.transport.default_port)
