"""What a simulated Twilio cloud is like: its account, its people, and the faults it is told to have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from bridge.simulators.twilio_person import PersonScript


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudOptions:
    """One account and its surroundings."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 = any free one."""
    account_sid: str = "AC" + 32 * "0"
    auth_token: str = field(default="simulated-auth-token", repr=False)
    """Opens the REST interface and signs webhooks."""
    api_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """API keys (``SK...``) and their secrets, which open the REST interface too."""
    shared_key: tuple[str, str] | None = field(default=None, repr=False)
    """Id and secret of a SharedKey: webhooks are signed with it (HMAC-SHA256) instead of the auth token."""
    numbers: tuple[str, ...] = ("+15550199",)
    """Numbers that the account owns."""
    people: Mapping[str, PersonScript] = field(default_factory=dict)
    """Who answers, by phone number, SIP URI or client name."""
    default_person: PersonScript = field(default_factory=PersonScript)
    """Who answers any other number."""
    public_url: str = ""
    """The bridge's PUBLIC_URL where it cannot be reached by that name here."""
    reach_url: str = ""
    """Where URLs below ``public_url`` are really reached."""
    ring_extra_s: float = 5.0
    """Twilio adds this to every time-out of ringing."""
    say_ms_per_char: float = 60.0
    """How fast <Say> speaks; what is heard is a tone of that length."""
    redirect_gap_ms: float = 50.0
    """Between the request for the action of an aborted <Dial> and that for the document that replaces it."""
    requests_per_s: float | None = None
    """REST requests a second before 429; None = any number."""
    calls_per_s: float | None = None
    """Calls placed a second before 429; None = any number."""
    duplicate_answer_webhook: bool = False
    """The first answer to every document request is lost on the way, and Twilio asks again."""
    callback_reorder_ms: float = 0.0
    """By how much every other status callback is late: more than the time between two makes them change places."""
    duplicate_callbacks: bool = False
    """Every status callback comes twice."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """What the REST interface does instead of, or beside, answering. Applies to the first ``times`` matches."""

    method: str = "*"
    path: str = "*"
    """Pattern (``fnmatch``) for the path below the account, e.g. ``/Calls/*.json``."""
    delay_s: float = 0.0
    status: int = 0
    """Answer with this status instead; 0 = as it would be."""
    code: int = 20500
    """Twilio's code in the answer of ``status``."""
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False
    """Close the connection without an answer."""
    carried_out: bool = False
    """The request is carried out all the same, only its answer is lost or wrong."""
    times: int = 1

    def matches(self, method: str, path: str) -> bool:
        """Whether this is (still) for a request."""
        return self.times > 0 and fnmatchcase(method, self.method) and fnmatchcase(path, self.path)
