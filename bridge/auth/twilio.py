"""Twilio's request signature: who really sent this webhook or this media socket's upgrade request.

What it is: a pure verifier of ``X-Twilio-Signature`` and, for the simulators, its signer. What it is not: the
check of the one-time call token (``tokens``), which ties a media socket to one answered webhook.

Sources: Twilio docs, "Webhooks security" and "Media Streams"; the algorithm as in the Python SDK 9.13.0
(``twilio/request_validator.py``), which the tests use as the oracle. The rules:

- The signature is base64(HMAC-SHA1(auth token, text)). The text is the URL as Twilio requested it, followed by
  name and value of each form parameter, names sorted, distinct values of one name sorted, no separators.
- GET requests and WebSocket upgrades sign the URL only; of an upgrade that is the ``wss://`` URL of the TwiML.
- A body that is no form is covered by ``bodySHA256`` in the query, the hex SHA-256 of the raw body.
- With a SharedKey the header ``X-Twilio-Webhooks-Signature-Settings: key=ID,algorithm=HMAC_SHA256`` names the
  key and HMAC-SHA256 takes the place of HMAC-SHA1.
- Twilio is not consistent about the port in the text, so the URL is tried as written, without its port, and
  with the scheme's own port; and on upgrades with and without a slash at the path's end. All of these name the
  same host and resource, and each still needs the secret, so trying them weakens nothing.

The SDK gets three of them wrong, which is why it is not used here: it takes 80 as the port of ``wss``, it cuts
IPv6 hosts at their first colon, and it raises where the signature header is missing.

No downgrade: once SharedKeys are configured, a webhook must be signed with one of them; the auth token alone no
longer opens the door, whether the settings header is missing or asks for the weaker algorithm. Upgrades are no
webhooks, and Twilio documents the settings header for webhooks only, so an upgrade without it is still checked
against the auth tokens. That opens nothing: its call needs a one-time token, which only a webhook that passed
the strict rule can obtain.

Sub-accounts: each has an auth token of its own and signs with that. The webhook's ``AccountSid`` says whose token must
have signed it, so that the token of one account opens nothing of another. An upgrade names no account, so any of the
tokens may have signed it; its one-time token ties it to a webhook.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

SIGNATURE_HEADER = "x-twilio-signature"
SETTINGS_HEADER = "x-twilio-webhooks-signature-settings"
BODY_HASH_PARAMETER = "bodySHA256"
ACCOUNT_PARAMETER = "AccountSid"

_SHA1, _SHA256 = "HMAC_SHA1", "HMAC_SHA256"
_DEFAULT_PORT = {"https": "443", "wss": "443", "http": "80", "ws": "80"}
# Scheme, authority, path, rest. The URL is cut by hand because the signature covers its exact text, and
# urllib's split-and-join drops an empty query and lower-cases the scheme.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(.*)", re.DOTALL)
# Host and port; an IPv6 literal has colons of its own inside its brackets.
_HOST_PORT = re.compile(r"((?:.*@)?(?:\[[^\]]*\]|[^:@]*)):([0-9]+)", re.DOTALL)
_ACCOUNT_SID = re.compile(r"AC[0-9a-fA-F]{32}")
_BODY_HASH = re.compile(rf"[?&]{BODY_HASH_PARAMETER}=([^&]*)")
_SHOWN_CHARS = 120
"""How much of a peer's own text a reason quotes: enough to recognise, too little to flood the log."""


@dataclass(frozen=True, slots=True)
class TwilioKeys:
    """The secrets that may sign a request of Twilio's."""

    auth_tokens: tuple[str, ...] = field(repr=False)
    """Primary auth tokens: more than one while a token is rotated. Empty texts count as absent."""
    shared_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Secrets of SharedKeys by their id."""
    subaccount_tokens: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """Auth tokens of sub-accounts by their ``AC...`` id; all other accounts are looked for in ``auth_tokens``."""


def parse_shared_keys(entries: Iterable[str]) -> dict[str, str]:
    """Read ``id=secret`` texts. Raises ``ValueError``, without quoting the text, where one is not of that form."""
    keys: dict[str, str] = {}
    for number, entry in enumerate(entries, start=1):
        key_id, separator, secret = (part.strip() for part in entry.partition("="))
        if not (separator and key_id and secret):
            raise ValueError(f"entry {number} is not of the form id=secret")
        if key_id in keys:
            raise ValueError(f"entry {number} repeats the id of an earlier one")
        keys[key_id] = secret
    return keys


def parse_subaccount_tokens(entries: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Read ``AC...=token`` texts; an account that comes twice has two tokens, for as long as one is rotated.

    Raises ``ValueError``, without quoting the text, where one is not of that form.
    """
    tokens: dict[str, tuple[str, ...]] = {}
    for number, entry in enumerate(entries, start=1):
        account, separator, token = (part.strip() for part in entry.partition("="))
        if not (separator and token and _ACCOUNT_SID.fullmatch(account)):
            raise ValueError(f"entry {number} is not of the form AC...=token; give the subaccount's SID and auth token")
        tokens[account] = (*tokens.get(account, ()), token)
    return tokens


