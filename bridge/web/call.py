"""The console's page of one call: its picture with playback, what was said, how long answers took, who was told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bridge.calls.journal import Turn
from bridge.calls.picture_layout import PLOT_LEFT, PLOT_RIGHT, WIDTH
from bridge.server.api.schemas import CallDetail
from bridge.server.store.delivery import Delivery
from bridge.web.call_parts import deliveries, latency, steps, tools
from bridge.web.calls import end_words, moment
from bridge.web.html import Frame, document, duration_text, text
from bridge.web.live import dialogs, player

SPEECH_CHARS_PER_S = 15.0
"""How fast people talk, about: a caller's words are known when they have been said, and began this much earlier."""
MAX_SPEECH_S = 30.0


@dataclass(frozen=True, slots=True)
class CallPage:
    """Everything that the page shows."""

    call: CallDetail
    deliveries: Sequence[Delivery] | None
    """Webhook events; None = they cannot be had now."""
    now: float
    """Unix seconds."""
    audio_at_s: float = 0.0
    """Where in the call its recording begins."""
    is_here: bool = False
    """The call goes on in this process: it can be acted upon."""
    has_ladder: bool = False
    """Its SIP messages can be had."""
    has_flight: bool = False
    """Flight records are kept."""
    can_transfer: bool = False

    @property
    def length_s(self) -> float:
        """From the offer to the end, or until now."""
        return self.now - self.call.created_at if self.call.live else self.call.duration_s


def render_call(frame: Frame, page: CallPage) -> str:
    """The whole page."""
    return document(frame, _main(frame, page))


def _main(frame: Frame, page: CallPage) -> Iterator[str]:
    call = page.call
    is_admin = frame.viewer is not None and frame.viewer.is_admin
    yield f'<div data-call="{text(call.id)}" data-caller="{text(call.caller)}" data-called="{text(call.called)}" '
    yield f'data-provider="{text(call.provider)}" data-audio-at="{page.audio_at_s:.3f}" id="call" class="call">'
    yield from _heading(page, is_admin)
    yield from _figures(page)
    yield from _picture(frame, page)
    yield '<div class="halves">'
    yield from _transcript(page)
    yield '<div class="stack">'
    yield from latency(call)
    yield from tools(call.tools)
    yield from deliveries(page.deliveries)
    yield from steps(call)
    yield "</div></div>"
    if page.has_ladder:
        ladder = f"{text(frame.root)}console/calls/{text(call.id)}/sip-messages?format=svg"
        yield '<section class="card" id="ladder-card" aria-labelledby="ladder"><h2 id="ladder">SIP messages</h2>'
        yield '<div class="scroll" role="group" aria-labelledby="ladder" tabindex="0">'
        yield f'<img id="ladder-image" src="{ladder}" alt="The SIP messages of the call, in order"></div>'
        yield f'<p><a href="{ladder}">Open alone</a></p></section>'
    yield from _downloads(frame, page, is_admin)
    yield "</div>"
    if is_admin and page.is_here:
        yield from dialogs(can_transfer=page.can_transfer)
        yield from player()


def _heading(page: CallPage, is_admin: bool) -> Iterator[str]:
    call = page.call
    yield '<div class="headline">'
    yield f'<h1><span class="phone">{text(call.caller or "withheld")}</span> '
    yield f'<span class="muted" aria-label="to">→</span> <span class="phone">{text(call.called or "–")}</span></h1>'
    yield f'<p class="end">{end_words(call)}</p>'
    if is_admin and page.is_here:
        yield '<p class="actions"><button type="button" data-action="listen">Listen</button>'
        yield '<button type="button" data-action="transfer">Transfer</button>'
        yield '<button type="button" data-action="hangup" class="danger">Hang up</button></p>'
    yield "</div>"
    if call.advice:
        yield f'<p class="muted advice">{text(call.advice)}</p>'
    if call.detail:
        yield f'<p class="muted advice">{text(call.detail)}</p>'
    if call.live:
        yield '<p class="note">This call goes on. <a href="">Load the page again</a> for what has happened since.</p>'


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value / 1000:.2f} s"


def _figures(page: CallPage) -> Iterator[str]:
    call, summary = page.call, page.call.turn_summary
    figures = [
        ("Began", moment(call.created_at)),
        ("Length", duration_text(page.length_s)),
        ("Carrier", f"{text(call.provider)}, {text(call.direction)}"),
        ("Agent", text(call.agent_id or "–")),
    ]
    if summary is not None:
        figures += [
            ("Answer, half within", _ms(summary.response_p50_ms)),
            ("19 of 20 within", _ms(summary.response_p95_ms)),
            ("Greeting after", _ms(summary.greeting_ms)),
            ("Interruptions", str(summary.interruptions)),
        ]
    if call.is_burst:
        figures.append(("Slot", "burst"))
    if call.queue_wait_ms:
        figures.append(("Waited for a slot", _ms(call.queue_wait_ms)))
    if call.carrier_format:
        formats = dict.fromkeys((call.carrier_format, call.agent_input_format, call.agent_output_format))
        figures.append(("Audio", text(" → ".join(name for name in formats if name))))
    if call.media:
        figures += _line_quality(call.media)
    figures.append(("Id", f'<code class="copy inline">{text(call.id)}</code>'))
    if call.conversation_id:
        figures.append(("Conversation", f'<code class="copy inline">{text(call.conversation_id)}</code>'))
    if call.call_sid:
        figures.append(("Carrier’s id", f'<code class="copy inline">{text(call.call_sid)}</code>'))
    yield '<dl class="figures card" aria-label="The call in figures">'
    for name, value in figures:
        yield f"<div><dt>{name}</dt><dd>{value}</dd></div>"
    yield "</dl>"


