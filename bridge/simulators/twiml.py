"""TwiML as Twilio would read it: strict about the verbs that a voice bridge can answer with.

Not a TwiML interpreter: it turns a document into verbs; ``twilio_caller`` and ``twilio_execution`` follow them.
Sources: Twilio docs "TwiML: <Stream>", "<Connect>", "<Redirect>", "<Dial>", "<Gather>", "<Refer>", errors 12100
"Document parse failure", 12200 "Schema validation warning", 31922 "Stream - WebSocket - Protocol not supported" (wss
only), read 2026-11-21. Attributes are in ``twiml_rules``.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from bridge.simulators.twiml_rules import (
    DIAL_NOUNS,
    GATHER_VERBS,
    SCHEMA,
    VERBS,
    is_phone_number,
    is_sip_uri,
    wrong_attributes,
)

INVALID_URL, PARSE_FAILURE, WRONG_SCHEME, HANDSHAKE = 11100, 12100, 31922, 31920
DIAL_NESTED, DIAL_NUMBER, DIAL_SIP, DIAL_CONFERENCE, GATHER_NESTED, SAY_TEXT = 13215, 13223, 13243, 13237, 13320, 13520

MAX_DOCUMENT_BYTES = 64 * 1024
"""Twilio's limit for a TwiML document is 64 kB (error 11750)."""

MAX_PARAMETER_CHARS = 500
"""Name and value of one <Parameter> together."""

MAX_DIAL_NOUNS = 10
"""Numbers, SIP URIs and clients that one <Dial> may ring."""

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_URL_ATTRIBUTES = ("action", "url", "statusCallback", "waitUrl", "amdStatusCallback")
_SOCKET_URL = ("Connect/Stream", "url")
"""Completed in a way of its own."""
_URL_TEXTS = ("Redirect", "Play")


class TwimlError(Exception):
    """A document that Twilio would not carry out."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a document that Twilio would log."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class StreamNoun:
    """The <Stream> of a <Connect>."""

    url: str
    """Absolute, ``wss`` (or ``ws`` to this machine)."""
    name: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    status_callback: str = ""
    status_callback_method: str = "POST"


@dataclass(frozen=True, slots=True)
class Noun:
    """Whom a <Dial> or <Refer> is for; URLs in the attributes are absolute."""

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb."""

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    """Text of the element: words of <Say>, URL of <Redirect> and <Play>, number of <Dial>."""
    stream: StreamNoun | None = None
    """Of <Connect>."""
    nouns: tuple[Noun, ...] = ()
    """Of <Dial> and <Refer>; a number that stands in <Dial> itself is a ``Number``."""
    inner: tuple[Verb, ...] = ()
    """Of <Gather>."""

    def __str__(self) -> str:
        detail = self.text or self.attributes.get("reason", "")
        return f"{self.name} {detail}".strip()


def parse_twiml(document: str, document_url: str) -> tuple[Verb, ...]:
    """Read a document; relative URLs are completed from ``document_url``. Raises ``TwimlError`` at a problem."""
    verbs, problems = read_twiml(document, document_url)
    for problem in problems:
        raise TwimlError(problem.code, problem.text)
    return verbs


def read_twiml(document: str, document_url: str) -> tuple[tuple[Verb, ...], tuple[Problem, ...]]:
    """Read a document as Twilio does: what it only warns of is told, and left out where it makes no sense.

    Raises ``TwimlError`` for what is no TwiML document at all.
    """
    if len(document.encode(errors="replace")) > MAX_DOCUMENT_BYTES:
        raise TwimlError(PARSE_FAILURE, f"document is larger than {MAX_DOCUMENT_BYTES} bytes")
    if "<!DOCTYPE" in document or "<!ENTITY" in document:
        raise TwimlError(PARSE_FAILURE, "document has a document type declaration")
    try:
        root = ET.fromstring(document)  # noqa: S314 - no DTD, no entities: checked above
    except (ET.ParseError, UnicodeError) as error:
        raise TwimlError(PARSE_FAILURE, f"not XML: {error}") from error
    if root.tag != "Response":
        raise TwimlError(PARSE_FAILURE, f"root is <{root.tag}>, not <Response>")
    reader = _Reader(document_url)
    reader.attributes("Response", root)
    verbs = tuple(verb for element in root if (verb := reader.verb(element)) is not None)
    return verbs, tuple(reader.problems)


