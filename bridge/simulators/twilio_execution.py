"""Carries out TwiML on one leg of the simulated Twilio cloud: fetches documents, follows verb after verb.

<Dial> and <Refer> are in ``twilio_dial``, media sockets in ``twilio_leg_stream``. What Twilio only warns of is noted
and passed over; what it cannot go on with ends the call, after the fallback URL had its chance.

Sources: Twilio docs "TwiML for Programmable Voice" (each verb), "<Gather>", read 2026-11-21.
"""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import Mapping

from bridge.media.format import ULAW_8K, Encoding, MediaFormat
from bridge.simulators.speech import convert
from bridge.simulators.twilio_cloud_media import MUSIC_HZ, QUIET, SAY_HZ, Player, key_tones, ulaw_tone
from bridge.simulators.twilio_conference import Conferences
from bridge.simulators.twilio_dial import dial, refer
from bridge.simulators.twilio_exchange import Exchange, first_of
from bridge.simulators.twilio_leg import CallStatus, Gathering, Leg
from bridge.simulators.twilio_leg_stream import open_stream
from bridge.simulators.twilio_step import Done, Source, Step
from bridge.simulators.twilio_webhooks import HTTP_FAILURE, INVALID_URL, Fetched, WebhookError
from bridge.simulators.twiml import TwimlError, Verb, read_twiml

MAX_DOCUMENTS = 50
"""TwiML documents followed in one go: a redirect loop ends here."""

MAX_LOOPS = 100
"""<Say loop="0"> is for ever on Twilio."""

PLAY_KIND, DIAL_IN_DIAL = 13420, 13201
UNKNOWN_AUDIO_MS = 1000
"""Length of audio that is not taken apart here (MP3): it is heard as a tone."""

_SILENT_VERBS = frozenset({"Reject", "Redirect", "Pause"})
"""Verbs that do not answer a call which rings."""


