"""The forms of Twilio's REST interface, read and checked: the orders they come to, or Twilio's error.

Sources: Twilio docs "Call Resource", "Participant Resource", REST error codes 21201 to 21220, 21609, read 2026-11-21.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from bridge.simulators.twilio_cloud_calls import CallOrder
from bridge.simulators.twilio_cloud_options import CloudOptions
from bridge.simulators.twilio_conference import MemberOptions
from bridge.simulators.twilio_exchange import MachineDetection
from bridge.simulators.twilio_status import CALL_EVENTS, WRONG_EVENT, CallbackTarget
from bridge.simulators.twilio_step import Source
from bridge.simulators.twiml_rules import is_digits, is_sip_uri

MAX_TWIML_CHARS = 4000
MAX_SEND_DIGITS = 32
MIN_TIMEOUT_S, MAX_TIMEOUT_S = 5, 600
MAX_TIME_LIMIT_S = 86_400

_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_KNOWN_COMMON = frozenset(
    (
        "To",
        "From",
        "CallerId",
        "CallReason",
        "CallToken",
        "Byoc",
        "Record",
        "Timeout",
        "TimeLimit",
        "SipAuthUsername",
        "SipAuthPassword",
        "StatusCallback",
        "StatusCallbackMethod",
        "StatusCallbackEvent",
        "MachineDetection",
        "MachineDetectionTimeout",
        "MachineDetectionSpeechThreshold",
        "MachineDetectionSpeechEndThreshold",
        "MachineDetectionSilenceTimeout",
    )
)
_KNOWN_CALL = _KNOWN_COMMON | frozenset(
    (
        "Url",
        "Twiml",
        "ApplicationSid",
        "Method",
        "FallbackUrl",
        "FallbackMethod",
        "SendDigits",
        "AsyncAmd",
        "AsyncAmdStatusCallback",
        "AsyncAmdStatusCallbackMethod",
        "Trim",
        "RecordingChannels",
        "RecordingStatusCallback",
        "RecordingTrack",
    )
)
_KNOWN_PARTICIPANT = _KNOWN_COMMON | frozenset(
    (
        "AmdStatusCallback",
        "AmdStatusCallbackMethod",
        "Label",
        "Muted",
        "Hold",
        "Beep",
        "StartConferenceOnEnter",
        "EndConferenceOnExit",
        "EarlyMedia",
        "WaitUrl",
        "WaitMethod",
        "ConferenceStatusCallback",
        "ConferenceStatusCallbackMethod",
        "ConferenceStatusCallbackEvent",
        "MaxParticipants",
        "Coaching",
        "CallSidToCoach",
        "Region",
        "JitterBufferSize",
    )
)


class RestError(Exception):
    """A request that is refused as Twilio would."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def body(self) -> dict[str, object]:
        """The JSON of the answer."""
        more_info = f"https://www.twilio.com/docs/errors/{self.code}"
        return {"code": self.code, "message": self.message, "more_info": more_info, "status": self.status}


class Form:
    """The fields of one request; names may be repeated."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self._fields = list(fields)

    def __contains__(self, name: str) -> bool:
        return any(known == name for known, _ in self._fields)

    def get(self, name: str, default: str = "") -> str:
        """The last value of a field."""
        return next((value for known, value in reversed(self._fields) if known == name), default)

    def all(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for known, value in self._fields if known == name]

    def names(self) -> set[str]:
        """What is given."""
        return {name for name, _ in self._fields}

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean, as the SDK writes it."""
        return self.get(name, str(default)).lower() == "true"


Warnings = list[tuple[int, str]]
"""What Twilio's debugger would show of a request that it takes: code and text."""


def call_order(form: Form, options: CloudOptions) -> tuple[CallOrder, Warnings]:
    """A call to place. Raises ``RestError``."""
    warnings = _unknown(form, _KNOWN_CALL)
    _check_numbers(form, options)
    source = document(form, required=True)
    send_digits = form.get("SendDigits")
    if not is_digits(send_digits) or len(send_digits) > MAX_SEND_DIGITS:
        raise RestError(400, 21206, "SendDigits is invalid")
    detection = _detection(form, asynchronous=form.flag("AsyncAmd"), callback="AsyncAmdStatusCallback")
    callbacks, problem = _callbacks(form, frozenset(form.all("StatusCallbackEvent")))
    fallback = _url(form, "FallbackUrl", 21205) if "FallbackUrl" in form else ""
    order = CallOrder(
        caller=form.get("CallerId") or form.get("From"),
        called=form.get("To"),
        source=source,
        timeout_s=_timeout(form),
        time_limit_s=_time_limit(form),
        callbacks=callbacks,
        send_digits=send_digits,
        detection=detection,
        fallback_url=fallback,
        fallback_method=_method(form, "FallbackMethod"),
    )
    return order, warnings + problem


