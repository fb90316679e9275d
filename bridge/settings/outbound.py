"""Calls that the bridge places, and machines that answer them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from bridge.calls.machine import MAX_MESSAGE_CHARS
from bridge.settings.base import Lower, Topic, existing_file, setting


class OutboundSettings(Topic):
    """Outbound calls and answering machines."""

    outbound_ring_s: int = setting(
        60, "How long a placed call may ring before it counts as not answered.", unit="s", ge=5, le=600
    )
    machine_detection: Annotated[Literal["off", "enable", "detect_message_end"], Lower] = setting(
        "off",
        "Whether the carrier listens for answering machines and fax on placed calls, beside the conversation: "
        "`enable` = it says who answered; `detect_message_end` = it also says when a machine's greeting is over, "
        "which a message needs to be recorded whole. Carriers bill it.",
    )
    voicemail_action: Annotated[Literal["continue", "hang_up", "leave_message"], Lower] = setting(
        "continue",
        "What happens when the carrier or the agent says that a machine has answered: `continue` = the agent goes on, "
        "`hang_up` = the call ends, `leave_message` = `VOICEMAIL_MESSAGE` or `VOICEMAIL_AUDIO` is left first. Fax "
        "machines are hung up on unless this is `continue`.",
    )
    voicemail_message: str | None = setting(
        None,
        "What is said to a machine, in the voice of `ELEVENLABS_VOICE_ID`.",
        min_length=1,
        max_length=MAX_MESSAGE_CHARS,
        expected=f"a text of up to {MAX_MESSAGE_CHARS} characters",
    )
    voicemail_audio: Annotated[Path, AfterValidator(existing_file)] | None = setting(
        None,
        "WAV file (16-bit PCM, mono or stereo) that is left instead, where the agent has no text of its own.",
        restart=True,
    )