# --- verify ----------------------------------------------------------------------------------------------


def verify_webhook(
    keys: TwilioKeys,
    url: str,
    form: Sequence[tuple[str, str]],
    body: bytes,
    headers: Mapping[str, str],
) -> str:
    """Verify a webhook. Returns an empty text when it is genuine, otherwise the reason for the log.

    ``url`` is the public URL with path and query exactly as on the request line; ``form`` holds the form
    parameters of a POST, blank and repeated ones included (empty when the body is no form); ``body`` is the raw
    body; ``headers`` have lower-case names. Reasons hold no secret, no signature and no query.
    """
    uncovered = "" if form else _uncovered_body(url, body)
    if uncovered:
        return uncovered
    accounts = _accounts(url, form)
    if len(accounts) > 1:
        return f"more than one {ACCOUNT_PARAMETER}"
    tokens = keys.auth_tokens
    for account in accounts:
        tokens = keys.subaccount_tokens.get(account, tokens)
    problem, algorithm, secrets = _signing_keys(keys, tokens, headers, strict=True)
    if problem:
        return problem
    return _check(headers, [_signed_text(u, form) for u in _port_variants(url)], algorithm, secrets, url)


def verify_upgrade(keys: TwilioKeys, wss_url: str, headers: Mapping[str, str]) -> str:
    """Verify the upgrade request of a media socket: empty text when genuine, otherwise the reason for the log.

    ``wss_url`` is the public ``wss://`` (or ``ws://``) URL as in the TwiML; ``headers`` have lower-case names.
    """
    tokens = [*keys.auth_tokens, *(token for ring in keys.subaccount_tokens.values() for token in ring)]
    problem, algorithm, secrets = _signing_keys(keys, tokens, headers, strict=False)
    if problem:
        return problem
    texts = [u for ported in _port_variants(wss_url) for u in _slash_variants(ported)]
    return _check(headers, texts, algorithm, secrets, wss_url)


def _accounts(url: str, form: Sequence[tuple[str, str]]) -> set[str]:
    """The accounts that a webhook names, in its form and, as with GET, in its query."""
    match = _URL.fullmatch(url)
    query = match[4].partition("#")[0].removeprefix("?") if match else ""
    named = [*form, *parse_qsl(query, keep_blank_values=True)]
    return {value for name, value in named if name == ACCOUNT_PARAMETER}


def _signing_keys(
    keys: TwilioKeys, candidates: Iterable[str], headers: Mapping[str, str], *, strict: bool
) -> tuple[str, str, tuple[str, ...]]:
    """Choose (problem, algorithm, secrets that may have signed) by the settings header and the auth tokens."""
    settings = headers.get(SETTINGS_HEADER, "").strip()
    named = _parse_settings(settings)
    if named is None:
        return f"{SETTINGS_HEADER} cannot be read: {_shown(settings)}", "", ()
    key_id, algorithm = named
    if algorithm == _SHA256:
        secret = keys.shared_keys.get(key_id, "")
        if not secret:
            return f"signed with the SharedKey {_shown(key_id)}, which is not in TWILIO_SHARED_KEYS", "", ()
        return "", _SHA256, (secret,)
    if algorithm != _SHA1:
        return f"unknown signature algorithm {_shown(algorithm)}", "", ()
    if keys.shared_keys and (strict or settings):
        return "not signed with a SharedKey although TWILIO_SHARED_KEYS is set", "", ()
    tokens = tuple(token for token in candidates if token)
    return ("" if tokens else "TWILIO_AUTH_TOKEN is not set, so nothing can be verified"), _SHA1, tokens