class Execution:
    """TwiML on one leg, until it has nothing more to say."""

    def __init__(self, exchange: Exchange, conferences: Conferences, leg: Leg, *, whisper: bool = False) -> None:
        """``whisper``: on the called leg of a <Dial>, before both are joined; its end does not end the call."""
        self.exchange, self.conferences, self.leg = exchange, conferences, leg
        self._whisper = whisper
        self._url = ""
        self._method = "POST"

    def for_callee(self, leg: Leg) -> Execution:
        """What runs on a leg that this one dials."""
        return Execution(self.exchange, self.conferences, leg, whisper=True)

    async def run(self, source: Source) -> None:
        """Follow documents to the end; hangs up afterwards, unless this is a whisper that came to its end."""
        step: Step = source
        documents = 0
        while isinstance(step, Source):
            documents += 1
            if documents > MAX_DOCUMENTS:
                self.exchange.violate(self.leg, HTTP_FAILURE, f"more than {MAX_DOCUMENTS} documents in one call")
                step = Done.HANG_UP
                break
            step = await self._document(step)
        if step is Done.HANG_UP or not self._whisper:
            self.exchange.end(self.leg, CallStatus.COMPLETED, "twiml")

    async def _document(self, source: Source) -> Step:
        """Fetch and carry out one document."""
        try:
            text = source.twiml or await self._fetch(source)
            verbs, problems = read_twiml(text or "<Response/>", self._url)
        except (WebhookError, TwimlError) as error:
            return self._failed(error)
        for problem in problems:
            self.exchange.violate(self.leg, problem.code, problem.text)
        for verb in verbs:
            step = await self._verb(verb)
            if step is not None:
                return step
        return None

    async def _fetch(self, source: Source) -> str:
        self._url, self._method = source.url, source.method
        fields = self.leg.fields() | dict(source.extra)
        return await self.exchange.webhooks.document(source.method, source.url, fields)

    def _failed(self, error: WebhookError | TwimlError) -> Step:
        facts = self.leg.facts
        self.exchange.violate(self.leg, error.code, error.text)
        if facts.fallback_url and self._url != facts.fallback_url:
            extra = {"ErrorCode": str(error.code), "ErrorUrl": self._url}
            return Source(facts.fallback_url, facts.fallback_method, extra)
        self.exchange.note(self.leg, "hears that an application error has occurred")
        return Done.HANG_UP

    async def _verb(self, verb: Verb) -> Step:
        """Carry out one verb."""
        self.leg.verbs.append(str(verb))
        if verb.name not in _SILENT_VERBS and not (verb.name == "Dial" and _true(verb, "answerOnBridge")):
            self.exchange.answer(self.leg)
        match verb.name:
            case "Say" | "Play" | "Pause":
                await self._sound(verb)
                return None
            case "Connect":
                return await self._connect(verb)
            case "Gather":
                return await self._gather(verb)
            case "Dial":
                return await self._dial(verb)
            case "Refer":
                return await refer(self, verb)
            case "Redirect":
                return Source(verb.text, verb.attributes.get("method", "POST"))
            case "Reject":
                return self._reject(verb)
        return Done.HANG_UP

    # --- sound -----------------------------------------------------------------------------------------------

    async def _sound(self, verb: Verb) -> None:
        if verb.name == "Pause":
            await asyncio.sleep(float(verb.attributes.get("length", "1")))
            return
        audio = self._say(verb.text) if verb.name == "Say" else await self.audio(verb)
        loops = int(verb.attributes.get("loop", "1")) or MAX_LOOPS
        await self._play(audio * loops)

    async def _play(self, audio: bytes) -> None:
        if not audio:
            return
        player = Player(audio)
        self.leg.media = player
        try:
            await first_of((player.done, self.leg.ended))
        finally:
            self.leg.media = QUIET

    def _say(self, words: str) -> bytes:
        self.leg.words.append(words)
        self.exchange.note(self.leg, f"hears: {words}")
        return ulaw_tone((SAY_HZ,), len(words) * self.exchange.options.say_ms_per_char)

    async def audio(self, verb: Verb) -> bytes:
        """The audio of a <Play> or <Say>, mu-law; empty where there is none."""
        if verb.name == "Say":
            return self._say(verb.text)
        if digits := verb.attributes.get("digits"):
            self.exchange.note(self.leg, f"hears the keys {digits}")
            return key_tones(digits)
        self.exchange.note(self.leg, "hears a recording")
        try:
            return _decoded(await self.exchange.webhooks.fetch("GET", verb.text, self.leg.fields()))
        except WebhookError as error:
            self.exchange.violate(self.leg, error.code, error.text)
        except ValueError:
            self.exchange.violate(self.leg, PLAY_KIND, "<Play> was not answered with audio")
        return b""

    # --- keys ------------------------------------------------------------------------------------------------

    async def _gather(self, verb: Verb) -> Step:
        gathering = self.leg.gathering = Gathering()
        self.exchange.note(self.leg, "is asked for keys")
        try:
            digits = await self._keys(verb, gathering)
        finally:
            self.leg.gathering = None
        if not digits and not _true(verb, "actionOnEmptyResult"):
            return None
        attributes = verb.attributes
        url = attributes.get("action") or self._url
        extra = {"Digits": digits, "msg": "Gather End" if digits else "Gather Timeout"}
        return self.go_to(url, attributes.get("method", self._method), extra)

    async def _keys(self, verb: Verb, gathering: Gathering) -> str:
        """What is pressed, without the key that finishes it."""
        attributes = verb.attributes
        wanted = int(attributes.get("numDigits", "0"))
        finish = attributes.get("finishOnKey", "#")
        timeout_s = float(attributes.get("timeout", "5"))
        prompt = asyncio.create_task(self._prompt(verb.inner))
        pressed = asyncio.create_task(gathering.pressed.wait())
        try:
            await asyncio.wait({prompt, pressed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (prompt, pressed):
                task.cancel()
            await asyncio.wait({prompt, pressed})
        taken = ""
        while await first_of((gathering.pressed,), timeout_s) is not None:
            gathering.pressed.clear()
            keys, gathering.digits = gathering.digits, []
            for key in keys:
                if key == finish:
                    return taken
                taken += key
                if len(taken) == wanted:
                    return taken
        return taken

    async def _prompt(self, verbs: tuple[Verb, ...]) -> None:
        for verb in verbs:
            self.leg.verbs.append(str(verb))
            await self._sound(verb)

    # --- elsewhere -------------------------------------------------------------------------------------------

    def go_to(self, url: str, method: str, extra: Mapping[str, str]) -> Step:
        """Go on with the document at ``url``, an ``action``; the call ends where it is no URL."""
        if not url.startswith(("http://", "https://")):
            self.exchange.violate(self.leg, INVALID_URL, "an action is no absolute URL")
            return Done.HANG_UP
        return Source(url, method, extra)

    async def _connect(self, verb: Verb) -> Step:
        if verb.stream is not None:
            stream = await open_stream(self.exchange, self.leg, verb.stream)
            if stream is not None:
                await stream.hold()
        if action := verb.attributes.get("action"):
            return self.go_to(action, verb.attributes.get("method", "POST"), {})
        return None

    async def _dial(self, verb: Verb) -> Step:
        if self._whisper:
            self.exchange.violate(self.leg, DIAL_IN_DIAL, "<Dial> on a leg that is being dialled")
            return None
        return await dial(self, verb)

    def _reject(self, verb: Verb) -> Step:
        if self.leg.live:
            self.exchange.violate(self.leg, 12200, "<Reject> on a call that is answered already")
            return Done.HANG_UP
        busy = verb.attributes.get("reason", "rejected") == "busy"
        self.leg.sip_code = 486 if busy else 603
        self.exchange.end(self.leg, CallStatus.BUSY if busy else CallStatus.NO_ANSWER, "twiml")
        return Done.HANG_UP


def _true(verb: Verb, attribute: str) -> bool:
    return verb.attributes.get(attribute) == "true"


def _decoded(fetched: Fetched) -> bytes:
    """Audio as mu-law. Raises ``ValueError`` for what is none."""
    if not fetched.kind.startswith("audio/"):
        raise ValueError(f"content type {fetched.kind[:40]!r}")
    if fetched.kind == "audio/basic":
        return fetched.content
    if not fetched.content.startswith(b"RIFF"):
        return ulaw_tone((MUSIC_HZ,), UNKNOWN_AUDIO_MS)
    try:
        with wave.open(io.BytesIO(fetched.content)) as file:
            source = MediaFormat(Encoding.L16, file.getframerate(), file.getnchannels())
            pcm = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError("no WAV") from error
    if source.channels != 1:
        raise ValueError("more than one channel")
    return convert(pcm, source, ULAW_8K)
