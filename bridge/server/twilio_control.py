"""Twilio's hands: the contract of control clients (``carrier_control``) carried out with Twilio's REST API and TwiML.

What it is not: the order of steps (``transfers``, ``outbound``) or the webhooks that Twilio asks for what comes next.
Nothing is remembered here but the pace: whatever a webhook must know stands in its URL, so that any process may answer.

Source: Twilio "Call resource" (create, update), "Answering machine detection", "TwiML Dial", "Refer" and "Conference",
read 2026-11-21. What shapes it:

- Updating a call replaces the TwiML that it runs: the media stream gets ``stop`` and its socket closes. So a document
  for a call that goes on with us ends in a new ``<Connect><Stream>``.
- Keys cannot be sent on the stream, and tones within its audio are not recognised; ``<Play digits>`` works.
- A machine is always looked for beside the conversation (``AsyncAmd``), because otherwise whoever answers listens to
  seconds of silence. Twilio does not look for one in a call with ``SendDigits``, so it is not asked to.
- ``<Refer>`` works towards SIP callers only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from bridge.calls.orders import TransferOrder
from bridge.errors import LocalError
from bridge.leg import ToneWay, TransferKind
from bridge.providers import twilio, twilio_twiml
from bridge.server.call_pace import CallPace, PaceOptions
from bridge.server.carrier_control import Comeback, ControlError, ControlFault, Line, OutboundOrder, Whisper
from bridge.server.twilio_rest import TwilioRest

MAX_SEND_DIGITS = 32
"""Twilio: keys in ``SendDigits`` of a new call."""

_OWN_NUMBER = re.compile(r"\+[0-9]{5,15}")
"""What Twilio takes as a caller id; a call to a SIP domain came to something else."""

_DETECTIONS = {"enable": "Enable", "detect_message_end": "DetectMessageEnd"}
_EVENTS = ("initiated", "ringing", "answered", "completed")

_OURS = frozenset(
    {
        "To",
        "From",
        "Url",
        "Method",
        "Twiml",
        "ApplicationSid",
        "FallbackUrl",
        "FallbackMethod",
        "StatusCallback",
        "StatusCallbackEvent",
        "StatusCallbackMethod",
        "Timeout",
        "TimeLimit",
        "SendDigits",
        "MachineDetection",
        "AsyncAmd",
        "AsyncAmdStatusCallback",
        "AsyncAmdStatusCallbackMethod",
    }
)
"""Parameters of a new call that only the bridge sets; an operator's own must not undo them."""

_Form = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class TwilioControlOptions:
    """Where Twilio finds us, and how fast calls are placed."""

    callback_base: str
    """Scheme, host and path prefix in front of ``/twilio/...`` of the webhooks, without trailing slash."""
    stream_url: str
    """``wss://`` URL of the media socket."""
    caller_id: str = ""
    """Number of ours to call humans from where the caller came by SIP and not to a number."""
    pace: PaceOptions = field(default_factory=PaceOptions)
    """Of each account."""