def _parse_settings(settings: str) -> tuple[str, str] | None:
    """Read the settings header as (key id, algorithm); None when it is malformed.

    As in the SDK, a header that is absent or names no algorithm stands for the auth token's HMAC-SHA1.
    """
    found: dict[str, str] = {}
    for part in settings.split(",") if settings else []:
        name, separator, value = (text.strip() for text in part.partition("="))
        if not separator or name in found:  # a name given twice would leave the choice to chance
            return None
        found[name] = value
    return found.get("key", ""), found.get("algorithm", "").upper() or _SHA1


def _uncovered_body(url: str, body: bytes) -> str:
    """Say why the signature, which covers the URL only, does not vouch for this body; empty when it does."""
    claimed = _BODY_HASH.search(url)
    if claimed is None:
        return f"the body is no form and the URL has no {BODY_HASH_PARAMETER}" if body else ""
    actual = hashlib.sha256(body).hexdigest()
    matches = hmac.compare_digest(actual.encode(), _utf8(claimed[1]))
    return "" if matches else f"the body does not match {BODY_HASH_PARAMETER}"


def _check(headers: Mapping[str, str], texts: list[str], algorithm: str, secrets: tuple[str, ...], url: str) -> str:
    """Compare the signature with every candidate; all of them, so that the time taken tells nothing."""
    given = _utf8(headers.get(SIGNATURE_HEADER, "").strip())
    if not given:
        return "no X-Twilio-Signature header"
    genuine = False
    for secret in secrets:
        for text in texts:
            genuine |= hmac.compare_digest(_hmac(secret, text, algorithm).encode(), given)
    if genuine:
        return ""
    return f"signature does not match for URL {_loggable(url)}; is PUBLIC_URL what Twilio was told?"


# --- sign, for the simulators ------------------------------------------------------------------------------


def sign_webhook(token: str, url: str, form: Sequence[tuple[str, str]]) -> str:
    """Sign a webhook as Twilio does with an auth token: the value of ``X-Twilio-Signature``."""
    return _hmac(token, _signed_text(url, form), _SHA1)


def sign_upgrade(token: str, wss_url: str) -> str:
    """Sign the upgrade request of a media socket as Twilio does: the value of ``X-Twilio-Signature``."""
    return _hmac(token, wss_url, _SHA1)


def _signed_text(url: str, form: Sequence[tuple[str, str]]) -> str:
    # A set of pairs, sorted, is "each distinct name sorted, each distinct value of it sorted".
    return url + "".join(name + value for name, value in sorted(set(form)))


def _hmac(secret: str, text: str, algorithm: str) -> str:
    digest = hashlib.sha256 if algorithm == _SHA256 else hashlib.sha1
    return base64.b64encode(hmac.digest(_utf8(secret), _utf8(text), digest)).decode("ascii")


# --- URLs --------------------------------------------------------------------------------------------------


def _port_variants(url: str) -> list[str]:
    """The URL as written, without its port, and with its scheme's port where none is written."""
    match = _URL.fullmatch(url)
    if match is None:
        return [url]
    scheme, authority, path, rest = match.groups()
    with_port = _HOST_PORT.fullmatch(authority)
    if with_port:
        return [url, f"{scheme}://{with_port[1]}{path}{rest}"]
    port = _DEFAULT_PORT.get(scheme.lower())
    return [url, f"{scheme}://{authority}:{port}{path}{rest}"] if port else [url]


def _slash_variants(url: str) -> list[str]:
    """The URL as written and with the slash at its path's end added or taken away."""
    match = _URL.fullmatch(url)
    if match is None:
        return [url]
    scheme, authority, path, rest = match.groups()
    other = path[:-1] if path.endswith("/") else path + "/"
    return [url, f"{scheme}://{authority}{other}{rest}"]


def _loggable(url: str) -> str:
    """The URL without user and query: a GET webhook carries the callers' numbers in its query."""
    match = _URL.fullmatch(url)
    if match is None:
        return "that is no URL"
    return _shown(f"{match[1]}://{match[2].rpartition('@')[2]}{match[3]}", quote=False)


def _shown(text: str, *, quote: bool = True) -> str:
    clipped = text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
    quoted = ascii(clipped)
    return quoted if quote else quoted[1:-1]


def _utf8(text: str) -> bytes:
    # Never raises, whatever the server's decoding of a hostile header or form left in the text.
    return text.encode("utf-8", "surrogatepass")
