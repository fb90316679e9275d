"""What of a flight record a stranger may not read: one-time tokens, keys, and as the operator wants it digits and
phone numbers. Pure.

JSON is cleaned by the names of its members, at any depth; what is no JSON (a message cut short, garbage) by the same
names as they stand in the text. What is blanked keeps its place and its type, so that the record can be replayed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from bridge.calls.redact import MASK, redact_document, redact_text

ELIDED = "[elided]"
"""Stands for a secret."""

NO_DIGIT = "0"
"""Stands for every key that was pressed."""

_HIDDEN_MEMBERS = (
    "token|access_token|refresh_token|authorization|api_key|apikey|x-api-key|xi-api-key|secret|client_secret|password|"
    "signature|signed_url|conversation_signature|jwt|cookie"
)
_DIGIT_NAMES = "digit|digits|dtmf|dtmf_tones|post_dial_digits"
_SECRET = re.compile(rf"(?:{_HIDDEN_MEMBERS}|secret__.*)", re.IGNORECASE)
"""``secret__`` marks dynamic variables that the vendor's own tools keep to themselves."""
_DIGIT = re.compile(_DIGIT_NAMES, re.IGNORECASE)
_SECRET_IN_TEXT = re.compile(rf'("(?:{_HIDDEN_MEMBERS}|secret__[^"]{{0,80}})"\s*:\s*")[^"]*', re.IGNORECASE)
_DIGIT_IN_TEXT = re.compile(rf'("(?:{_DIGIT_NAMES})"\s*:\s*")[^"]*', re.IGNORECASE)
_KEY_IN_TEXT = re.compile(r"\bsk_[A-Za-z0-9]{8,}|\b[Bb]earer\s+[\w.~+/-]{8,}=*")
_QUERY_SECRET = re.compile(rf"([?&](?:{_HIDDEN_MEMBERS}|key|auth)=)[^&]*", re.IGNORECASE)

_HEADER_PREFIXES = ("audiohook-",)
"""Names of request headers that legs read; all others stay out."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Privacy:
    """The operator's choice, and the numbers of this call."""

    digits: bool = False
    """Keep pressed keys out."""
    numbers: bool = False
    """Mask phone numbers."""
    known: tuple[str, ...] = ()
    """The call's own numbers, masked wherever they stand."""

    def text(self, text: str) -> str:
        """A message or a remark. What needs no cleaning stays as it is, to the letter."""
        if not text.startswith(("{", "[")):
            return self._words(text)
        try:
            document = msgspec.json.decode(text)
            cleaned = self._document(document)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return self._words(text)
        return text if cleaned == document else msgspec.json.encode(cleaned).decode()

    def members(self, members: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a step, as JSON has them."""
        cleaned: dict[str, Any] = self._document(members)
        return cleaned

    def clean(self, struct: _T, kind: type[_T]) -> _T:
        """A whole struct."""
        return msgspec.convert(self._document(msgspec.to_builtins(struct)), kind)

    def path(self, raw_path: str) -> str:
        """Path and query of a request."""
        return _QUERY_SECRET.sub(rf"\g<1>{ELIDED}", raw_path)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Headers of a request."""
        kept = {name.lower(): value for name, value in headers.items()}
        return {name: value for name, value in sorted(kept.items()) if name.startswith(_HEADER_PREFIXES)}

    def _words(self, text: str) -> str:
        text = _SECRET_IN_TEXT.sub(rf"\g<1>{ELIDED}", _KEY_IN_TEXT.sub(ELIDED, text))
        if self.digits:
            text = _DIGIT_IN_TEXT.sub(rf"\g<1>{NO_DIGIT}", text)
        return redact_text(text, self.known) if self.numbers else text

    def _document(self, document: Any) -> Any:
        cleaned = self._members(document)
        return redact_document(cleaned, self.known) if self.numbers else cleaned

    def _members(self, value: Any) -> Any:
        if isinstance(value, str):
            return _KEY_IN_TEXT.sub(ELIDED, value)
        if isinstance(value, list):
            return [self._members(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {name: self._member(name, each) for name, each in value.items()}

    def _member(self, name: str, value: Any) -> Any:
        if isinstance(value, str) and value:
            if _SECRET.fullmatch(name):
                return ELIDED
            if self.digits and _DIGIT.fullmatch(name):
                return NO_DIGIT * len(value)
        return self._members(value)


def is_blanked(text: str) -> bool:
    """Whether something was taken out of this text."""
    return ELIDED in text or MASK in text
