"""Twilio's REST resources as JSON, field by field as twilio-python 9 reads them.

Source: Twilio docs "Call Resource", "Conference Resource", "Participant Resource", "IncomingPhoneNumber Resource",
read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import formatdate
from hashlib import md5

from bridge.simulators.twilio_conference import Conference, Member
from bridge.simulators.twilio_leg import API_VERSION, CallStatus, Leg

Json = dict[str, object]

PAGE_SIZE = 50
"""Twilio's default; the lists here have one page."""


def _date(unix_s: float) -> str | None:
    return formatdate(unix_s) if unix_s else None


def call_resource(leg: Leg) -> Json:
    """A call."""
    facts = leg.facts
    uri = f"/{API_VERSION}/Accounts/{facts.account_sid}/Calls/{leg.sid}"
    status = CallStatus.QUEUED if leg.status is CallStatus.INITIATED else leg.status
    return {
        "sid": leg.sid,
        "date_created": _date(leg.created_unix_s),
        "date_updated": _date(leg.ended_unix_s or leg.answered_unix_s or leg.created_unix_s),
        "parent_call_sid": facts.parent_sid or None,
        "account_sid": facts.account_sid,
        "to": facts.called,
        "to_formatted": facts.called,
        "from": facts.caller,
        "from_formatted": facts.caller,
        "phone_number_sid": None,
        "status": status.value,
        "start_time": _date(leg.answered_unix_s),
        "end_time": _date(leg.ended_unix_s),
        "duration": str(leg.duration_s) if leg.over else None,
        "price": None,
        "price_unit": "USD",
        "direction": facts.direction,
        "answered_by": leg.answered_by or None,
        "api_version": API_VERSION,
        "forwarded_from": dict(facts.extra).get("ForwardedFrom"),
        "group_sid": None,
        "caller_name": None,
        "queue_time": "0",
        "trunk_sid": None,
        "uri": f"{uri}.json",
        "subresource_uris": {
            name: f"{uri}/{path}.json" for name, path in (("notifications", "Notifications"), ("streams", "Streams"))
        },
    }


def conference_resource(conference: Conference) -> Json:
    """A conference."""
    uri = f"/{API_VERSION}/Accounts/{conference.account_sid}/Conferences/{conference.sid}"
    return {
        "sid": conference.sid,
        "account_sid": conference.account_sid,
        "date_created": _date(conference.created_unix_s),
        "date_updated": _date(conference.created_unix_s),
        "api_version": API_VERSION,
        "friendly_name": conference.name,
        "region": "us1",
        "status": conference.status,
        "reason_conference_ended": conference.reason_ended or None,
        "call_sid_ending_conference": conference.call_sid_ending or None,
        "uri": f"{uri}.json",
        "subresource_uris": {"participants": f"{uri}/Participants.json"},
    }


_PARTICIPANT_STATUS = {
    CallStatus.QUEUED: "queued",
    CallStatus.INITIATED: "connecting",
    CallStatus.RINGING: "ringing",
    CallStatus.IN_PROGRESS: "connected",
    CallStatus.COMPLETED: "complete",
}


def participant_resource(member: Member) -> Json:
    """A participant of a conference."""
    conference, leg = member.conference, member.leg
    base = f"/{API_VERSION}/Accounts/{conference.account_sid}/Conferences/{conference.sid}"
    return {
        "account_sid": conference.account_sid,
        "call_sid": leg.sid,
        "label": member.options.label or None,
        "conference_sid": conference.sid,
        "call_sid_to_coach": None,
        "coaching": False,
        "date_created": _date(member.created_unix_s),
        "date_updated": _date(member.created_unix_s),
        "end_conference_on_exit": member.options.end_on_exit,
        "start_conference_on_enter": member.options.start_on_enter,
        "muted": member.muted,
        "hold": member.hold,
        "status": _PARTICIPANT_STATUS.get(leg.status, "failed"),
        "queue_time": "0",
        "uri": f"{base}/Participants/{leg.sid}.json",
    }


def number_resource(number: str, account_sid: str) -> Json:
    """A phone number of the account."""
    sid = "PN" + md5(number.encode(), usedforsecurity=False).hexdigest()
    return {
        "sid": sid,
        "account_sid": account_sid,
        "friendly_name": number,
        "phone_number": number,
        "api_version": API_VERSION,
        "capabilities": {"voice": True, "sms": False, "mms": False, "fax": False},
        "origin": "twilio",
        "status": "in-use",
        "voice_method": "POST",
        "uri": f"/{API_VERSION}/Accounts/{account_sid}/IncomingPhoneNumbers/{sid}.json",
    }


def page(key: str, records: Sequence[Json], uri: str) -> Json:
    """A list, always with all records on its only page."""
    return {
        key: list(records),
        "page": 0,
        "page_size": max(PAGE_SIZE, len(records)),
        "start": 0,
        "end": max(len(records) - 1, 0),
        "uri": uri,
        "first_page_uri": uri,
        "next_page_uri": None,
        "previous_page_uri": None,
    }
