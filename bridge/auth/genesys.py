"""Genesys' upgrade request: API key, organization and HTTP message signature.

What it is: a pure verifier of the request that opens an AudioHook session and, for the simulators, its signer. What
it is not: the check of the ``open`` message against these headers, which is the leg's.

Sources: RFC 9421 (HTTP Message Signatures; Genesys follows draft 11, which agrees with it in all that is used here),
RFC 8941 (structured fields), and Genesys' AudioHook reference implementation (``signature-builder.ts``,
``signature-verifier.ts``, ``authenticator.ts``), whose test vector the tests hold. The rules:

- ``X-API-KEY`` is always there and one of ours. With a client secret set, the request must be signed as well;
  without one, a signed request is refused, because nobody could tell whether it is genuine.
- Exactly one signature, HMAC-SHA256 with the base64-decoded client secret. It covers these six components, each once,
  in any order, and nothing else: ``@request-target``, ``@authority``, the three ``audiohook-*-id`` and ``x-api-key``.
  The signed text is built in the order of ``Signature-Input``: Genesys' own client and its service differ in it.
- Parameters are ``keyid`` (the same as ``X-API-KEY``), ``nonce``, ``created``, ``expires`` and optionally ``alg``, each
  once, and no others. A text that was signed is good for ``MAX_AGE_S`` and works once.
- ``@authority`` is the host of PUBLIC_URL, never merely what the Host header says: a request that was signed for
  another machine of the same operator must not be good here. The Host header counts only where it names this machine
  itself (``localhost``, 127.0.0.0/8, ``[::1]``), for trials; nobody can catch such a request on its way.
- ``@request-target`` is path and query exactly as on the request line, with and without the path prefix of PUBLIC_URL,
  because a proxy may have cut that off. Each candidate still needs the secret, so trying them weakens nothing.

Why not the package http-message-signatures, the oracle of the tests: it verifies what the peer chose to sign, so the
six components, the candidates and every rule above would be written around it all the same.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bridge.errors import LocalError

API_KEY_HEADER = "x-api-key"
ORGANIZATION_HEADER = "audiohook-organization-id"
SESSION_HEADER = "audiohook-session-id"
CORRELATION_HEADER = "audiohook-correlation-id"
INPUT_HEADER, SIGNATURE_HEADER = "signature-input", "signature"

_ID_HEADERS = (ORGANIZATION_HEADER, SESSION_HEADER, CORRELATION_HEADER)
COMPONENTS = ("@request-target", "@authority", *_ID_HEADERS, API_KEY_HEADER)
"""What a signature must cover, in the order of Genesys' own client."""

MAX_AGE_S = 10
"""How long after ``created`` a signature is good, as in Genesys' reference server: a slow handshake, not more."""
CLOCK_SKEW_S = 3
"""How far ``created`` may lie in the future: the clocks of two machines, as in Genesys' reference server."""
MIN_NONCE_CHARS = 22
"""128 bits in base64 without padding."""
MAX_HEADER_CHARS = 4096
"""Of a signature header; real ones have 400."""
NONCES_REMEMBERED = 100_000
"""A nonce is kept for MAX_AGE_S, so this is for ten thousand genuine upgrades a second."""

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
# RFC 8941, 3.2 and 3.1.1, as far as a good request goes: one member, an inner list of plain strings, parameters that
# are strings or integers. Whatever else the grammar allows is nothing that Genesys signs.
_INPUT = re.compile(r' *([a-z*][a-z0-9_.*-]*)=\(((?: *"[!#-\[\]-~]*")*) *\)((?:;.*)?)')
_COMPONENT = re.compile(r'"([^"]*)"( *)')
_PARAMETER = re.compile(r'; *([a-z*][a-z0-9_.*-]*)=(?:("(?:[ !#-\[\]-~]|\\["\\])*")|(-?[0-9]{1,15})(?![0-9.]))')
_SIGNATURE = re.compile(r" *([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}): *")
_PORT = re.compile(r":[0-9]+\Z")
_STRINGS, _INTEGERS = frozenset({"keyid", "nonce", "alg"}), frozenset({"created", "expires"})
_NEEDED = (_STRINGS | _INTEGERS) - {"alg"}
_ALGORITHM = "hmac-sha256"
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class GenesysKeys:
    """Who may open a session. Each ring may hold several while one is rotated; empty texts count as absent."""

    api_keys: tuple[str, ...] = field(repr=False)
    client_secrets: tuple[str, ...] = field(default=(), repr=False)
    """Base64, padded or not. None = requests need no signature."""
    organization_ids: tuple[str, ...] = ()
    """Organizations that are let in; none = any that has the key."""


