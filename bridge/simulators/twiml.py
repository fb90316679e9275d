"""TwiML as Twilio would read it: strict about the verbs that answer an incoming call.

Not a TwiML interpreter: it turns a document into verbs; ``twilio_caller`` follows them. Sources: Twilio docs "TwiML:
<Stream>", "<Connect>", "<Redirect>", errors 12100 "Document parse failure", 12200 "Schema validation warning", 31922
"Stream - WebSocket - Protocol not supported" (wss only), read 2026-11-21.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

PARSE_FAILURE, SCHEMA, WRONG_SCHEME, HANDSHAKE = 12100, 12200, 31922, 31920

MAX_DOCUMENT_BYTES = 64 * 1024
"""Twilio's limit for a TwiML document is 64 kB (error 11750)."""

MAX_PARAMETER_CHARS = 500
"""Name and value of one <Parameter> together."""

_VERB_ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "Connect": frozenset({"action", "method"}),
    "Dial": frozenset(
        {"action", "method", "timeout", "callerId", "answerOnBridge", "hangupOnStar", "timeLimit", "record", "referUrl"}
    ),
    "Hangup": frozenset(),
    "Pause": frozenset({"length"}),
    "Play": frozenset({"loop", "digits"}),
    "Redirect": frozenset({"method"}),
    "Refer": frozenset({"action", "method"}),
    "Reject": frozenset({"reason"}),
    "Say": frozenset({"voice", "language", "loop"}),
}
_STREAM_ATTRIBUTES = frozenset({"url", "name", "track", "connectorName", "statusCallback", "statusCallbackMethod"})
_PARAMETER_ATTRIBUTES = frozenset({"name", "value"})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class TwimlError(Exception):
    """A document that Twilio would not carry out."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class StreamNoun:
    """The <Stream> of a <Connect>."""

    url: str
    """Absolute, ``wss`` (or ``ws`` to this machine)."""
    name: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb."""

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    """Text of the element: words of <Say>, URL of <Redirect> and <Play>, number of <Dial>."""
    stream: StreamNoun | None = None
    """Of <Connect>."""

    def __str__(self) -> str:
        detail = self.text or self.attributes.get("reason", "")
        return f"{self.name} {detail}".strip()


def parse_twiml(document: str, document_url: str) -> tuple[Verb, ...]:
    """Read a document; relative URLs are completed from ``document_url``. Raises ``TwimlError``."""
    if len(document.encode()) > MAX_DOCUMENT_BYTES:
        raise TwimlError(PARSE_FAILURE, f"document is larger than {MAX_DOCUMENT_BYTES} bytes")
    if "<!DOCTYPE" in document or "<!ENTITY" in document:
        raise TwimlError(PARSE_FAILURE, "document has a document type declaration")
    try:
        root = ET.fromstring(document)  # noqa: S314 - no DTD, no entities: checked above
    except ET.ParseError as error:
        raise TwimlError(PARSE_FAILURE, f"not XML: {error}") from error
    if root.tag != "Response":
        raise TwimlError(PARSE_FAILURE, f"root is <{root.tag}>, not <Response>")
    _only(root, frozenset())
    return tuple(_verb(element, document_url) for element in root)


def _verb(element: ET.Element, document_url: str) -> Verb:
    if element.tag not in _VERB_ATTRIBUTES:
        raise TwimlError(SCHEMA, f"<{element.tag}> is no verb known here")
    _only(element, _VERB_ATTRIBUTES[element.tag])
    text = "".join(element.itertext()).strip()
    stream = None
    if element.tag == "Connect":
        if len(element) != 1 or element[0].tag != "Stream":
            raise TwimlError(SCHEMA, "<Connect> needs exactly one <Stream>")
        stream, text = _stream(element[0], document_url), ""
    elif element.tag not in ("Dial", "Refer") and len(element):
        raise TwimlError(SCHEMA, f"<{element.tag}> holds <{element[0].tag}>")
    if element.tag == "Redirect":
        if not text:
            raise TwimlError(SCHEMA, "<Redirect> holds no URL")
        text = urljoin(document_url, text)
    attributes = dict(element.attrib)
    if "action" in attributes:
        attributes["action"] = urljoin(document_url, attributes["action"])
    return Verb(element.tag, attributes, text, stream)


def _stream(element: ET.Element, document_url: str) -> StreamNoun:
    _only(element, _STREAM_ATTRIBUTES)
    if element.get("track", "inbound_track") != "inbound_track":
        raise TwimlError(SCHEMA, f"track {element.get('track')!r} does not go with <Connect>; only inbound_track does")
    url = _stream_url(element.get("url", ""), document_url)
    parameters: dict[str, str] = {}
    for child in element:
        if child.tag != "Parameter":
            raise TwimlError(SCHEMA, f"<Stream> holds <{child.tag}>")
        _only(child, _PARAMETER_ATTRIBUTES)
        name, value = child.get("name", ""), child.get("value")
        if not name or value is None:
            raise TwimlError(SCHEMA, "<Parameter> needs name and value")
        if len(name) + len(value) >= MAX_PARAMETER_CHARS:
            raise TwimlError(
                SCHEMA, f"<Parameter> {name[:40]} and its value have {MAX_PARAMETER_CHARS} characters or more"
            )
        parameters[name] = value
    return StreamNoun(url, element.get("name", ""), parameters)


def _stream_url(url: str, document_url: str) -> str:
    if not url:
        raise TwimlError(SCHEMA, "<Stream> has no url")
    parts = urlsplit(url)
    if not parts.scheme:  # relative: the host of the document, on a WebSocket scheme
        base = urlsplit(document_url)
        scheme = "ws" if base.scheme == "http" else "wss"
        parts = urlsplit(urljoin(base._replace(scheme="http").geturl(), url))._replace(scheme=scheme)
    if parts.scheme != "wss" and not (parts.scheme == "ws" and parts.hostname in _LOOPBACK):
        raise TwimlError(WRONG_SCHEME, f"<Stream> url has the scheme {parts.scheme!r}; only wss is supported")
    if parts.query:
        raise TwimlError(HANDSHAKE, "<Stream> url has a query; query parameters are not supported")
    return parts.geturl()


def _only(element: ET.Element, allowed: frozenset[str]) -> None:
    unknown = sorted(element.attrib.keys() - allowed)
    if unknown:
        raise TwimlError(SCHEMA, f"<{element.tag}> has the unknown attribute {unknown[0]}")