def participant_order(form: Form, options: CloudOptions) -> tuple[CallOrder, MemberOptions, Warnings]:
    """A call into a conference. Raises ``RestError``."""
    warnings = _unknown(form, _KNOWN_PARTICIPANT)
    _check_numbers(form, options)
    events = frozenset(event for value in form.all("StatusCallbackEvent") for event in value.split())
    callbacks, problem = _callbacks(form, events)
    order = CallOrder(
        caller=form.get("CallerId") or form.get("From"),
        called=form.get("To"),
        timeout_s=_timeout(form),
        time_limit_s=_time_limit(form),
        callbacks=callbacks,
        detection=_detection(form, asynchronous=True, callback="AmdStatusCallback"),
    )
    conference_events = " ".join(form.all("ConferenceStatusCallbackEvent")).split()
    member = MemberOptions(
        muted=form.flag("Muted"),
        hold=form.flag("Hold"),
        start_on_enter=form.flag("StartConferenceOnEnter", True),
        end_on_exit=form.flag("EndConferenceOnExit"),
        beep=form.get("Beep", "true"),
        wait_url=form.get("WaitUrl") if "WaitUrl" in form else None,
        wait_method=_method(form, "WaitMethod"),
        label=form.get("Label"),
        status_callback=form.get("ConferenceStatusCallback"),
        status_callback_method=_method(form, "ConferenceStatusCallbackMethod"),
        status_callback_events=frozenset(conference_events),
    )
    return order, member, warnings + problem


def document(form: Form, *, required: bool) -> Source:
    """``Url`` or ``Twiml`` of a request. Raises ``RestError``."""
    if form.get("Url"):
        return Source(_url(form, "Url", 21205), _method(form, "Method"))
    twiml = form.get("Twiml")
    if len(twiml) > MAX_TWIML_CHARS:
        raise RestError(400, 20001, f"Twiml has more than {MAX_TWIML_CHARS} characters")
    if required and not twiml:
        raise RestError(400, 21205, "Url parameter is required.")
    return Source(twiml=twiml)


def is_url(text: str) -> bool:
    """Whether Twilio would take this for a webhook: absolute, http(s), no underscore in the host's name."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    host = parts.hostname or ""
    return parts.scheme in ("http", "https") and bool(host) and "_" not in host


def _url(form: Form, name: str, code: int) -> str:
    url = form.get(name)
    if not is_url(url):
        raise RestError(400, code, f"{name} is not a valid URL")
    return url


def _method(form: Form, name: str) -> str:
    method = form.get(name, "POST").upper()
    if method not in ("GET", "POST"):
        raise RestError(400, 21209, f"{name} is not a valid method")
    return method


def _timeout(form: Form) -> float:
    text = form.get("Timeout", "60")
    if not (text.isascii() and text.isdigit() and MIN_TIMEOUT_S <= int(text[:9]) <= MAX_TIMEOUT_S):
        raise RestError(400, 21208, "Timeout is invalid")
    return float(text)


def _time_limit(form: Form) -> float | None:
    text = form.get("TimeLimit")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= MAX_TIME_LIMIT_S):
        raise RestError(400, 20001, "TimeLimit is invalid")
    return float(text)


def _check_numbers(form: Form, options: CloudOptions) -> None:
    to, sender = form.get("To"), form.get("From")
    if not to:
        raise RestError(400, 21201, "No 'To' number is specified")
    sip_or_client = is_sip_uri(to) or to.startswith("client:")
    if not sip_or_client and not _NUMBER.fullmatch(to):
        raise RestError(400, 21211, "The 'To' number is not a valid phone number.")
    if not sender:
        raise RestError(400, 21213, "'From' phone number is required")
    if sip_or_client and not sender.startswith("+"):
        return  # a SIP user part or a client's name
    for number in (sender, form.get("CallerId") or sender):
        if not _NUMBER.fullmatch(number):
            raise RestError(400, 21212, "The 'From' number is not a valid phone number, shortcode, or SID.")
        if number not in options.numbers:
            raise RestError(400, 21210, "The source phone number provided is not yet verified for your account.")


def _detection(form: Form, *, asynchronous: bool, callback: str) -> MachineDetection | None:
    mode = form.get("MachineDetection")
    if not mode or mode == "none":
        return None
    if mode not in ("Enable", "DetectMessageEnd"):
        raise RestError(400, 20001, "MachineDetection is invalid")
    timeout = form.get("MachineDetectionTimeout", "30")
    if not (timeout.isascii() and timeout.isdigit() and 3 <= int(timeout[:9]) <= 59):
        raise RestError(400, 20001, "MachineDetectionTimeout is invalid")
    url = _url(form, callback, 21609) if asynchronous and callback in form else ""
    return MachineDetection(
        message_end=mode == "DetectMessageEnd",
        timeout_s=float(timeout),
        beside=asynchronous,
        callback_url=url,
        callback_method=_method(form, f"{callback}Method"),
    )


def _callbacks(form: Form, events: frozenset[str]) -> tuple[CallbackTarget | None, Warnings]:
    if "StatusCallback" not in form:
        return None, []
    url, method = _url(form, "StatusCallback", 21609), _method(form, "StatusCallbackMethod")
    if events - CALL_EVENTS:
        # Taken with 201 all the same, and then no callback comes at all.
        target = CallbackTarget(url=url, method=method, events=frozenset())
        return target, [(WRONG_EVENT, "StatusCallbackEvent has a value that is no event; no callback will come")]
    return CallbackTarget(url=url, method=method, events=events or frozenset({"completed"})), []


def _unknown(form: Form, known: frozenset[str]) -> Warnings:
    unknown = sorted(form.names() - known)
    return [(20001, f"unknown parameter {name[:40]}") for name in unknown]