def decode_secret(text: str) -> bytes:
    """The bytes of a client secret. Raises ``ValueError``, without quoting it, where it is no base64."""
    unpadded = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        secret = base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not secret:
        raise ValueError("a client secret is base64 text, as Genesys shows it")
    return secret


class NonceBook:
    """The nonces of genuine requests, so that none works twice. Bounded; times are Unix seconds.

    By nonce and session together: Genesys was reported to reuse nonces across sessions, and a replay repeats both. It
    is the memory of one process; behind a load balancer a request could be replayed to each process once, within ten
    seconds, by somebody who reads the operator's TLS traffic.
    """

    __slots__ = ("_capacity", "_until_s")

    def __init__(self, capacity: int = NONCES_REMEMBERED) -> None:
        if capacity < 1:
            raise LocalError(f"a nonce book needs room, got capacity={capacity}")
        self._capacity = capacity
        self._until_s: dict[bytes, float] = {}  # by digest, in order of arrival, which is nearly that of expiry

    def __len__(self) -> int:
        return len(self._until_s)

    def use(self, nonce: str, session_id: str, until_s: float, unix_s: float) -> bool:
        """Use up this nonce of this session, remembering it until ``until_s``; False when it was used before."""
        book = self._until_s
        for expired in list(itertools.takewhile(lambda known: book[known] < unix_s, book)):
            del book[expired]
        digest = hashlib.sha256(f"{session_id.lower()} {nonce}".encode()).digest()
        if digest in book:
            return False
        if len(book) >= self._capacity:
            del book[next(iter(book))]
        book[digest] = until_s
        return True


# --- verify ----------------------------------------------------------------------------------------------


def verify_upgrade(
    keys: GenesysKeys,
    public_url: str,
    raw_path: str,
    headers: Mapping[str, str],
    unix_s: float,
    nonces: NonceBook,
) -> str:
    """Verify the upgrade request: empty text when genuine, otherwise the reason for the log.

    ``public_url`` is what Genesys was told, path prefix included and without a slash at its end; ``raw_path`` is path
    and query as they came; ``headers`` have lower-case names. Reasons hold no key, no signature and no value of the
    peer's. A genuine request's nonce is used up.
    """
    problem = _wrong_key(keys, headers) or _wrong_ids(keys, headers)
    if problem:
        return problem
    signed = [name for name in (INPUT_HEADER, SIGNATURE_HEADER) if name in headers]
    secrets = [secret for secret in keys.client_secrets if secret]
    if not signed:
        return "not signed although GENESYS_CLIENT_SECRET is set" if secrets else ""
    if not secrets:
        return "signed, but GENESYS_CLIENT_SECRET is not set, so the signature cannot be verified"
    if len(signed) == 1:
        return "only one of the headers Signature-Input and Signature"
    try:
        keyring = [decode_secret(secret) for secret in secrets]
    except ValueError as error:
        return f"GENESYS_CLIENT_SECRET cannot be used: {error}"
    try:
        claim = _parse(headers[INPUT_HEADER], headers[SIGNATURE_HEADER])
        _check_window(claim, headers, unix_s)
    except _NotSigned as error:
        return str(error)
    if not _is_genuine(claim, keyring, public_url, raw_path, headers):
        return "signature does not match; is PUBLIC_URL what Genesys was told, and the client secret the same?"
    until_s = claim.created_s + MAX_AGE_S
    return "" if nonces.use(claim.nonce, headers[SESSION_HEADER], until_s, unix_s) else "nonce used before"


