"""Keys that callers press: what the agent is told of them, and where they go when nobody else may know."""

from __future__ import annotations

from typing import Annotated, Literal

from bridge.calls.keypad import MAX_DIGITS, KeypadMode, KeypadOptions
from bridge.settings.base import Headers, Lower, Number, TargetUrl, Topic, parse_headers, setting


class KeypadSettings(Topic):
    """Keypad."""

    dtmf_to_agent: Annotated[Literal["message", "update", "each", "off"], Lower] = setting(
        "message",
        "What the agent is told of keys that callers press: `message` = whole entries as if the caller had said them; "
        "`update` = whole entries without taking a turn; `each` = every key at once, without taking a turn; `off` = "
        "nothing. With `REDACT_DTMF` it is told nothing.",
    )
    dtmf_pause_s: Number = setting(2, "A pause of so long ends what a caller types.", unit="s", gt=0, le=30)
    dtmf_length: int = setting(
        0,
        "An entry of so many keys is complete without a pause. 0 = as many as the caller likes.",
        unit="keys",
        ge=0,
        le=MAX_DIGITS,
    )
    dtmf_end_key: Literal["#", "*", "none"] = setting(
        "#", "Key that ends an entry at once and is no part of it. `none` = only pause and length do."
    )
    dtmf_inband: bool = setting(
        False,
        "`on` listens for tones in the caller's audio besides the keys that the carrier reports, for trunks that "
        "report none. What comes both ways counts once.",
    )
    redact_dtmf: bool = setting(
        False,
        "`on` keeps what callers type out of log, record, webhooks and recording, and from the agent: whole entries "
        "go to `DTMF_WEBHOOK_URL` only.",
    )
    dtmf_webhook_url: TargetUrl | None = setting(
        None,
        "Where entries go while `REDACT_DTMF` is on, signed with `WEBHOOK_SECRET`. They are never written to a disk: "
        "what cannot be delivered within a minute is lost. Unset: nowhere.",
        restart=True,
    )
    dtmf_webhook_headers: Headers | None = setting(
        None, "Headers of that request as a JSON object, for its password.", restart=True
    )

    @property
    def keypad_options(self) -> KeypadOptions:
        """What becomes of keys where no route and no agent's rules say otherwise."""
        return KeypadOptions(
            KeypadMode(self.dtmf_to_agent),
            self.dtmf_pause_s,
            self.dtmf_length,
            "" if self.dtmf_end_key == "none" else self.dtmf_end_key,
            self.redact_dtmf,
        )

    @property
    def dtmf_webhook_header_map(self) -> dict[str, str]:
        """The headers of the request with digits; secret."""
        return parse_headers(self.dtmf_webhook_headers.get_secret_value()) if self.dtmf_webhook_headers else {}
