"""What becomes of an agent's audio formats on each carrier: passed through or converted, and what to change. Pure.

Over SIP the codec is agreed for each call; what counts here is the first one of the trunk's list, which is agreed
wherever the other side has it.

Sources: Twilio docs "Media Streams" (mu-law 8 kHz only); Genesys AudioHook (PCMU 8 kHz); Vonage docs "WebSockets"
(linear PCM at 8, 16 or 24 kHz). All read 2026-11-21. RFC 3551 (PCMU, PCMA).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bridge.config import Settings
from bridge.doctor.findings import Finding, failed, ok
from bridge.doctor.tools import listed
from bridge.media.format import Encoding, MediaFormat
from bridge.providers import REGISTRY
from bridge.sip import leg
from bridge.sip.trunks import Trunk

_NATIVE = {"twilio": "ulaw_8000", "genesys": "ulaw_8000"}
_VONAGE_RATES_HZ = (8000, 16000, 24000)
SIP = leg.NAME
_G711_CODECS = {"ulaw_8000": "PCMU", "alaw_8000": "PCMA"}


def native_formats(settings: Settings, trunks: Sequence[Trunk] = ()) -> dict[str, str]:
    """The format that passes each carrier unchanged; SIP's trunks are several where their first codecs differ."""
    return {**_NATIVE, "vonage": f"pcm_{settings.vonage_rate_hz}", **_sip_formats(settings, trunks)}


def _sip_formats(settings: Settings, trunks: Sequence[Trunk]) -> dict[str, str]:
    if not settings.has_sip:
        return {}
    first = {trunk.name: trunk.codecs[0] for trunk in trunks} or {"": settings.sip_codecs[0]}
    codecs = dict.fromkeys(first.values())
    if len(codecs) == 1:
        return {SIP: _g711(*codecs)}
    return {
        f"{SIP} ({listed([name for name, codec in first.items() if codec is wanted])})": _g711(wanted)
        for wanted in codecs
    }


def _g711(encoding: Encoding) -> str:
    return MediaFormat(encoding, 8000).name


def configured_carriers(settings: Settings, trunks: Sequence[Trunk] = ()) -> tuple[str, ...]:
    """Carriers whose credentials are set, and SIP by its ports; all that need credentials while nothing is set, as in
    a trial.
    """
    is_set = {
        "twilio": bool(settings.twilio_keys.auth_tokens or settings.twilio_keys.shared_keys),
        "genesys": settings.genesys_api_key is not None,
        "vonage": bool(settings.vonage_signature_secrets) or settings.vonage_application_id is not None,
    }
    chosen = (*(name for name in REGISTRY if is_set.get(name, False)), *_sip_formats(settings, trunks))
    return chosen or tuple(REGISTRY)


def judge_formats(
    agent: str, hears: str, speaks: str, carriers: Iterable[str], native: Mapping[str, str]
) -> list[Finding]:
    """One finding per carrier. ``hears`` and ``speaks`` are the vendor's names of the agent's formats."""
    for text in (hears, speaks):
        try:
            MediaFormat.parse(text)
        except ValueError:
            seen = f"the agent's format {text[:40]!r} is not known"
            advice = "Set the agent's input and output format to ulaw_8000 (mu-law 8000 Hz) in ElevenLabs."
            return [failed(f"agent {agent}: formats", seen, advice)]
    return [_judge(agent, hears, speaks, carrier, native[carrier]) for carrier in carriers if carrier in native]


def _judge(agent: str, hears: str, speaks: str, carrier: str, native: str) -> Finding:
    name = f"agent {agent}: formats on {carrier}"
    ways = ((hears, "to the agent"), (speaks, "from the agent"))
    converted = " and ".join(f"{text} {way}" for text, way in ways if text != native)
    if not converted:
        return ok(name, f"{native} both ways passes through unchanged")
    advice = f"It works; for the least delay and CPU set both of the agent's formats to {native}"
    if carrier == "vonage" and hears == speaks and hears in [f"pcm_{rate}" for rate in _VONAGE_RATES_HZ]:
        advice += f", or VONAGE_RATE_HZ to {hears.removeprefix('pcm_')}"
    if carrier.startswith(SIP) and hears == speaks and hears in _G711_CODECS:
        advice += f", or put {_G711_CODECS[hears]} first in SIP_CODECS (in the file: codecs of the trunk)"
    return ok(name, f"{converted} is converted", f"{advice}.")
