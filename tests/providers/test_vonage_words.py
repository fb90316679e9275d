"""Languages of Vonage's voices."""

from __future__ import annotations

import pytest

from bridge.providers.twilio_words import Phrase
from bridge.providers.vonage_words import TAGS, say, say_busy, voice_language


@pytest.mark.parametrize(
    ("language", "tag"),
    [
        ("", ""),
        ("de", "de-DE"),
        ("DE", "de-DE"),
        ("de-de", "de-DE"),
        ("de_AT", "de-DE"),
        ("en", "en-US"),
        ("en-GB", "en-GB"),
        ("en-gb-wls", "en-GB-WLS"),
        ("en-NZ", "en-US"),
        ("es", "es-ES"),
        ("es-MX", "es-MX"),
        ("pt", "pt-PT"),
        ("pt-br", "pt-BR"),
        ("zh", "cmn-CN"),
        ("zh-TW", "cmn-TW"),
        ("zh-hk", "yue-CN"),
        ("no", "nb-NO"),
        ("sv", "sv-SE"),
        ("ar", "ar"),
        ("ar-EG", "ar"),
        ("fil", "fil-PH"),
        ("tl", "fil-PH"),
        ("iw", "he-IL"),
        ("xx", ""),
        ("-", ""),
        ("f", ""),
    ],
)
def test_a_voice_for_a_language(language: str, tag: str) -> None:
    assert voice_language(language) == tag


def test_the_tags_are_the_vendors() -> None:
    enums = pytest.importorskip("vonage_voice.models.enums")
    assert {code.value for code in enums.TtsLanguageCode} == TAGS


def test_sentence_and_voice_fit() -> None:
    german = say(Phrase.PRESS_KEY, "de-at", key="#")
    assert (german.words, german.language) == ("Um den Anruf anzunehmen, drücken Sie Raute.", "de-DE")
    british = say(Phrase.PRESS_KEY, "en-GB", key="1")
    assert (british.words, british.language) == ("To take the call, press 1.", "en-GB")
    unknown = say(Phrase.APOLOGY, "th")
    assert unknown.language == "en-US"
    assert unknown.words == say(Phrase.APOLOGY).words


def test_busy_in_words() -> None:
    for language, tag in (("en-GB", "en-GB"), ("de_AT", "de-DE"), ("pt-br", "pt-BR"), ("pl", "pl-PL")):
        assert say_busy(language).language == tag
    assert say_busy("de").words == "Zurzeit sind alle Leitungen belegt. Bitte rufen Sie später noch einmal an."
    for language in ("", "th"):
        english = say_busy(language)
        assert (english.words, english.language) == ("All our lines are busy. Please call again later.", "en-US")