def _line_quality(media: Mapping[str, int | float | None]) -> Iterator[tuple[str, str]]:
    """How the line was, where its packets came to us: the estimate first, then what it is made of."""
    mos, loss, jitter_ms, round_trip_ms = (media.get(name) for name in ("mos", "loss", "jitter_ms", "round_trip_ms"))
    if mos is not None:
        yield "Quality (MOS)", f"{mos:.1f} of 4.5"
    if loss is not None and jitter_ms is not None:
        yield "Loss, jitter", f"{100 * loss:.1f} %, {jitter_ms:.0f} ms"
    if round_trip_ms is not None:
        yield "Round trip", f"{round_trip_ms:.0f} ms"


def _picture(frame: Frame, page: CallPage) -> Iterator[str]:
    call = page.call
    base = f"{text(frame.root)}console/calls/{text(call.id)}"
    yield '<section class="card" aria-labelledby="picture"><h2 id="picture">Picture</h2>'
    yield f'<figure class="picture" id="stage" data-left="{PLOT_LEFT / WIDTH:.5f}" '
    yield f'data-right="{PLOT_RIGHT / WIDTH:.5f}" '
    yield f'data-length="{max(1.0, page.length_s):.3f}">'
    yield f'<img src="{base}/picture.svg" '
    yield 'alt="Both sides of the call over time; its states and turns are listed below" width="1200" height="430">'
    yield '<span id="playhead" class="playhead" hidden></span></figure>'
    if call.recording is not None and call.recording.complete:
        yield f'<audio id="audio" controls preload="metadata" src="{base}/audio" '
        yield 'aria-label="Recording of the call"></audio>'
    elif call.recording is not None:
        yield '<p class="muted">The recording is being written; it can be heard after the end of the call.</p>'
    else:
        yield '<p class="muted">This call was not recorded.</p>'
    yield "</section>"


def _transcript(page: CallPage) -> Iterator[str]:
    call = page.call
    yield '<section class="card" aria-labelledby="transcript"><h2 id="transcript">Transcript</h2>'
    if not call.transcript:
        yield '<p class="muted">Nothing was said, or it is no longer kept.</p></section>'
        return
    playable = call.recording is not None and call.recording.complete
    yield '<ol class="turns" id="turns">'
    for turn in call.transcript:
        yield from _turn(turn, playable)
    yield "</ol>"
    if call.entries_lost:
        yield f'<p class="muted">{call.entries_lost} entries did not fit into the record.</p>'
    yield "</section>"


def _turn(turn: Turn, playable: bool) -> Iterator[str]:
    who = "Agent" if turn.role == "agent" else "Caller"
    began_s = turn.at_s
    if turn.role == "user":
        began_s = max(0.0, turn.at_s - min(MAX_SPEECH_S, len(turn.text) / SPEECH_CHARS_PER_S + 0.5))
    at = duration_text(began_s)
    yield f'<li class="{turn.role}" data-at="{began_s:.2f}"><p class="who"><strong>{who}</strong> '
    if playable:
        yield f'<button type="button" class="seek" aria-label="Play from {at}">{at}</button>'
    else:
        yield f'<span class="muted">{at}</span>'
    if turn.interrupted:
        yield ' <span class="tag warn">interrupted</span>'
    yield f'</p><p class="said">{text(turn.text)}</p>'
    if turn.original and turn.original != turn.text:
        yield f"<details><summary>What it was about to say</summary><p>{text(turn.original)}</p></details>"
    yield "</li>"


def _downloads(frame: Frame, page: CallPage, is_admin: bool) -> Iterator[str]:
    call = page.call
    base = f"{text(frame.root)}console/calls/{text(call.id)}"
    links = [f'<a href="{base}/picture.svg" download="call-{text(call.id)}.svg">Picture (SVG)</a>']
    if call.recording is not None and call.recording.complete:
        links.append(f'<a href="{base}/audio" download>Recording ({text(call.recording.format.upper())})</a>')
    if is_admin and page.has_flight:
        links.append(f'<a href="{base}/flight" download>Flight record</a>')
    yield '<section class="card" aria-labelledby="downloads"><h2 id="downloads">Downloads</h2><ul class="inline-list">'
    yield from (f"<li>{link}</li>" for link in links)
    yield "</ul></section>"
