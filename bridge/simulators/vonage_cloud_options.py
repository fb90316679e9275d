"""What a simulated Vonage is like: its application, its people, and the faults it is told to have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from bridge.simulators.twilio_person import PersonScript
from bridge.simulators.vonage_signer import Forgery


@dataclass(frozen=True, slots=True, kw_only=True)
class VonageOptions:
    """One application and its surroundings."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 = any free one."""
    application_id: str = "78d335fa-323d-0114-9c3d-d6f0d48968cf"
    public_key_pem: str = ""
    """Of the application's key pair; opens the REST interface. Empty = nobody needs a token."""
    signature_secret: str = field(default="simulated-signature-secret-of-vonage", repr=False)
    """Signs webhooks and upgrades; empty = nothing is signed."""
    api_key: str = "simulated"
    forgery: Forgery = Forgery.NONE
    """What is wrong with all signatures."""
    event_url: str = ""
    """Of the application: where events go that nobody asked for elsewhere; empty = nowhere."""
    event_method: str = "POST"
    people: Mapping[str, PersonScript] = field(default_factory=dict)
    """Who answers, by number (without plus) or SIP URI."""
    default_person: PersonScript = field(default_factory=PersonScript)
    rejecting: frozenset[str] = frozenset()
    """Numbers and URIs whose phones reject calls."""
    public_url: str = ""
    """The bridge's PUBLIC_URL where it cannot be reached by that name here."""
    reach_url: str = ""
    """Where URLs below ``public_url`` are really reached."""
    webhook_timeout_s: float = 5.0
    """How long a webhook may take to answer."""
    talk_ms_per_char: float = 60.0
    """How fast a voice speaks; what is heard is a tone of that length."""
    echo_cleared: bool = False
    """Whether media sockets send notifies back that ``clear`` removed."""
    nested_dtmf: bool = False
    region_url: str | None = None
    """What answer webhooks name; None = the REST interface of this cloud, empty = none."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """What the REST interface does instead of, or beside, answering. Applies to the first ``times`` matches."""

    method: str = "*"
    path: str = "*"
    """Pattern (``fnmatch``) for the path, e.g. ``/v1/calls/*/dtmf``."""
    delay_s: float = 0.0
    status: int = 0
    """Answer with this status instead; 0 = as it would be."""
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False
    """Close the connection without an answer."""
    carried_out: bool = False
    """The request is carried out all the same, only its answer is lost or wrong."""
    times: int = 1

    def matches(self, method: str, path: str) -> bool:
        """Whether this is (still) for a request."""
        return self.times > 0 and fnmatchcase(method, self.method) and fnmatchcase(path, self.path)
