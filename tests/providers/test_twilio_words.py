"""The sentences of Twilio's voice, and its languages."""

from __future__ import annotations

import pytest

from bridge.providers import twilio_words
from bridge.providers.twilio_words import Phrase, Spoken, say_language, spoken


@pytest.mark.parametrize(
    ("language", "tag"),
    [
        ("de", "de-DE"),
        ("DE", "de-DE"),
        ("de-de", "de-DE"),
        ("de_AT", "de-AT"),
        ("pt", "pt-PT"),
        ("pt-br", "pt-BR"),
        ("no", "nb-NO"),
        ("fil-ph", "fil-PH"),
        ("tlh", ""),
        ("", ""),
        ("de-DE-1996", ""),
        ('de" voice="x', ""),
    ],
)
def test_languages_as_twilio_writes_them(language: str, tag: str) -> None:
    assert say_language(language) == tag


@pytest.mark.parametrize(
    ("phrase", "language", "words", "tag"),
    [
        (
            Phrase.APOLOGY,
            "",
            "We are sorry, a technical problem came up. Please call again later.",
            "en-US",
        ),
        (Phrase.APOLOGY, "en-gb", "We are sorry, a technical problem came up. Please call again later.", "en-GB"),
        (Phrase.APOLOGY, "ja", "We are sorry, a technical problem came up. Please call again later.", "en-US"),
        (Phrase.CALLER_GONE, "pl", "Osoba dzwoniąca nie jest już na linii. Do widzenia.", "pl-PL"),
        (Phrase.CALLER_GONE, "pt-BR", "A pessoa que ligou já não está na linha. Adeus.", "pt-BR"),
    ],
)
def test_sentences_and_their_voice_fit(phrase: Phrase, language: str, words: str, tag: str) -> None:
    assert spoken(phrase, language) == Spoken(words, tag)


@pytest.mark.parametrize(
    ("key", "language", "words"),
    [
        ("1", "en", "To take the call, press 1."),
        ("*", "en", "To take the call, press star."),
        ("#", "fr", "Pour prendre l'appel, appuyez sur dièse."),
        ("#", "tlh", "To take the call, press pound."),
    ],
)
def test_the_key_has_a_name(key: str, language: str, words: str) -> None:
    assert spoken(Phrase.PRESS_KEY, language, key=key).words == words


def test_every_language_has_every_sentence_and_a_voice() -> None:
    assert set(twilio_words._PHRASES) == {"en", "de", "fr", "es", "it", "pt", "nl", "pl"}
    for language, phrases in twilio_words._PHRASES.items():
        assert set(phrases) == set(Phrase)
        assert "{key}" in phrases[Phrase.PRESS_KEY]
        assert say_language(language).startswith(language + "-")
        assert len(twilio_words._STAR_AND_HASH[language]) == 2
