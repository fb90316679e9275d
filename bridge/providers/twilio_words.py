"""The sentences that Twilio's own voice says for us, and how Twilio writes the languages they are in.

A small table, not a translation service: where a language is missing, the sentence and the voice are English, so that
both fit. Source of the tags: Twilio "TwiML Say", attribute ``language``, read 2026-11-21.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

ENGLISH = "en-US"
"""Twilio's default voice; also for languages that are missing here."""

_TAGS = {
    "ca": ("ca-ES",),
    "da": ("da-DK",),
    "de": ("de-DE",),
    "en": ("en-US", "en-AU", "en-CA", "en-GB", "en-IN"),
    "es": ("es-ES", "es-MX"),
    "fi": ("fi-FI",),
    "fr": ("fr-FR", "fr-CA"),
    "it": ("it-IT",),
    "ja": ("ja-JP",),
    "ko": ("ko-KR",),
    "nb": ("nb-NO",),
    "nl": ("nl-NL",),
    "no": ("nb-NO",),
    "pl": ("pl-PL",),
    "pt": ("pt-PT", "pt-BR"),
    "ru": ("ru-RU",),
    "sv": ("sv-SE",),
    "zh": ("zh-CN", "zh-HK", "zh-TW"),
}
"""Languages of Twilio's default voices; the first tag stands for the language as such."""

_FULL_TAG = re.compile(r"([A-Za-z]{2,3})[-_]([A-Za-z]{2})")


class Phrase(enum.Enum):
    """What there is to say."""

    APOLOGY = "apology"
    """To the caller, when the call broke."""
    CALLER_GONE = "caller_gone"
    """To the human who wanted to take a caller that is no longer there."""
    PRESS_KEY = "press_key"
    """To the human, who must press ``{key}`` to take the caller."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """Words, and the language that Twilio says them in."""

    words: str
    language: str


_PHRASES: dict[str, dict[Phrase, str]] = {
    "en": {
        Phrase.APOLOGY: "We are sorry, a technical problem came up. Please call again later.",
        Phrase.CALLER_GONE: "The caller is no longer on the line. Goodbye.",
        Phrase.PRESS_KEY: "To take the call, press {key}.",
    },
    "de": {
        Phrase.APOLOGY: "Es tut uns leid, es gab ein technisches Problem. Bitte rufen Sie später noch einmal an.",
        Phrase.CALLER_GONE: "Der Anrufer ist nicht mehr in der Leitung. Auf Wiederhören.",
        Phrase.PRESS_KEY: "Um den Anruf anzunehmen, drücken Sie {key}.",
    },
    "fr": {
        Phrase.APOLOGY: "Nous sommes désolés, un problème technique est survenu. Veuillez rappeler plus tard.",
        Phrase.CALLER_GONE: "La personne qui appelait n'est plus en ligne. Au revoir.",
        Phrase.PRESS_KEY: "Pour prendre l'appel, appuyez sur {key}.",
    },
    "es": {
        Phrase.APOLOGY: "Lo sentimos, se ha producido un problema técnico. Por favor, vuelva a llamar más tarde.",
        Phrase.CALLER_GONE: "La persona que llamaba ya no está en la línea. Adiós.",
        Phrase.PRESS_KEY: "Para aceptar la llamada, pulse {key}.",
    },
    "it": {
        Phrase.APOLOGY: "Siamo spiacenti, si è verificato un problema tecnico. La preghiamo di richiamare più tardi.",
        Phrase.CALLER_GONE: "La persona che chiamava non è più in linea. Arrivederci.",
        Phrase.PRESS_KEY: "Per accettare la chiamata, prema {key}.",
    },
    "pt": {
        Phrase.APOLOGY: "Lamentamos, ocorreu um problema técnico. Por favor, ligue novamente mais tarde.",
        Phrase.CALLER_GONE: "A pessoa que ligou já não está na linha. Adeus.",
        Phrase.PRESS_KEY: "Para aceitar a chamada, pressione {key}.",
    },
    "nl": {
        Phrase.APOLOGY: "Het spijt ons, er is een technisch probleem opgetreden. Bel later alstublieft nog eens.",
        Phrase.CALLER_GONE: "De beller is niet meer aan de lijn. Tot ziens.",
        Phrase.PRESS_KEY: "Druk op {key} om het gesprek aan te nemen.",
    },
    "pl": {
        Phrase.APOLOGY: "Przepraszamy, wystąpił problem techniczny. Prosimy zadzwonić później.",
        Phrase.CALLER_GONE: "Osoba dzwoniąca nie jest już na linii. Do widzenia.",
        Phrase.PRESS_KEY: "Aby odebrać połączenie, naciśnij {key}.",
    },
}

_STAR_AND_HASH = {
    "en": ("star", "pound"),
    "de": ("Stern", "Raute"),
    "fr": ("étoile", "dièse"),
    "es": ("asterisco", "almohadilla"),
    "it": ("asterisco", "cancelletto"),
    "pt": ("asterisco", "cardinal"),
    "nl": ("sterretje", "hekje"),
    "pl": ("gwiazdkę", "krzyżyk"),
}
"""What the keys * and # are called: a voice would read their signs in ways of its own."""


def say_language(language: str) -> str:
    """A language as Twilio's ``<Say>`` writes it: ``de`` and ``de-de`` become ``de-DE``.

    A full tag that is not known passes, because Twilio may know it; anything else gives an empty text, which stands
    for Twilio's default.
    """
    tags = _TAGS.get(language.lower())
    if tags:
        return tags[0]
    full = _FULL_TAG.fullmatch(language)
    return f"{full[1].lower()}-{full[2].upper()}" if full else ""


def spoken(phrase: Phrase, language: str = "", *, key: str = "") -> Spoken:
    """A sentence in this language, or in English where it is missing. ``key`` is the one of ``PRESS_KEY``."""
    tag = say_language(language) or ENGLISH
    base = tag.partition("-")[0]
    if base not in _PHRASES:
        tag, base = ENGLISH, "en"
    star, hash_sign = _STAR_AND_HASH[base]
    name = {"*": star, "#": hash_sign}.get(key, key)
    return Spoken(_PHRASES[base][phrase].replace("{key}", name), tag)