def _wrong_key(keys: GenesysKeys, headers: Mapping[str, str]) -> str:
    known = [key for key in keys.api_keys if key]
    if not known:
        return "GENESYS_API_KEY is not set, so nobody is let in"
    given = _utf8(_value(headers, API_KEY_HEADER))
    if not given:
        return "no X-API-KEY header"
    genuine = False
    for key in known:  # all of them, so that the time taken tells nothing
        genuine |= hmac.compare_digest(_utf8(key), given)
    return "" if genuine else "X-API-KEY is not GENESYS_API_KEY"


def _wrong_ids(keys: GenesysKeys, headers: Mapping[str, str]) -> str:
    for name in _ID_HEADERS:
        if not _UUID.fullmatch(_value(headers, name)):
            return f"header {name} is missing or no UUID"
    allowed = {organization.strip().lower() for organization in keys.organization_ids} - {""}
    if allowed and _value(headers, ORGANIZATION_HEADER).lower() not in allowed:
        return "the organization is not one of GENESYS_ORGANIZATION_ID"
    return ""


class _NotSigned(Exception):
    """The signature headers break a rule; the text says which."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """What the two signature headers say."""

    components: tuple[str, ...]
    parameters: str
    """The signature's parameters as they are signed."""
    key_id: str
    nonce: str
    created_s: int
    expires_s: int
    signature: bytes


def _parse(signature_input: str, signature: str) -> _Claim:
    if max(len(signature_input), len(signature)) > MAX_HEADER_CHARS:
        raise _NotSigned(f"a signature header of more than {MAX_HEADER_CHARS} characters")
    match = _INPUT.fullmatch(signature_input)
    if match is None:
        raise _NotSigned("Signature-Input cannot be read as one list of components with parameters")
    label, listed, tail = match.groups()
    components = _components(listed)
    values, text = _parameters(tail)
    given = _SIGNATURE.fullmatch(signature)
    if given is None:
        raise _NotSigned("Signature cannot be read as one base64 value")
    if given[1] != label:
        raise _NotSigned("Signature and Signature-Input have different labels")
    return _Claim(
        components=components,
        parameters=text,
        key_id=_unquoted(values["keyid"]),
        nonce=_unquoted(values["nonce"]),
        created_s=int(values["created"]),
        expires_s=int(values["expires"]),
        signature=_digest(given[2]),
    )


def _components(listed: str) -> tuple[str, ...]:
    names: list[str] = []
    separated = True
    for match in _COMPONENT.finditer(listed.strip()):
        if not separated:
            raise _NotSigned("Signature-Input cannot be read as one list of components with parameters")
        names.append(match[1])
        separated = bool(match[2])
    if len(set(names)) != len(names):
        raise _NotSigned("a component is signed twice")
    if set(names) - set(COMPONENTS):
        raise _NotSigned("a component is signed that Genesys does not sign")
    missing = [name for name in COMPONENTS if name not in names]
    if missing:
        raise _NotSigned(f"not signed: {', '.join(missing)}")
    return tuple(names)


def _parameters(tail: str) -> tuple[dict[str, str], str]:
    """The parameters as they were written, and as they are signed: re-serialised, so that only one writing counts."""
    values: dict[str, str] = {}
    end = 0
    tail = tail.rstrip(" ")
    while end < len(tail):
        match = _PARAMETER.match(tail, end)
        if match is None:
            raise _NotSigned("the parameters of Signature-Input cannot be read")
        name, text, number = match.groups()
        if name in values:
            raise _NotSigned(f"the signature's parameter {name} is there twice")
        if name not in (_STRINGS if number is None else _INTEGERS):
            raise _NotSigned("a signature's parameter is unknown or of the wrong kind")
        values[name] = text if number is None else str(int(number))
        end = match.end()
    missing = sorted(_NEEDED - set(values))
    if missing:
        raise _NotSigned(f"the signature has no {', '.join(missing)}")
    if _unquoted(values.get("alg", f'"{_ALGORITHM}"')) != _ALGORITHM:
        raise _NotSigned(f"the signature's algorithm is not {_ALGORITHM}")
    return values, "".join(f";{name}={value}" for name, value in values.items())


def _digest(text: str) -> bytes:
    try:
        signature = base64.b64decode(text, validate=True)
    except binascii.Error:
        signature = b""
    if len(signature) != _DIGEST_BYTES:
        raise _NotSigned(f"the signature is not {_DIGEST_BYTES} bytes in base64")
    return signature


