"""The TwiML that the answer and fallback webhooks give. Pure text, escaped by the standard library.

Source: Twilio "TwiML Stream", "TwiML Reject", "TwiML Redirect", "TwiML Dial", read 2026-11-21. ``<Connect>`` blocks
until our side closes the media socket, then the verb behind it runs: a ``<Redirect>`` to the fallback webhook, so
that a call goes on or ends with words even when this process has died meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element, SubElement, tostring

from bridge.errors import LocalError

PARAMETER_MAX_CHARS = 500
"""Twilio: name and value of a ``<Parameter>`` together stay under this."""

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>'


def _render(response: Element) -> str:
    return _HEAD + tostring(response, encoding="unicode")


def _printable(text: str) -> str:
    """The text without what XML 1.0 cannot carry: a caller's name may hold anything."""
    return "".join(
        char for char in text if char >= " " and char not in "\ufffe\uffff" and not "\ud800" <= char <= "\udfff"
    )


def connect_stream(stream_url: str, parameters: Mapping[str, str], fallback_url: str) -> str:
    """Connect the call to our media socket, and afterwards ask the fallback webhook what to do.

    Empty parameters are left out, longer ones than Twilio takes are cut. Raises ``LocalError`` for a stream URL
    with a query, which Twilio does not pass on.
    """
    if "?" in stream_url:
        raise LocalError("a stream URL cannot carry a query; use parameters")
    response = Element("Response")
    stream = SubElement(SubElement(response, "Connect"), "Stream", url=stream_url)
    for name, value in parameters.items():
        text = _printable(value)[: max(PARAMETER_MAX_CHARS - 1 - len(name), 0)]
        if text:
            SubElement(stream, "Parameter", name=name, value=text)
    SubElement(response, "Redirect", method="POST").text = fallback_url
    return _render(response)


def dial(number: str) -> str:
    """Hand the caller to a number or a SIP URI; the call ends when that one does."""
    response = Element("Response")
    target = SubElement(response, "Dial")
    if number.startswith(("sip:", "sips:")):
        SubElement(target, "Sip").text = _printable(number)
    else:
        SubElement(target, "Number").text = _printable(number)
    return _render(response)


def reject_busy() -> str:
    """Refuse the call before it is answered; the caller hears the busy tone and nothing is billed."""
    response = Element("Response")
    SubElement(response, "Reject", reason="busy")
    return _render(response)


def hang_up() -> str:
    """End the call."""
    response = Element("Response")
    SubElement(response, "Hangup")
    return _render(response)


def say_and_hang_up(text: str) -> str:
    """Say a sentence in Twilio's own voice, then end the call."""
    response = Element("Response")
    SubElement(response, "Say").text = _printable(text)
    SubElement(response, "Hangup")
    return _render(response)