class TwilioControl:
    """Twilio's control client; see ``CarrierControl`` for the contract. ``aclose`` closes ``rest`` too."""

    def __init__(
        self,
        rest: TwilioRest,
        options: TwilioControlOptions,
        *,
        new_pace: Callable[[PaceOptions], CallPace] = CallPace,
    ) -> None:
        self._rest = rest
        self._options = options
        self._new_pace = new_pace
        self._paces: dict[str, CallPace] = {}  # by account: a handful

    @property
    def transfers(self) -> frozenset[TransferKind]:
        """See ``CarrierControl.transfers``."""
        if not self._rest.options.ready:
            return frozenset()
        return frozenset({TransferKind.BLIND, TransferKind.WARM, TransferKind.REFER})

    @property
    def tones(self) -> ToneWay:
        """See ``CarrierControl.tones``."""
        return ToneWay.EXCURSION if self._rest.options.ready else ToneWay.NONE

    # --- the caller's leg ---

    @property
    def transfers_keep_stream(self) -> bool:
        """See ``CarrierControl``."""
        return False

    async def hang_up(self, line: Line) -> None:
        """See ``CarrierControl.hang_up``."""
        await self._end(line, line.call_sid)

    async def play_tones(self, line: Line, digits: str, comeback: Comeback | None) -> None:
        """See ``CarrierControl.play_tones``: the stream ends, the keys are pressed, a new stream comes."""
        if comeback is None:
            raise LocalError("Twilio needs a comeback: pressing keys ends the media stream")
        document = self._stream_again(comeback, digits, with_numbers=True)
        if len(document) > twilio_twiml.MAX_TWIML_CHARS:  # the token's claims hold the numbers as well
            document = self._stream_again(comeback, digits, with_numbers=False)
        await self._run(line, document)

    async def transfer(self, line: Line, order: TransferOrder, whisper: Whisper) -> None:
        """See ``CarrierControl.transfer``. The webhook of ``action`` connects the stream again."""
        match order.kind:
            case TransferKind.BLIND:
                await self._run(line, self._dial(line, order, whisper))
            case TransferKind.REFER:
                await self._run(line, self._refer(line, order, whisper))
            case _:
                raise LocalError(f"a transfer of kind {order.kind.value} is not made in one step")

    async def say_and_hang_up(self, line: Line, words: str, language: str = "") -> None:
        """Say something in Twilio's voice and end the call, e.g. to a voicemail box. Beyond the common contract."""
        await self._run(line, twilio_twiml.say_and_hang_up(words, language))

    # --- the human of a warm transfer ---

    async def ring_human(self, line: Line, order: TransferOrder, whisper: Whisper) -> str:
        """See ``CarrierControl.ring_human``; goes before calls that nobody waits for."""
        own = self._own_number(line)
        if not own:
            raise ControlError(ControlFault.REFUSED, "there is no number of ours to call the human from")
        form: _Form = [
            ("To", order.target),
            ("From", own),
            ("Url", self._transfer_url("whisper", whisper)),
            *self._status(self._transfer_url("human", whisper)),
            ("Timeout", str(twilio_twiml.ring_seconds(whisper.ring_s))),
        ]
        if order.post_dial_digits:
            form.append(("SendDigits", _send_digits(order.post_dial_digits)))
        elif whisper.detect_machine:
            form += _detection("Enable", self._transfer_url("amd", whisper))
        return await self._create(form, line.account_id, urgent=True)

    async def join(self, line: Line, human_sid: str, order: TransferOrder, whisper: Whisper, words: str) -> None:
        """See ``CarrierControl.join``: the human is in the conference already, by the answer to their acceptance."""
        document = twilio_twiml.caller_joins(whisper.transfer_id, words=words, language=whisper.language)
        await self._run(line, document)

    async def drop_human(self, line: Line, human_sid: str) -> None:
        """See ``CarrierControl.drop_human``."""
        await self._end(line, human_sid)

    # --- a new call ---

    async def place(self, order: OutboundOrder) -> str:
        """See ``CarrierControl.place``: waits for its turn first."""
        taken = sorted({name for name, _ in order.extra} & _OURS)
        if taken:
            raise ControlError(ControlFault.REFUSED, f"the bridge itself sets {', '.join(taken)}")
        form: _Form = [
            ("To", order.to_number),
            ("From", order.from_number),
            ("Url", self._call_url("/twilio/voice", order)),
            ("FallbackUrl", self._options.callback_base + "/twilio/fallback"),
            *self._status(self._call_url("/twilio/status", order)),
            ("Timeout", str(twilio_twiml.ring_seconds(order.ring_s))),
        ]
        if order.max_duration_s is not None:
            form.append(("TimeLimit", str(order.max_duration_s)))
        if order.send_digits:
            form.append(("SendDigits", _send_digits(order.send_digits)))
        elif order.detect_machine != "off":
            mode = _DETECTIONS.get(order.detect_machine)
            if mode is None:
                raise LocalError(f"detect_machine is {order.detect_machine!r}; known are off, {', '.join(_DETECTIONS)}")
            form += _detection(mode, self._call_url("/twilio/amd", order))
        return await self._create([*form, *order.extra], "", urgent=False)

    async def aclose(self) -> None:
        """See ``CarrierControl.aclose``."""
        await self._rest.aclose()

    # --- inside ---

    async def _end(self, line: Line, call_sid: str) -> None:
        try:
            await self._rest.update_call(
                call_sid, [("Status", "completed")], account_sid=line.account_id, repeatable=True
            )
        except ControlError as error:
            if error.fault is not ControlFault.GONE:
                raise

    async def _run(self, line: Line, document: str) -> None:
        """Have the caller's leg go on with this document."""
        if len(document) > twilio_twiml.MAX_TWIML_CHARS:
            raise ControlError(ControlFault.REFUSED, "the TwiML would be longer than Twilio takes")
        await self._rest.update_call(line.call_sid, [("Twiml", document)], account_sid=line.account_id)

    async def _create(self, form: _Form, account_sid: str, *, urgent: bool) -> str:
        if not self._rest.options.ready:  # nobody waits for a turn that leads nowhere
            raise ControlError(ControlFault.REFUSED, "no credentials for Twilio's REST API are set")
        account = account_sid or self._rest.options.account_sid
        pace = self._paces.get(account)
        if pace is None:
            pace = self._paces[account] = self._new_pace(self._options.pace)
        await pace.turn(urgent=urgent)
        return await self._rest.create_call(form, account_sid=account)

    def _stream_again(self, comeback: Comeback, digits: str, *, with_numbers: bool) -> str:
        parameters = {twilio.PARAM_TOKEN: comeback.token}
        if with_numbers:
            parameters |= {twilio.PARAM_CALLER: comeback.caller, twilio.PARAM_CALLED: comeback.called}
        base = self._options.callback_base
        return twilio_twiml.connect_stream(
            self._options.stream_url,
            parameters,
            base + "/twilio/fallback",
            status_url=base + "/twilio/status",
            play_digits=digits,
        )

    def _dial(self, line: Line, order: TransferOrder, whisper: Whisper) -> str:
        if order.is_sip and order.post_dial_digits:
            raise ControlError(ControlFault.REFUSED, "keys after dialling work with phone numbers only")
        return twilio_twiml.dial_blind(
            order.target,
            action_url=self._transfer_url("action", whisper),
            status_url=self._transfer_url("human", whisper),
            ring_s=whisper.ring_s,
            caller_id=self._own_number(line),
            words=order.client_message,
            language=whisper.language,
            send_digits=order.post_dial_digits,
        )

    def _refer(self, line: Line, order: TransferOrder, whisper: Whisper) -> str:
        if not twilio_twiml.is_sip(line.caller):
            raise ControlError(ControlFault.REFUSED, "SIP REFER works with SIP callers only; this one came by phone")
        if not order.is_sip:
            raise ControlError(ControlFault.REFUSED, "SIP REFER needs the address of a SIP phone")
        return twilio_twiml.refer(
            order.target,
            action_url=self._transfer_url("action", whisper),
            words=order.client_message,
            language=whisper.language,
        )

    def _own_number(self, line: Line) -> str:
        return line.called if _OWN_NUMBER.fullmatch(line.called) else self._options.caller_id

    def _transfer_url(self, step: str, whisper: Whisper) -> str:
        return f"{self._options.callback_base}/twilio/transfer/{step}?id={quote(whisper.transfer_id, safe='')}"

    def _call_url(self, path: str, order: OutboundOrder) -> str:
        return f"{self._options.callback_base}{path}?call={quote(order.call_id, safe='')}"

    def _status(self, url: str) -> _Form:
        return [("StatusCallback", url), *(("StatusCallbackEvent", event) for event in _EVENTS)]


def _detection(mode: str, url: str) -> _Form:
    return [("MachineDetection", mode), ("AsyncAmd", "true"), ("AsyncAmdStatusCallback", url)]


def _send_digits(digits: str) -> str:
    if len(digits) > MAX_SEND_DIGITS:
        raise ControlError(ControlFault.REFUSED, f"Twilio presses {MAX_SEND_DIGITS} keys after dialling at most")
    return digits
