"""What an INVITE says about a call: who calls, whom, under which ids, and which variables it brings. Pure.

Everything here is the peer's word: texts are one line, bounded, and without what no log or document can hold.

Sources: ElevenLabs docs, "SIP trunking: client data and personalization" (``X-CALL-ID``, ``X-CALLER-ID``, else
``sip.twilio.callSid``) and "inbound custom headers as dynamic variables" (``X-Contact-ID`` becomes
``sip_contact_id``), read 2026-11-21; on the wire the Twilio id is the header ``X-Twilio-CallSid``. RFC 3325
(P-Asserted-Identity), RFC 3323 (Privacy), RFC 3966 (``phone-context``), RFC 3261 section 19.1.6 (telephone numbers in
SIP URIs).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from bridge.sip.envelope import Envelope
from bridge.sip.errors import HeaderError
from bridge.sip.grammar import readable, split_list, tokens
from bridge.sip.headers import Headers, canonical_name
from bridge.sip.message import Request
from bridge.sip.trunks import ANY_OWN_HEADER, Trunk
from bridge.sip.uri import SipUri, TelUri, Uri
from bridge.sip.values import parse_address

MAX_ADDRESS_CHARS = 256
"""Of caller and called; SIP addresses have some forty."""
MAX_ID_CHARS = 255
"""Of Call-ID and its kin; they have some sixty."""
MAX_VARIABLES = 30
"""Headers that become variables; beyond it they are dropped, as the vendor bounds variables too."""
MAX_NAME_CHARS = 64
MAX_VALUE_CHARS = 500
MAX_IDENTITIES = 4
"""Of P-Asserted-Identity that are read; RFC 3325 allows two."""

_CALL_IDS = ("X-CALL-ID", "X-Twilio-CallSid", "sip.twilio.callSid")
"""In the vendor's order. The last is a name from its docs that no trunk sends as such, and taken all the same."""
_CALLER_ID = "X-CALLER-ID"
_ACCOUNT_ID = "X-Twilio-AccountSid"

_SEPARATORS = re.compile(r"[ ().\-]")
_NUMBER = re.compile(r"\+?[0-9*#]+")
_DIGIT = re.compile(r"[0-9]")
_CONTEXT = re.compile(r"\+[0-9]{1,15}")
_WITHHELD = frozenset({"id", "user", "full"})
"""Words of Privacy that keep the asserted identity from whoever answers: ``id`` is RFC 3325's, ``full`` a draft's."""
_SECRETS = re.compile(r"(?i)auth|cookie|token|secret|passw|pwd|credential|api-?key|signature|session-?key|private")
"""Headers with such names are for machines, not for a language model; one that is asked for by name is not meant."""
_NEVER = frozenset({"authorization", "proxy-authorization"})
_VARIABLE_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class SipCallFacts:
    """One call, as its INVITE tells of it. Empty where it says nothing."""

    caller: str
    """A number as it was written, less separators; else ``anonymous`` or a SIP address."""
    called: str
    """Likewise."""
    call_id: str
    """Call-ID of the dialog."""
    call_sid: str
    """The id that the call has for the carrier, or for whoever sent it here; the Call-ID where nobody gave one."""
    account_id: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    """For the agent, by name."""


def call_facts(request: Request, envelope: Envelope, trunk: Trunk) -> SipCallFacts:
    """Read an INVITE that was admitted for this trunk."""
    headers = request.headers
    call_id = _one_line(envelope.call_id, MAX_ID_CHARS)
    return SipCallFacts(
        caller=_given_caller(headers) or _shown(_caller(headers, envelope, trunk)),
        called=_shown(called_uri(envelope)),
        call_id=call_id,
        call_sid=next(filter(None, (_text(headers, name, MAX_ID_CHARS) for name in _CALL_IDS)), call_id),
        account_id=_text(headers, _ACCOUNT_ID, MAX_ID_CHARS),
        variables=header_variables(headers, trunk.variable_headers),
    )


def called_uri(envelope: Envelope) -> Uri:
    """Whom the call is for: the Request-URI, or To where that names no user."""
    uri = envelope.uri
    if uri is None or (isinstance(uri, SipUri) and not uri.user):
        return envelope.to.uri
    return uri


