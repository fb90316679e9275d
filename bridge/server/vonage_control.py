"""Control of calls at Vonage: ``CarrierControl`` over the Voice API.

Theory of operation: requests are about the caller's leg, whose uuid the answer webhook named and our NCCO handed on;
the media socket has a leg of its own, which goes by itself when the caller's leg is moved elsewhere or ends.

A blind transfer moves the caller's leg to a ``connect`` with the human; ``/vonage/transfer/action`` is asked where
nobody answers, and connects the media socket again. A warm one calls the human, who hears of the caller and presses a
key (``/vonage/transfer/whisper``, ``accept``) while the caller goes on talking with the agent, and waits in a
conversation of the transfer's own name; then the caller's leg is moved there too. What becomes of the human's leg comes
to ``/vonage/transfer/human``. All of these webhooks are signed; the id in their address is the transfer's.

Tones go onto the caller's leg while the media socket stays up.

Source: Vonage "Voice API", read 2026-11-21; the SDK vonage-voice 1.5.1, the oracle of the tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from bridge.calls.orders import TransferOrder
from bridge.errors import LocalError
from bridge.leg import ToneWay, TransferKind
from bridge.providers import vonage_ncco as ncco
from bridge.providers.twilio_words import Phrase
from bridge.providers.vonage_ncco import Ncco, Phone, Sip, WebSocket
from bridge.providers.vonage_words import say, say_busy
from bridge.server.carrier_control import Comeback, ControlError, ControlFault, Line, OutboundOrder, Whisper
from bridge.server.vonage_rest import VonageRest

DETECTION_WAIT_S = 5
"""How long whoever has answered waits, after they were told who calls, for Vonage to make up its mind whether they are
a machine: it takes some four seconds from the answer, most of which the telling has taken already."""
NO_WAIT_S = 1
"""The shortest that Vonage listens for keys; whoever presses none takes the caller then."""

MIN_LENGTH_S, MAX_LENGTH_S = 1, 86_400
"""Vonage: the longest duration of a call that is placed."""

_KINDS = frozenset({TransferKind.BLIND, TransferKind.WARM})
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_CALLS = "/v1/calls"
_DETECTION = {"enable": "detect", "detect_message_end": "detect_beep"}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class VonageControlOptions:
    """What the bodies of requests need to know."""

    public_url: str
    """PUBLIC_URL without slash at its end: Vonage asks there how to go on."""


# --- the bodies of requests ----------------------------------------------------------------------------------


class _Destination(msgspec.Struct, frozen=True):
    ncco: Ncco
    type: str = "ncco"


class _Move(msgspec.Struct, frozen=True):
    destination: _Destination
    action: str = "transfer"


class _HangUp(msgspec.Struct, frozen=True):
    action: str = "hangup"


class _Tones(msgspec.Struct, frozen=True):
    digits: str


class _From(msgspec.Struct, frozen=True):
    number: str
    type: str = "phone"


class _Detection(msgspec.Struct, frozen=True):
    behavior: str
    mode: str


class _NewCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``answer_url`` or ``ncco``; ``from`` or ``random_from_number``."""

    to: tuple[Phone | Sip | WebSocket, ...]
    from_: _From | None = msgspec.field(default=None, name="from")
    random_from_number: bool = False
    answer_url: tuple[str, ...] = ()
    answer_method: str | None = None
    ncco: Ncco = ()
    event_url: tuple[str, ...]
    event_method: str
    ringing_timer: int | None = None
    length_timer: int | None = None
    advanced_machine_detection: _Detection | None = None


class _Placed(msgspec.Struct):
    uuid: str


# --- the documents of a warm transfer, for the webhooks --------------------------------------------------------


def conversation_of(transfer_id: str) -> str:
    """Where caller and human of a warm transfer meet; as unguessable as the id."""
    return f"transfer-{transfer_id}"


def whisper_document(
    transfer_id: str, public_url: str, *, words: str, accept_key: str, language: str, detects_machine: bool
) -> Ncco:
    """What the human hears who has answered: the answer to ``/vonage/transfer/whisper``."""
    prompt = say(Phrase.PRESS_KEY, language, key=accept_key)
    return ncco.whisper(
        accept_url=transfer_url(public_url, "accept", transfer_id),
        accept_key=accept_key,
        words=words,
        prompt=prompt.words,
        language=language,
        prompt_language=prompt.language,
        wait_s=DETECTION_WAIT_S if detects_machine else NO_WAIT_S,
    )