class _Reader:
    """Reads the elements of one document and keeps what is wrong with them."""

    def __init__(self, document_url: str) -> None:
        self.problems: list[Problem] = []
        self._url = document_url

    def tell(self, code: int, text: str) -> None:
        self.problems.append(Problem(code, text))

    def attributes(self, path: str, element: ET.Element) -> dict[str, str]:
        """The attributes with absolute URLs, without those that are wrong: Twilio takes the default for these."""
        wrong = set()
        for attribute, code, text in wrong_attributes(path, element.attrib):
            wrong.add(attribute)
            self.tell(code, text)
        return {
            name: self._absolute(value) if name in _URL_ATTRIBUTES and (path, name) != _SOCKET_URL else value
            for name, value in element.attrib.items()
            if name not in wrong
        }

    def _absolute(self, url: str) -> str:
        """A URL completed from the document's; as it stands (and a problem) where it is none."""
        try:
            return urljoin(self._url, url) if url else url
        except ValueError:
            self.tell(INVALID_URL, f"{url[:60]!r} is no URL")
            return url

    def verb(self, element: ET.Element) -> Verb | None:
        """One verb; None where it is left out."""
        if element.tag not in VERBS:
            self.tell(SCHEMA, f"<{element.tag}> is no verb known here")
            return None
        attributes = self.attributes(element.tag, element)
        text = "".join(element.itertext()).strip()
        if element.tag == "Connect":
            return Verb("Connect", attributes, "", self._only_stream(element))
        if element.tag in ("Dial", "Refer"):
            return Verb(element.tag, attributes, text, nouns=self._nouns(element))
        if element.tag == "Gather":
            return Verb("Gather", attributes, "", inner=self._inner(element))
        if len(element):
            self.tell(SCHEMA, f"<{element.tag}> holds <{element[0].tag}>")
            text = (element.text or "").strip()
        if element.tag == "Play" and not text and "digits" not in attributes:
            if "digits" not in element.attrib:  # wrong ones have been told
                self.tell(SCHEMA, "<Play> has neither a URL nor digits")
            return None
        return self._plain(element.tag, attributes, text)

    def _plain(self, name: str, attributes: Mapping[str, str], text: str) -> Verb | None:
        if name == "Redirect" and not text:
            self.tell(SCHEMA, "<Redirect> holds no URL")
            return None
        if name == "Say" and not text:
            self.tell(SAY_TEXT, "<Say> has no words")
        if name in _URL_TEXTS and text:
            text = self._absolute(text)
        return Verb(name, attributes, text)

    def _inner(self, gather: ET.Element) -> tuple[Verb, ...]:
        verbs: list[Verb] = []
        for element in gather:
            if element.tag not in GATHER_VERBS:
                self.tell(GATHER_NESTED, f"<Gather> holds <{element.tag}>")
            elif (verb := self.verb(element)) is not None:
                verbs.append(verb)
        return tuple(verbs)

    def _nouns(self, parent: ET.Element) -> tuple[Noun, ...]:
        allowed = DIAL_NOUNS if parent.tag == "Dial" else frozenset({"Sip"})
        nouns: list[Noun] = []
        for element in parent:
            if element.tag not in allowed:
                self.tell(DIAL_NESTED if parent.tag == "Dial" else SCHEMA, f"<{parent.tag}> holds <{element.tag}>")
                continue
            attributes = self.attributes(f"{parent.tag}/{element.tag}", element)
            nouns.append(Noun(element.tag, attributes, (element.text or "").strip()))
        bare = (parent.text or "").strip()
        if bare and not nouns and parent.tag == "Dial":
            nouns.append(Noun("Number", {}, bare))
        if not nouns or len(nouns) > MAX_DIAL_NOUNS:
            self.tell(DIAL_NESTED if parent.tag == "Dial" else SCHEMA, f"<{parent.tag}> has {len(nouns)} targets")
        if len(nouns) > 1 and any(noun.name == "Conference" for noun in nouns):
            self.tell(DIAL_NESTED, "<Dial> has a <Conference> beside other targets")
        return tuple(noun for noun in nouns if self._reachable(noun))

    def _reachable(self, noun: Noun) -> bool:
        if noun.name == "Number" and not is_phone_number(noun.text):
            self.tell(DIAL_NUMBER, "<Dial> has a phone number of invalid format")
            return False
        if noun.name == "Sip" and not is_sip_uri(noun.text):
            self.tell(DIAL_SIP, "<Sip> has an invalid SIP URI")
            return False
        if noun.name == "Conference" and not 0 < len(noun.text) <= 128:
            self.tell(DIAL_CONFERENCE, "<Conference> has no name, or one of more than 128 characters")
            return False
        return True

    # --- streams ---------------------------------------------------------------------------------------------

    def _only_stream(self, connect: ET.Element) -> StreamNoun | None:
        if len(connect) != 1 or connect[0].tag != "Stream":
            self.tell(SCHEMA, "<Connect> needs exactly one <Stream>")
            return None
        element = connect[0]
        attributes = self.attributes("Connect/Stream", element)
        track = element.get("track", "inbound_track")
        if track != "inbound_track":
            self.tell(SCHEMA, f"track {track!r} does not go with <Connect>; only inbound_track does")
        url = self._stream_url(element.get("url", ""))
        parameters = self._parameters(element)
        callback, method = attributes.get("statusCallback", ""), attributes.get("statusCallbackMethod", "POST")
        return StreamNoun(url, element.get("name", ""), parameters, callback, method) if url else None

    def _parameters(self, stream: ET.Element) -> dict[str, str]:
        parameters: dict[str, str] = {}
        for child in stream:
            if child.tag != "Parameter":
                self.tell(SCHEMA, f"<Stream> holds <{child.tag}>")
                continue
            self.attributes("Stream/Parameter", child)
            name, value = child.get("name", ""), child.get("value")
            if not name or value is None:
                self.tell(SCHEMA, "<Parameter> needs name and value")
            elif len(name) + len(value) >= MAX_PARAMETER_CHARS:
                size = f"{MAX_PARAMETER_CHARS} characters or more"
                self.tell(SCHEMA, f"<Parameter> {name[:40]} and its value have {size}")
            else:
                parameters[name] = value
        return parameters

    def _stream_url(self, url: str) -> str:
        """The absolute URL; empty (and a problem) where Twilio would not connect."""
        if not url:
            self.tell(SCHEMA, "<Stream> has no url")
            return ""
        try:
            return self._on_a_socket(url)
        except ValueError:
            self.tell(INVALID_URL, f"{url[:60]!r} is no URL")
            return ""

    def _on_a_socket(self, url: str) -> str:
        """The URL of a media socket. Raises ``ValueError`` for what is no URL."""
        parts = urlsplit(url)
        if not parts.scheme:  # relative: the host of the document, on a WebSocket scheme
            base = urlsplit(self._url)
            scheme = "ws" if base.scheme == "http" else "wss"
            parts = urlsplit(urljoin(base._replace(scheme="http").geturl(), url))._replace(scheme=scheme)
        if parts.scheme != "wss" and not (parts.scheme == "ws" and parts.hostname in _LOOPBACK):
            self.tell(WRONG_SCHEME, f"<Stream> url has the scheme {parts.scheme!r}; only wss is supported")
            return ""
        if parts.query:
            self.tell(HANDSHAKE, "<Stream> url has a query; query parameters are not supported")
            return ""
        return parts.geturl()