def caller_uris(headers: Headers, envelope: Envelope, trunk: Trunk) -> tuple[Uri, ...]:
    """Who calls, the most believable first: the asserted identity where the trunk's is believed, and From."""
    return (*(_asserted(headers) if trunk.trusts_identity else ()), envelope.from_.uri)


def number_of(uri: Uri) -> str:
    """The telephone number in a URI, less separators and parameters; empty = it has none.

    A local ``tel:`` number comes with the prefix that its ``phone-context`` names.
    """
    if isinstance(uri, TelUri):
        number = _SEPARATORS.sub("", uri.number)
        context = uri.param("phone-context") or ""
        return context + number if not number.startswith("+") and _CONTEXT.fullmatch(context) else number
    if not isinstance(uri, SipUri):
        return ""
    return _bare_number(uri.user.partition(";")[0])  # behind it stand ;npdi, ;phone-context and the like


def header_variables(headers: Headers, wanted: tuple[str, ...]) -> dict[str, str]:
    """The variables that these headers make; the first of a name counts, empty ones are left out."""
    by_name = {canonical_name(name).lower() for name in wanted}
    any_own = ANY_OWN_HEADER.lower() in by_name
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        asked = key in by_name and key not in _NEVER
        if not (asked or (any_own and key.startswith("x-") and not _SECRETS.search(key))):
            continue
        variable = _variable_name(key)
        if variable and (text := _one_line(value, MAX_VALUE_CHARS)) and len(found) < MAX_VARIABLES:
            found.setdefault(variable, text)
    return found


# --- inside ----------------------------------------------------------------------------------------------


def _caller(headers: Headers, envelope: Envelope, trunk: Trunk) -> Uri:
    if _privacy(headers) & _WITHHELD:
        return envelope.from_.uri
    candidates = caller_uris(headers, envelope, trunk)
    return next((uri for uri in candidates if number_of(uri)), candidates[0])


def _asserted(headers: Headers) -> Iterator[Uri]:
    for value in headers.all("P-Asserted-Identity")[:MAX_IDENTITIES]:
        try:
            yield from [parse_address(item).uri for item in split_list(value)[:MAX_IDENTITIES]]
        except HeaderError:
            continue


def _privacy(headers: Headers) -> set[str]:
    try:
        words = tokens(value.replace(";", ",") for value in headers.all("Privacy"))
    except HeaderError:
        return set()
    return {word.lower() for word in words}


def _given_caller(headers: Headers) -> str:
    """The caller that the sender names in a header of its own; may be a number, an address, anything."""
    text = _text(headers, _CALLER_ID, MAX_ADDRESS_CHARS)
    if ":" in text:
        try:
            return _shown(parse_address(text).uri)
        except HeaderError:
            return text
    decoded = _one_line(unquote(text), MAX_ADDRESS_CHARS) if "%" in text else text
    return _bare_number(decoded) or decoded


def _bare_number(text: str) -> str:
    """The text without separators, if that leaves a number; else empty."""
    bare = _SEPARATORS.sub("", text)
    return bare if _NUMBER.fullmatch(bare) and _DIGIT.search(bare) else ""


def _shown(uri: Uri) -> str:
    """A number, ``anonymous``, or the address without password, port and parameters."""
    if number := number_of(uri):
        return number[:MAX_ADDRESS_CHARS]
    if not isinstance(uri, SipUri):
        return ""
    user = _one_line(uri.user, MAX_ADDRESS_CHARS)
    if user.lower() == "anonymous" or uri.host == "anonymous.invalid":
        return "anonymous"
    return f"sip:{user}@{uri.host}"[:MAX_ADDRESS_CHARS] if user else ""


def _text(headers: Headers, name: str, most_chars: int) -> str:
    return _one_line(headers.get(name) or "", most_chars)


def _one_line(text: str, most_chars: int) -> str:
    return " ".join(readable(text[: 4 * most_chars].replace("\t", " ")).split())[:most_chars].rstrip()


def _variable_name(key: str) -> str:
    """``x-contact-id`` is ``sip_contact_id``; empty = no name that a variable can have."""
    if len(key) > MAX_NAME_CHARS or not _VARIABLE_NAME.fullmatch(key):
        return ""
    own = key.removeprefix("x-")
    return "sip_" + own.replace("-", "_") if own else ""
