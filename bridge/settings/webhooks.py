"""Requests to the operator's own servers: personalization before a call, events during and after it."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, SecretStr

from bridge.calls.webhooks import ALL_EVENTS
from bridge.settings.base import (
    CommaList,
    Headers,
    Lower,
    Number,
    TargetUrl,
    Topic,
    parse_headers,
    pieces,
    ring,
    setting,
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _events(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in ALL_EVENTS]
    if unknown:
        raise ValueError(f"names {unknown[0][:40]!r}, which is no event; choose from {', '.join(ALL_EVENTS)}")
    return tuple(dict.fromkeys(names))


def _networks(value: object) -> object:
    return tuple(_network(text) for text in pieces(value)) if isinstance(value, str) else value


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"holds {text[:60]!r}, which is no network or address; give a list such as 10.1.0.0/16, 127.0.0.1"
        ) from None
    raise ValueError(f"holds {text!r}, which has bits beyond its prefix; did you mean {meant}?")


class PersonalizationSettings(Topic):
    """Personalization webhook."""

    personalization_url: TargetUrl | None = setting(
        None,
        "Asked at the beginning of each call for the agent's variables and overrides: the vendor's contract (`caller_"
        "id`, `agent_id`, `called_number`, `call_sid` in, `conversation_initiation_client_data` out). Unset: none.",
    )
    personalization_headers: Headers | None = setting(
        None, 'Headers of that request as a JSON object, for its password: `{"X-Api-Key": "..."}`.'
    )
    personalization_timeout_s: Number = setting(
        3, "How long the answer may take, from the moment the carrier tells of the call; the caller waits meanwhile.",
        unit="s", gt=0, le=30,
    )  # fmt: skip
    personalization_on_failure: Annotated[Literal["continue", "fallback"], Lower] = setting(
        "continue",
        "Without a good answer in time: `continue` = talk with the agent's defaults, `fallback` = end the call, and "
        "the carrier's fallback takes over.",
    )

    @property
    def personalization_header_map(self) -> dict[str, str]:
        """The headers of the personalization request; secret."""
        return parse_headers(self.personalization_headers.get_secret_value()) if self.personalization_headers else {}


class WebhookSettings(Topic):
    """Webhooks."""

    webhook_url: TargetUrl | None = setting(None, "Where events of calls are posted. Unset: nowhere.", restart=True)
    webhook_secret: SecretStr | None = setting(
        None,
        "Secret that signs them (`ElevenLabs-Signature`). One only, as receivers look at one signature: to change it, "
        "let the receiver take both, then change it here. Unset: unsigned, so anybody could forge them.",
    )
    webhook_headers: Headers | None = setting(None, "Further headers of these requests as a JSON object.")
    webhook_events: Annotated[tuple[str, ...], CommaList, AfterValidator(_events)] = setting(
        ALL_EVENTS,
        "Which events, with commas between them. Those with underscores have the vendor's own shapes.",
    )
    webhook_max_age_h: Number = setting(
        24, "How long a failed delivery is tried again, with growing pauses, before it is set aside as dead.",
        unit="h", gt=0, le=720,
    )  # fmt: skip
    elevenlabs_webhook_secret: SecretStr | None = setting(
        None,
        "Secret of the post-call webhook that ElevenLabs sends to `/webhooks/elevenlabs`; several with commas between "
        "them while it is rotated. Unset: that entrance is closed.",
    )
    egress_allow: Annotated[tuple[Network, ...], BeforeValidator(_networks)] = setting(
        (),
        "Networks and addresses, with commas between them, that outgoing requests may reach although they are private "
        "or this machine: `10.1.0.0/16, 127.0.0.1`. Everything private is closed otherwise, so that a URL somebody "
        "else chose cannot reach inner services.",
        restart=True,
    )

    @property
    def webhook_signing_secret(self) -> str:
        """What signs events; empty = they go out unsigned."""
        return self.webhook_secret.get_secret_value() if self.webhook_secret else ""

    @property
    def webhook_header_map(self) -> dict[str, str]:
        """Further headers of events; secret."""
        return parse_headers(self.webhook_headers.get_secret_value()) if self.webhook_headers else {}

    @property
    def elevenlabs_webhook_secrets(self) -> tuple[str, ...]:
        """What may sign the vendor's webhooks; none = the entrance is closed."""
        return ring(self.elevenlabs_webhook_secret)
