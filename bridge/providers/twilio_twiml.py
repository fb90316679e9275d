"""The TwiML that our webhooks answer and that control requests carry. Pure text, escaped by the standard library.

What it is not: the order in which documents follow one another (``bridge.server.twilio_control`` and the webhooks).

Source: Twilio "TwiML Stream", "Reject", "Redirect", "Dial", "Number", "Sip", "Conference", "Gather", "Play", "Refer",
"Say" and error 13521, read 2026-11-21. ``<Connect>`` blocks until our side closes the media socket, then the verb
behind it runs: a ``<Redirect>`` to the fallback webhook, so that a call goes on or ends with words even when this
process has died meanwhile.

Lengths: a document that travels in a control request (``Twiml=``) may have 4000 characters. Where one would be longer,
what is said in it is cut at a word, as plain text before it is escaped, so that the XML stays whole. What is said
anywhere is cut to what Twilio's voices take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote_plus
from xml.etree.ElementTree import Element, SubElement, tostring
from xml.sax.saxutils import escape

from bridge.errors import LocalError
from bridge.providers.twilio_words import Phrase, say_language, spoken

PARAMETER_MAX_CHARS = 500
"""Twilio: name and value of a ``<Parameter>`` together stay under this."""

MAX_TWIML_CHARS = 4000
"""Twilio: the longest document in the ``Twiml`` parameter of a request."""

MAX_SAY_BYTES = 3000
"""Twilio, error 13521: the least of the limits of its voices, in UTF-8."""
MAX_SAY_ENCODED_CHARS = 4500
"""Twilio, error 13521: of a text to say, once it is URL-encoded."""

CUT_BACK_CHARS = 40
"""How far back a cut looks for the end of a word; languages without spaces are cut between characters."""

MIN_RING_S, MAX_RING_S = 5, 600
"""What Twilio takes as a ringing time."""

KEY_TIMEOUT_S = 10
"""How long a human may think about pressing the key, from the end of what they are told."""

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>'


def _render(response: Element) -> str:
    return _HEAD + tostring(response, encoding="unicode")


def _printable(text: str) -> str:
    """The text without what XML 1.0 cannot carry: a caller's name may hold anything."""
    return "".join(
        char for char in text if char >= " " and char not in "\ufffe\uffff" and not "\ud800" <= char <= "\udfff"
    )


# --- the call and our media socket ---------------------------------------------------------------------------


def connect_stream(
    stream_url: str, parameters: Mapping[str, str], fallback_url: str, *, status_url: str = "", play_digits: str = ""
) -> str:
    """Connect the call to our media socket, and afterwards ask the fallback webhook what to do.

    ``status_url`` is told how the stream fares; ``play_digits`` are keys (``0-9 * # w W``) to press before it. Empty
    parameters are left out, longer ones than Twilio takes are cut. Raises ``LocalError`` for a stream URL with a
    query, which Twilio does not pass on.
    """
    if "?" in stream_url:
        raise LocalError("a stream URL cannot carry a query; use parameters")
    response = Element("Response")
    if play_digits:
        SubElement(response, "Play", digits=_printable(play_digits))
    attributes = {"url": stream_url, "statusCallback": status_url}
    stream = SubElement(SubElement(response, "Connect"), "Stream", _given(attributes))
    for name, value in parameters.items():
        text = _printable(value)[: max(PARAMETER_MAX_CHARS - 1 - len(name), 0)]
        if text:
            SubElement(stream, "Parameter", name=name, value=text)
    SubElement(response, "Redirect", method="POST").text = fallback_url
    return _render(response)


# --- to somebody else ----------------------------------------------------------------------------------------


def dial(number: str) -> str:
    """Hand the caller to a number or a SIP URI; the call ends when that one does."""
    response = Element("Response")
    target = SubElement(response, "Dial")
    SubElement(target, "Sip" if is_sip(number) else "Number").text = _printable(number)
    return _render(response)


def dial_blind(
    target: str,
    *,
    action_url: str,
    status_url: str,
    ring_s: int,
    caller_id: str = "",
    words: str = "",
    language: str = "",
    send_digits: str = "",
) -> str:
    """Send the caller on: ``words`` first, then ring ``target`` (E.164 or a SIP URI); ``action_url`` says what follows.

    ``send_digits`` are pressed once a number has answered. Raises ``LocalError`` for them with a SIP URI, because
    ``<Sip>`` has no such attribute.
    """
    if send_digits and is_sip(target):
        raise LocalError("digits can be sent to numbers only")

    ringing = {
        "action": action_url,
        "method": "POST",
        "timeout": str(ring_seconds(ring_s)),
        "answerOnBridge": "true",
        "callerId": _printable(caller_id),
    }
    reporting = {
        "statusCallback": status_url,
        "statusCallbackEvent": "answered completed",
        "statusCallbackMethod": "POST",
        "sendDigits": _printable(send_digits),
    }

    def document(said: str) -> str:
        response = Element("Response")
        _say(response, said, language)
        verb = SubElement(response, "Dial", _given(ringing))
        SubElement(verb, "Sip" if is_sip(target) else "Number", _given(reporting)).text = _printable(target)
        return _render(response)

    return _fitting(document, words)


