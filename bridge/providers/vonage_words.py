"""The languages of Vonage's voices, and the sentences that they say for us.

A language is an agent's (``de``, ``pt-br``); Vonage wants the tag of one of its voices and takes American English for
none. Where a sentence of ours is missing in a language, sentence and voice are English, so that both fit.

Source: the SDK vonage-voice 1.5.1, ``TtsLanguageCode``, read 2026-11-21.
"""

from __future__ import annotations

from bridge.providers.twilio_words import Phrase, Spoken, spoken

TAGS = frozenset(
    {
        "ar", "ca-ES", "cmn-CN", "cmn-TW", "cs-CZ", "cy-GB", "da-DK", "de-DE", "el-GR", "en-AU",
        "en-GB", "en-GB-WLS", "en-IN", "en-US", "en-ZA", "es-ES", "es-MX", "es-US", "eu-ES", "fi-FI",
        "fil-PH", "fr-CA", "fr-FR", "he-IL", "hi-IN", "hu-HU", "id-ID", "is-IS", "it-IT", "ja-JP",
        "ko-KR", "nb-NO", "nl-NL", "no-NO", "pl-PL", "pt-BR", "pt-PT", "ro-RO", "ru-RU", "sk-SK",
        "sv-SE", "th-TH", "tr-TR", "uk-UA", "vi-VN", "yue-CN",
    }
)  # fmt: skip
"""Every language that a voice of Vonage's has."""

_BY_LOWER_CASE = {tag.lower(): tag for tag in TAGS}
_DEFAULTS = {
    "en": "en-US",
    "es": "es-ES",
    "fr": "fr-FR",
    "nn": "nb-NO",
    "no": "nb-NO",
    "pt": "pt-PT",
    "tl": "fil-PH",
    "zh": "cmn-CN",
    "zh-hk": "yue-CN",
    "zh-tw": "cmn-TW",
    "iw": "he-IL",
}
"""Languages with several voices, or of another name here; of all others the only voice stands for the language."""

_BUSY = {
    "en": "All our lines are busy. Please call again later.",
    "de": "Zurzeit sind alle Leitungen belegt. Bitte rufen Sie später noch einmal an.",
    "fr": "Toutes nos lignes sont occupées. Veuillez rappeler plus tard.",
    "es": "Todas nuestras líneas están ocupadas. Por favor, vuelva a llamar más tarde.",
    "it": "Tutte le linee sono occupate. La preghiamo di richiamare più tardi.",
    "pt": "Todas as nossas linhas estão ocupadas. Por favor, ligue novamente mais tarde.",
    "nl": "Al onze lijnen zijn bezet. Bel later alstublieft nog eens.",
    "pl": "Wszystkie linie są zajęte. Prosimy zadzwonić później.",
}
"""Vonage cannot refuse a call with the busy tone, so a voice says it."""


def voice_language(language: str) -> str:
    """The tag of a voice for this language: ``de``, ``de-de``, ``de_AT`` give ``de-DE``. Empty = Vonage's default."""
    wanted = language.strip().lower().replace("_", "-")
    base = wanted.partition("-")[0]
    for name in (wanted, base):
        found = _BY_LOWER_CASE.get(name) or _DEFAULTS.get(name)
        if found:
            return found
    return next((tag for tag in sorted(TAGS) if base and tag.lower().startswith(f"{base}-")), "")


def say_busy(language: str = "") -> Spoken:
    """That no line is free, in this language or in English, with the tag of a voice for it."""
    base = language.strip().lower().replace("_", "-").partition("-")[0]
    words = _BUSY.get(base)
    return Spoken(_BUSY["en"], voice_language("en")) if words is None else Spoken(words, voice_language(language))


def say(phrase: Phrase, language: str = "", *, key: str = "") -> Spoken:
    """A sentence of ours in this language, or in English, with the tag of a voice for it."""
    sentence = spoken(phrase, language, key=key)
    same = sentence.language.partition("-")[0] == language.strip().lower().replace("_", "-").partition("-")[0]
    return Spoken(sentence.words, voice_language(language if same else sentence.language))