def _check_window(claim: _Claim, headers: Mapping[str, str], unix_s: float) -> None:
    """What must hold besides the signature's own value."""
    if len(claim.nonce) < MIN_NONCE_CHARS:
        raise _NotSigned(f"the signature's nonce has less than {MIN_NONCE_CHARS} characters")
    if not hmac.compare_digest(_utf8(claim.key_id), _utf8(_value(headers, API_KEY_HEADER))):
        raise _NotSigned("the signature's keyid is not X-API-KEY")
    if claim.created_s > unix_s + CLOCK_SKEW_S:
        raise _NotSigned("the signature was created in the future; is this machine's clock right?")
    if claim.created_s + MAX_AGE_S < unix_s:
        raise _NotSigned("the signature is too old; is this machine's clock right?")
    if claim.expires_s < unix_s:
        raise _NotSigned("the signature has expired; is this machine's clock right?")


def _is_genuine(
    claim: _Claim, keyring: list[bytes], public_url: str, raw_path: str, headers: Mapping[str, str]
) -> bool:
    genuine = False
    for authority in _authorities(public_url, _value(headers, "host")):
        for target in dict.fromkeys((urlsplit(public_url).path + raw_path, raw_path)):
            text = _signed_text(claim.components, claim.parameters, authority, target, headers)
            for secret in keyring:  # all of them, so that the time taken tells nothing
                genuine |= hmac.compare_digest(hmac.digest(secret, text, "sha256"), claim.signature)
    return genuine


def _authorities(public_url: str, host_header: str) -> list[str]:
    """The texts that ``@authority`` may have: PUBLIC_URL's host, without and with the scheme's own port."""
    parts = urlsplit(public_url.lower())
    public = parts.netloc.rpartition("@")[2]
    port = ":443" if parts.scheme in ("https", "wss") else ":80"
    found = [public.removesuffix(port), public if _PORT.search(public) else public + port]
    host = host_header.lower()
    if _names_this_machine(host):
        found.append(host)
    return list(dict.fromkeys(found))


def _names_this_machine(authority: str) -> bool:
    host = _PORT.sub("", authority)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# --- sign, for the simulators ------------------------------------------------------------------------------


def sign_upgrade(
    secret: str,
    authority: str,
    target: str,
    headers: Mapping[str, str],
    *,
    nonce: str,
    created_s: int,
    expires_s: int,
    components: Sequence[str] = COMPONENTS,
) -> dict[str, str]:
    """Sign an upgrade request as Genesys does; returns the two headers to add, with lower-case names.

    ``secret`` is the client secret in base64, ``target`` path and query as on the request line, ``headers`` the other
    headers with lower-case names.
    """
    key_id = _quoted(_value(headers, API_KEY_HEADER))
    parameters = (
        f";keyid={key_id};nonce={_quoted(nonce)};alg={_quoted(_ALGORITHM)};created={created_s};expires={expires_s}"
    )
    text = _signed_text(components, parameters, authority, target, headers)
    digest = base64.b64encode(hmac.digest(decode_secret(secret), text, "sha256")).decode("ascii")
    return {INPUT_HEADER: f"sig1={_listed(components)}{parameters}", SIGNATURE_HEADER: f"sig1=:{digest}:"}


def _signed_text(
    components: Sequence[str], parameters: str, authority: str, target: str, headers: Mapping[str, str]
) -> bytes:
    """RFC 9421, 2.5: the signature base."""
    derived = {"@request-target": target, "@authority": authority}
    lines = [f"{_quoted(name)}: {derived[name] if name in derived else _value(headers, name)}" for name in components]
    return _utf8("\n".join([*lines, f'"@signature-params": {_listed(components)}{parameters}']))


def _listed(components: Sequence[str]) -> str:
    return f"({' '.join(map(_quoted, components))})"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _unquoted(text: str) -> str:
    return re.sub(r'\\(["\\])', r"\1", text[1:-1])


def _value(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name, "").strip(" \t")


def _utf8(text: str) -> bytes:
    # Never raises, whatever the server's decoding of a hostile header left in the text.
    return text.encode("utf-8", "surrogatepass")