def refer(target: str, *, action_url: str, words: str = "", language: str = "") -> str:
    """Tell the caller's switch to connect them to a SIP URI; ``action_url`` hears how that went."""

    def document(said: str) -> str:
        response = Element("Response")
        _say(response, said, language)
        verb = SubElement(response, "Refer", action=action_url, method="POST")
        SubElement(verb, "Sip").text = _printable(target)
        return _render(response)

    return _fitting(document, words)


# --- a human who is told first ---------------------------------------------------------------------------------


def conference_name(transfer_id: str) -> str:
    """The room where caller and human of this transfer meet: names nobody, guessed by nobody."""
    return f"transfer-{transfer_id}"


def whisper(message: str, *, accept_url: str, language: str = "", accept_key: str = "") -> str:
    """Tell the human who calls, and ask whether they take the caller.

    With ``accept_key`` any key they press goes to ``accept_url`` as ``Digits``, also while they are still being told;
    who presses none is hung up on, as a voicemail box is. Without it, ``accept_url`` is asked at once.
    """
    response = Element("Response")
    if not accept_key:
        _say(response, message, language)
        SubElement(response, "Redirect", method="POST").text = accept_url
        return _render(response)
    gather = SubElement(
        response,
        "Gather",
        {
            "numDigits": "1",
            "timeout": str(KEY_TIMEOUT_S),
            "finishOnKey": "",  # its default "#" would swallow that key
            "action": accept_url,
            "method": "POST",
        },
    )
    _say(gather, message, language)
    prompt = spoken(Phrase.PRESS_KEY, language, key=accept_key)
    _say(gather, prompt.words, prompt.language)
    SubElement(response, "Hangup")
    return _render(response)


def wait_and_ask(url: str) -> str:
    """A second of silence, then this webhook."""
    response = Element("Response")
    SubElement(response, "Pause", length="1")
    SubElement(response, "Redirect", method="POST").text = url
    return _render(response)


def human_joins(transfer_id: str) -> str:
    """Put the human who accepted into the conference, where they wait for the caller without music."""
    response = Element("Response")
    _conference(response, transfer_id)
    return _render(response)


def caller_joins(transfer_id: str, *, words: str = "", language: str = "") -> str:
    """Move the caller into the conference, after ``words``. Either's leaving ends it for both."""

    def document(said: str) -> str:
        response = Element("Response")
        _say(response, said, language)
        _conference(response, transfer_id)
        return _render(response)

    return _fitting(document, words)


# --- the end ---------------------------------------------------------------------------------------------------


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


def say_and_hang_up(text: str, language: str = "") -> str:
    """Say something in Twilio's own voice, then end the call."""

    def document(said: str) -> str:
        response = Element("Response")
        _say(response, said, language)
        SubElement(response, "Hangup")
        return _render(response)

    return _fitting(document, text)


def phrase_and_hang_up(phrase: Phrase, language: str = "") -> str:
    """Say one of our sentences in this language, or in English where it is missing, then end the call."""
    sentence = spoken(phrase, language)
    return say_and_hang_up(sentence.words, sentence.language)


# --- parts -----------------------------------------------------------------------------------------------------


def is_sip(target: str) -> bool:
    """Whether this is the address of a SIP phone rather than a number."""
    return target.lower().startswith(("sip:", "sips:"))


def ring_seconds(wanted_s: int) -> int:
    """The ringing time that comes closest among those that Twilio takes."""
    return min(max(wanted_s, MIN_RING_S), MAX_RING_S)


def _given(attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes that have a value."""
    return {name: value for name, value in attributes.items() if value}


def _say(parent: Element, text: str, language: str) -> None:
    """Words to say, if there are any that a voice can say."""
    words = _speakable(text)
    if words:
        SubElement(parent, "Say", _given({"language": say_language(language)})).text = words


def _conference(response: Element, transfer_id: str) -> None:
    SubElement(
        SubElement(response, "Dial"),
        "Conference",
        {"startConferenceOnEnter": "true", "endConferenceOnExit": "true", "beep": "false", "waitUrl": ""},
    ).text = conference_name(transfer_id)


def _speakable(text: str) -> str:
    """As much of the text as Twilio's voices say; line ends and the like become spaces."""
    words = _printable(" ".join(text.split()))
    words = _cut(words, MAX_SAY_BYTES, lambda char: len(char.encode()))
    return _cut(words, MAX_SAY_ENCODED_CHARS, lambda char: len(quote_plus(char)))


def _fitting(document: Callable[[str], str], words: str) -> str:
    """The document with as many of the words as there is room for."""
    whole = document(words)
    excess = len(whole) - MAX_TWIML_CHARS
    if excess <= 0:
        return whole
    said = _speakable(words)
    room = len(escape(said)) - excess
    return document(_cut(said, room, lambda char: len(escape(char))))


def _cut(text: str, limit: int, cost: Callable[[str], int]) -> str:
    """The longest beginning of the text that costs no more than ``limit``, back to the end of a word if one is near."""
    spent = 0
    for index, char in enumerate(text):
        spent += cost(char)
        if spent > limit:
            space = text.rfind(" ", max(index - CUT_BACK_CHARS, 0), index + 1)
            return text[: space if space > 0 else index].rstrip()
    return text
