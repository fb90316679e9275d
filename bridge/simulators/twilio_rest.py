"""Twilio's REST interface as far as calls and conferences go: routes, credentials, rates, errors.

Form in, JSON out; HTTP-free: ``handle`` takes a parsed request and gives a reply, ``twilio_cloud_http`` does the rest.
Sources: Twilio docs "Call Resource", "Conference Resource", "Participant Resource", "Requests to the REST API",
read 2026-11-21; errors 20003, 20004, 20404, 20429, 21220.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bridge.simulators.twilio_cloud_calls import CloudCalls
from bridge.simulators.twilio_cloud_options import CloudOptions
from bridge.simulators.twilio_conference import Conference, Member
from bridge.simulators.twilio_leg import API_VERSION, CallStatus, Leg
from bridge.simulators.twilio_resources import (
    Json,
    call_resource,
    conference_resource,
    number_resource,
    page,
    participant_resource,
)
from bridge.simulators.twilio_rest_forms import (
    Form,
    RestError,
    Warnings,
    call_order,
    document,
    is_url,
    participant_order,
)
from bridge.simulators.twilio_step import Source

_ACCOUNT = re.compile(rf"/{API_VERSION}/Accounts/(AC[0-9a-f]{{32}})(/.*)")


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names in lower case."""

    method: str
    path: str
    query: Form
    form: Form
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; ``body`` None = none at all."""

    status: int
    body: Json | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Rate:
    """At most so many a second."""

    def __init__(self, per_s: float | None, clock: Callable[[], float]) -> None:
        self._per_s, self._clock = per_s, clock
        self._times: deque[float] = deque()

    def take(self) -> bool:
        """Whether one more is within the rate; only then it counts."""
        if self._per_s is None:
            return True
        now = self._clock()
        while self._times and self._times[0] <= now - 1:
            self._times.popleft()
        if len(self._times) >= self._per_s:
            return False
        self._times.append(now)
        return True


class RestApi:
    """Answers requests for one account."""

    def __init__(self, options: CloudOptions, calls: CloudCalls, clock: Callable[[], float] = time.monotonic) -> None:
        self._options, self._calls = options, calls
        self._requests, self._placing = Rate(options.requests_per_s, clock), Rate(options.calls_per_s, clock)
        self._routes: tuple[tuple[str, re.Pattern[str], Callable[..., Reply]], ...] = tuple(
            (method, re.compile(pattern), handler)
            for method, pattern, handler in (
                ("POST", r"/Calls\.json", self._create_call),
                ("GET", r"/Calls\.json", self._list_calls),
                ("GET", r"/Calls/(CA\w+)\.json", self._fetch_call),
                ("POST", r"/Calls/(CA\w+)\.json", self._update_call),
                ("GET", r"/Conferences\.json", self._list_conferences),
                ("GET", r"/Conferences/([^/]+)\.json", self._fetch_conference),
                ("POST", r"/Conferences/([^/]+)\.json", self._update_conference),
                ("GET", r"/Conferences/([^/]+)/Participants\.json", self._list_participants),
                ("POST", r"/Conferences/([^/]+)/Participants\.json", self._create_participant),
                ("GET", r"/Conferences/([^/]+)/Participants/([^/]+)\.json", self._fetch_participant),
                ("POST", r"/Conferences/([^/]+)/Participants/([^/]+)\.json", self._update_participant),
                ("DELETE", r"/Conferences/([^/]+)/Participants/([^/]+)\.json", self._delete_participant),
                ("GET", r"/IncomingPhoneNumbers\.json", self._list_numbers),
            )
        )

    def handle(self, request: Request) -> Reply:
        """Answer one request."""
        try:
            return self._handle(request)
        except RestError as error:
            headers = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if error.status == 401 else {}
            return Reply(error.status, error.body(), headers)

    def _handle(self, request: Request) -> Reply:
        found = _ACCOUNT.fullmatch(request.path)
        self._authenticate(request.headers.get("authorization", ""), found[1] if found else "")
        if not self._requests.take():
            raise RestError(429, 20429, "Too Many Requests")
        if found is None:
            raise _not_found(request.path)
        known = False
        for method, pattern, handler in self._routes:
            if match := pattern.fullmatch(found[2]):
                known = True
                if method == request.method:
                    return handler(request, *match.groups())
        if known:
            raise RestError(405, 20004, "Method not allowed")
        raise _not_found(request.path)

    def _authenticate(self, authorization: str, account_sid: str) -> None:
        """HTTP Basic: account and auth token, or an API key and its secret; and only for this account."""
        scheme, _, encoded = authorization.partition(" ")
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = password = ""
        options = self._options
        secret = options.auth_token if user == options.account_sid else options.api_keys.get(user, "")
        genuine = bool(secret) and hmac.compare_digest(secret.encode(), password.encode())
        if scheme.lower() != "basic" or not genuine or account_sid not in ("", options.account_sid):
            raise RestError(401, 20003, "Authenticate")

    def _warn(self, leg: Leg | None, warnings: Warnings) -> None:
        for code, text in warnings:
            self._calls.exchange.violate(leg, code, text)

    # --- calls -----------------------------------------------------------------------------------------------

    def _create_call(self, request: Request) -> Reply:
        order, warnings = call_order(request.form, self._options)
        if not self._placing.take():
            raise RestError(429, 20429, "Too Many Requests")
        leg = self._calls.place(order)
        self._warn(leg, warnings)
        return Reply(201, call_resource(leg))

    def _list_calls(self, request: Request) -> Reply:
        wanted = {"Status": request.query.get("Status"), "To": request.query.get("To")}
        wanted |= {"From": request.query.get("From"), "ParentCallSid": request.query.get("ParentCallSid")}
        found = [
            call_resource(leg)
            for leg in reversed(self._calls.exchange.legs.values())
            if all(not value or _of(leg, name) == value for name, value in wanted.items())
        ]
        return Reply(200, page("calls", found, request.path))

    def _leg(self, request: Request, sid: str) -> Leg:
        leg = self._calls.exchange.legs.get(sid)
        if leg is None:
            raise _not_found(request.path)
        return leg

    def _fetch_call(self, request: Request, sid: str) -> Reply:
        return Reply(200, call_resource(self._leg(request, sid)))

    def _update_call(self, request: Request, sid: str) -> Reply:
        leg, form = self._leg(request, sid), request.form
        status = form.get("Status")
        if status:
            self._end_call(request, leg, status)
            return Reply(200, call_resource(leg))
        if form.get("Url") and form.get("Twiml"):
            raise RestError(400, 20001, "Url and Twiml are mutually exclusive")
        source = document(form, required=True)
        if not leg.live:
            raise RestError(400, 21220, "Call is not in-progress. Cannot redirect.")
        self._calls.redirect(leg, source)
        return Reply(200, call_resource(leg))

    def _end_call(self, request: Request, leg: Leg, status: str) -> None:
        if status not in ("completed", "canceled"):
            raise RestError(400, 20001, "Status must be completed or canceled")
        if leg.over:
            raise _not_found(request.path)
        if status == "canceled" and leg.live:
            raise RestError(400, 21220, "Call is in-progress. Cannot cancel.")
        self._calls.hang_up(leg)

    # --- conferences -----------------------------------------------------------------------------------------

    def _list_conferences(self, request: Request) -> Reply:
        name, status = request.query.get("FriendlyName"), request.query.get("Status")
        found = [
            conference_resource(conference)
            for conference in reversed(self._calls.conferences.all.values())
            if (not name or conference.name == name) and (not status or conference.status == status)
        ]
        return Reply(200, page("conferences", found, request.path))

    def _conference(self, request: Request, name_or_sid: str) -> Conference:
        conference = self._calls.conferences.find(name_or_sid)
        if conference is None:
            raise _not_found(request.path)
        return conference

    def _fetch_conference(self, request: Request, sid: str) -> Reply:
        return Reply(200, conference_resource(self._conference(request, sid)))

    def _update_conference(self, request: Request, sid: str) -> Reply:
        conference, form = self._conference(request, sid), request.form
        status = form.get("Status")
        if status and status != "completed":
            raise RestError(400, 20001, "Status must be completed")
        if url := form.get("AnnounceUrl"):
            source = _announcement(url, form)
            for member in conference.members.values():
                self._calls.announce(member, source)
        if status:
            conference.end("conference-ended-via-api")
        return Reply(200, conference_resource(conference))

    # --- participants ----------------------------------------------------------------------------------------

    def _create_participant(self, request: Request, name_or_sid: str) -> Reply:
        order, options, warnings = participant_order(request.form, self._options)
        if re.fullmatch(r"CF[0-9a-f]{32}", name_or_sid):
            conference = self._conference(request, name_or_sid)
            if conference.status == "completed":
                raise _not_found(request.path)
        else:
            conference = self._calls.conferences.open(name_or_sid)
        if not self._placing.take():
            raise RestError(429, 20429, "Too Many Requests")
        member = self._calls.invite(conference, order, options)
        self._warn(member.leg, warnings)
        return Reply(201, participant_resource(member))

    def _list_participants(self, request: Request, sid: str) -> Reply:
        conference = self._conference(request, sid)
        members = [*conference.members.values(), *conference.expected.values()]
        return Reply(200, page("participants", [participant_resource(member) for member in members], request.path))

    def _member(self, request: Request, sid: str, call_or_label: str) -> Member:
        conference = self._conference(request, sid)
        for member in (*conference.members.values(), *conference.expected.values()):
            if call_or_label in (member.leg.sid, member.options.label):
                return member
        raise _not_found(request.path)

    def _fetch_participant(self, request: Request, sid: str, call_or_label: str) -> Reply:
        return Reply(200, participant_resource(self._member(request, sid, call_or_label)))

    def _update_participant(self, request: Request, sid: str, call_or_label: str) -> Reply:
        member, form = self._member(request, sid, call_or_label), request.form
        muted = form.flag("Muted") if "Muted" in form else None
        hold = form.flag("Hold") if "Hold" in form else None
        source = _announcement(form.get("AnnounceUrl"), form) if "AnnounceUrl" in form else None
        member.conference.change(member, muted=muted, hold=hold)
        if source is not None:
            self._calls.announce(member, source)
        return Reply(200, participant_resource(member))

    def _delete_participant(self, request: Request, sid: str, call_or_label: str) -> Reply:
        member = self._member(request, sid, call_or_label)
        if member.leg.sid in member.conference.members:
            member.conference.leave(member, kicked=True)
        else:
            self._calls.exchange.end(member.leg, CallStatus.CANCELED, "rest")
        return Reply(204)

    # --- numbers ---------------------------------------------------------------------------------------------

    def _list_numbers(self, request: Request) -> Reply:
        part, options = request.query.get("PhoneNumber"), self._options
        found = [number_resource(number, options.account_sid) for number in options.numbers if part in number]
        return Reply(200, page("incoming_phone_numbers", found, request.path))


def _of(leg: Leg, name: str) -> str:
    facts = leg.facts
    values = {"Status": leg.status.value, "To": facts.called, "From": facts.caller, "ParentCallSid": facts.parent_sid}
    return values[name]


def _announcement(url: str, form: Form) -> Source:
    if not is_url(url):
        raise RestError(400, 21205, "AnnounceUrl is not a valid URL")
    return Source(url, form.get("AnnounceMethod", "POST"))


def _not_found(path: str) -> RestError:
    return RestError(404, 20404, f"The requested resource {path} was not found")