def accept_document(transfer_id: str) -> Ncco:
    """What the human gets who takes the caller: the answer to ``/vonage/transfer/accept``."""
    return ncco.join_conversation(conversation_of(transfer_id))


def caller_gone_document(language: str) -> Ncco:
    """What the human gets who accepted too late."""
    sentence = say(Phrase.CALLER_GONE, language)
    return ncco.say_and_hang_up(sentence.words, sentence.language)


def busy_document(language: str) -> Ncco:
    """What the caller gets for whom no line is free; see ``vonage_ncco.divert`` for those who are sent elsewhere."""
    sentence = say_busy(language)
    return ncco.say_and_hang_up(sentence.words, sentence.language)


def apology_document(language: str) -> Ncco:
    """What the caller gets whose call broke."""
    sentence = say(Phrase.APOLOGY, language)
    return ncco.say_and_hang_up(sentence.words, sentence.language)


def transfer_url(public_url: str, step: str, transfer_id: str) -> str:
    """A transfer's webhook: ``step`` is ``whisper``, ``accept``, ``human`` or ``action``."""
    return f"{public_url}/vonage/transfer/{step}?id={quote(transfer_id, safe='')}"


# --- the client ----------------------------------------------------------------------------------------------


class VonageControl:
    """See ``CarrierControl``."""

    def __init__(self, rest: VonageRest, options: VonageControlOptions) -> None:
        self._rest = rest
        self._public_url = options.public_url

    @property
    def transfers(self) -> frozenset[TransferKind]:
        """See ``CarrierControl``."""
        return _KINDS if self._rest.has_credentials else frozenset()

    @property
    def tones(self) -> ToneWay:
        """See ``CarrierControl``."""
        return ToneWay.CONTROL if self._rest.has_credentials else ToneWay.NONE

    @property
    def transfers_keep_stream(self) -> bool:
        """See ``CarrierControl``."""
        return False

    async def hang_up(self, line: Line) -> None:
        """End the caller's leg, and with it the call; one that is over already is a success."""
        await self._hang_up(line, line.call_sid)

    async def play_tones(self, line: Line, digits: str, comeback: Comeback | None) -> None:
        """Press keys on the caller's line (``0-9 * #``, ``w`` and ``W`` are pauses); the stream stays up."""
        tones = _Tones(_built(lambda: ncco.dtmf(digits)))
        if tones.digits:
            await self._rest.put(line.control_url, f"{_leg_path(line.call_sid)}/dtmf", tones)

    async def transfer(self, line: Line, order: TransferOrder, whisper: Whisper) -> None:
        """Send the caller on (``BLIND``); ``/vonage/transfer/action`` is asked where nobody answers."""
        if order.kind is not TransferKind.BLIND:
            raise ControlError(ControlFault.REFUSED, f"Vonage cannot do a transfer of kind {order.kind.value}")
        document = _built(
            lambda: ncco.connect_human(
                order.target,
                from_number=line.called,
                action_url=transfer_url(self._public_url, "action", whisper.transfer_id),
                ring_s=whisper.ring_s,
                words=order.client_message,
                language=whisper.language,
                post_dial_digits=order.post_dial_digits,
            )
        )
        await self._move(line, document)

    async def ring_human(self, line: Line, order: TransferOrder, whisper: Whisper) -> str:
        """Call the human of a ``WARM`` transfer, in the caller's region; returns the uuid of their leg."""
        url, transfer_id = self._public_url, whisper.transfer_id
        from_number = _own_number(line.called)
        body = _NewCall(
            to=(_built(lambda: ncco.endpoint_for(order.target, order.post_dial_digits)),),
            from_=from_number,
            random_from_number=from_number is None,
            answer_url=(transfer_url(url, "whisper", transfer_id),),
            answer_method="POST",
            event_url=(transfer_url(url, "human", transfer_id),),
            event_method="POST",
            ringing_timer=ncco.ring_seconds(whisper.ring_s),
            advanced_machine_detection=_Detection("hangup", "detect") if whisper.detect_machine else None,
        )
        return await self._place(line.control_url, body)

    async def join(self, line: Line, human_sid: str, order: TransferOrder, whisper: Whisper, words: str) -> None:
        """Move the caller to the conversation in which the human waits; ``words`` are said to them first."""
        name = conversation_of(whisper.transfer_id)
        await self._move(line, ncco.join_conversation(name, words, whisper.language))

    async def drop_human(self, line: Line, human_sid: str) -> None:
        """Hang up on the human; one who is gone already is a success."""
        await self._hang_up(line, human_sid)

    async def place(self, order: OutboundOrder) -> str:
        """Place a call; returns the uuid of the leg to whom is called. Never repeated."""
        call = quote(order.call_id, safe="")
        mode = _DETECTION.get(order.detect_machine)
        body = _NewCall(
            to=(_built(lambda: ncco.endpoint_for(order.to_number, order.send_digits)),),
            from_=_From(_built(lambda: ncco.bare_number(order.from_number))),
            answer_url=(f"{self._public_url}/vonage/answer?call={call}",),
            answer_method="POST",
            event_url=(f"{self._public_url}/vonage/events?call={call}",),
            event_method="POST",
            ringing_timer=ncco.ring_seconds(order.ring_s),
            length_timer=_length(order.max_duration_s),
            advanced_machine_detection=_Detection("continue", mode) if mode else None,
        )
        return await self._place("", body, order.extra)

    async def connect_media_leg(self, line: Line, media: ncco.MediaConnect, conversation: str) -> str:
        """Call our own media socket into the caller's conversation: a leg apart, which can be hung up alone.

        For callers whom the answer webhook sent into that conversation rather than to the socket. Returns the leg's
        uuid; ``media.event_url`` is told how it fares. Never repeated.
        """
        from_number = _own_number(media.from_number)
        body = _NewCall(
            to=(_built(lambda: ncco.media_endpoint(media)),),
            from_=from_number,
            random_from_number=from_number is None,
            ncco=ncco.join_conversation(conversation, ends=False),  # the caller is told why before the end
            event_url=(media.event_url,),
            event_method="POST",
            length_timer=_length(media.limit_s),
        )
        return await self._place(line.control_url, body)

    async def move(self, line: Line, document: Ncco) -> None:
        """Have the caller's leg go on with this document, whatever it is doing."""
        await self._move(line, document)

    async def aclose(self) -> None:
        """Close connections."""
        await self._rest.aclose()

    # --- inside ---

    async def _move(self, line: Line, document: Ncco) -> None:
        await self._rest.put(line.control_url, _leg_path(line.call_sid), _Move(_Destination(document)))

    async def _hang_up(self, line: Line, leg_uuid: str) -> None:
        try:
            await self._rest.put(line.control_url, _leg_path(leg_uuid), _HangUp())
        except ControlError as error:
            if error.fault is not ControlFault.GONE:
                raise

    async def _place(self, region_url: str, body: _NewCall, extra: tuple[tuple[str, str], ...] = ()) -> str:
        theirs = {name: _value(text) for name, text in extra}
        ours: dict[str, Any] = msgspec.to_builtins(body)
        answer = await self._rest.post(region_url, _CALLS, theirs | ours)  # what we must have said comes last
        try:
            placed = msgspec.json.decode(answer, type=_Placed).uuid
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            placed = ""
        if not _ID.fullmatch(placed):
            raise ControlError(ControlFault.DOWN, "POST: the answer names no call")
        return placed


def _leg_path(leg_uuid: str) -> str:
    """The path of a leg. An id that is none names no call: it came from a media socket and could point anywhere."""
    if not _ID.fullmatch(leg_uuid):
        raise ControlError(ControlFault.GONE, "not the id of a call")
    return f"{_CALLS}/{leg_uuid}"


def _built(build: Callable[[], _T]) -> _T:
    """What is built, or that Vonage cannot do it: targets and keys are an agent's."""
    try:
        return build()
    except LocalError as error:
        raise ControlError(ControlFault.REFUSED, str(error)) from None


def _own_number(number: str) -> _From | None:
    """Our number as the caller id; None = Vonage picks one of the application's."""
    try:
        return _From(ncco.bare_number(number))
    except LocalError:
        return None


def _value(text: str) -> object:
    """A parameter of the operator's: a number, a flag or an object where it is written as one, otherwise the text."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


def _length(seconds: int | None) -> int | None:
    return None if seconds is None else min(max(seconds, MIN_LENGTH_S), MAX_LENGTH_S)
