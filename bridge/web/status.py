"""The small page at ``/``: is the bridge ready, what to set next, what to tell the carrier, how calls end.

Not the place for records or settings, and nothing here is secret or names a caller. Rendered on the server; the
page has no scripts and reloads itself by a ``refresh`` pragma (HTML Living Standard, section 4.2.5.3), which a
reader can pause (WCAG 2.2, criterion 2.2.2). All text from outside is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from bridge.outcome import CATALOGUE

REFRESH_S = 2
"""How often the page reloads itself: as fresh as a person looks at it."""

STATUS_CSS = files("bridge.web").joinpath("status.css").read_text("utf-8")
"""The stylesheet, to be served at ``/status.css`` as ``text/css``."""

STATUS_CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy to serve the page with."""


@dataclass(frozen=True, slots=True)
class DemoLinks:
    """Where the last call of the demo can be seen and heard."""

    picture_url: str = "/demo/call.svg"
    recording_url: str = "/demo/call.wav"


@dataclass(frozen=True, slots=True)
class StatusPage:
    """Everything that the page shows."""

    version: str
    ready: bool
    """What ``/readyz`` says."""
    problems: tuple[str, ...]
    """What is missing, each a sentence with the setting to set next; may be there although the bridge is ready."""
    active_calls: int
    max_calls: int
    """BRIDGE_MAX_CALLS."""
    ended: tuple[tuple[str, int], ...]
    """Calls since the start by reason, ``result/reason`` or the reason alone, in the order to show."""
    uptime_s: float
    voice_url: str
    """Address of the answer webhook for the carrier; empty while PUBLIC_URL is not set."""
    media_url: str
    """Address of the media socket; empty while PUBLIC_URL is not set."""
    demo: DemoLinks | None = None
    """Set when the demo runs and has had a call."""


def render_status(status: StatusPage, *, paused: bool = False) -> str:
    """The page as one HTML document. ``paused`` (the query was ``?pause``) leaves the reloading out."""
    parts = [
        *_head(status, paused),
        *_problems(status),
        *_calls(status),
        *_addresses(status),
        *_demo(status),
        *_ends(status),
        *_foot(paused),
    ]
    return "\n".join(parts) + "\n"


def uptime_text(uptime_s: float) -> str:
    """A length of time in its two greatest units: ``12 s``, ``3 min 5 s``, ``2 h 10 min``, ``4 d 1 h``."""
    seconds = max(int(uptime_s), 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def _text(text: str) -> str:
    """Escaped for content and for quoted attributes; undecodable bytes of the environment as ``?``."""
    return escape(text.encode("utf-8", "replace").decode())


def _head(status: StatusPage, paused: bool) -> Iterator[str]:
    state = "Ready" if status.ready else "Not ready"
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    if not paused:
        yield f'<meta http-equiv="refresh" content="{REFRESH_S}">'
    yield f"<title>{state} – Telephony bridge</title>"
    yield '<link rel="stylesheet" href="/status.css">\n</head>\n<body>\n<header>'
    yield f'<h1>Telephony bridge</h1>\n<span class="muted version">version {_text(status.version)}</span>'
    yield f'<strong class="pill {state.lower().replace(" ", "-")}">{state}</strong>\n</header>\n<main>'


def _problems(status: StatusPage) -> Iterator[str]:
    if status.problems:
        yield '<section class="next" aria-labelledby="next">\n<h2 id="next">What to set next</h2>\n<ul>'
        for problem in status.problems:
            yield f"<li>{_text(problem)}</li>"
        yield "</ul>\n</section>"


def _calls(status: StatusPage) -> Iterator[str]:
    active, limit = max(status.active_calls, 0), max(status.max_calls, 1)
    yield '<section aria-labelledby="calls">\n<h2 id="calls">Calls</h2>\n<dl class="numbers">'
    yield (
        f"<div><dt>Now</dt><dd>{status.active_calls} <small>of {status.max_calls}</small></dd>"
        f'<dd><meter min="0" max="{limit}" high="{limit * 0.9:g}" value="{min(active, limit)}" '
        f'aria-label="Call slots in use">{status.active_calls} of {status.max_calls}</meter></dd></div>'
    )
    yield f"<div><dt>Ended since start</dt><dd>{sum(count for _, count in status.ended)}</dd></div>"
    yield f"<div><dt>Uptime</dt><dd>{uptime_text(status.uptime_s)}</dd></div>"
    yield "</dl>\n</section>"


def _addresses(status: StatusPage) -> Iterator[str]:
    yield '<section aria-labelledby="twilio">\n<h2 id="twilio">Point Twilio at</h2>'
    if status.voice_url:
        yield '<p class="muted label">“A call comes in” of your number: Webhook, HTTP POST</p>'
        yield f'<p><code class="copy">{_text(status.voice_url)}</code></p>'
    else:
        yield "<p>Set <code>PUBLIC_URL</code> to the https address under which Twilio reaches this bridge.</p>"
    if status.media_url:
        yield '<p class="muted label">Media socket, which the webhook’s answer names by itself</p>'
        yield f'<p><code class="copy">{_text(status.media_url)}</code></p>'
    yield "</section>"


def _demo(status: StatusPage) -> Iterator[str]:
    if status.demo:
        picture, recording = _text(status.demo.picture_url), _text(status.demo.recording_url)
        yield '<section aria-labelledby="demo">\n<h2 id="demo">Last call of the demo</h2>'
        yield f'<p><a href="{picture}">Picture</a> · <a href="{recording}">Recording</a></p>'
        yield f'<figure><img src="{picture}" alt="Both sides of the call over time" width="1200" height="500"></figure>'
        yield "</section>"


def _ends(status: StatusPage) -> Iterator[str]:
    yield '<section aria-labelledby="ends">\n<h2 id="ends">How calls ended</h2>'
    if status.ended:
        yield '<table aria-labelledby="ends">\n<thead><tr><th scope="col">Reason</th>'
        yield '<th scope="col" class="count">Calls</th><th scope="col">What to do</th></tr></thead>\n<tbody>'
        for reason, count in status.ended:
            known = CATALOGUE.get(reason.rpartition("/")[2])
            yield (
                f'<tr><th scope="row"><code>{_text(reason)}</code></th><td class="count">{count}</td>'
                f"<td>{_text(known.advice) if known else ''}</td></tr>"
            )
        yield "</tbody>\n</table>"
    else:
        yield '<p class="muted">No call has ended since the start.</p>'
    yield "</section>"


def _foot(paused: bool) -> Iterator[str]:
    yield '</main>\n<footer>\n<nav aria-label="More">'
    for path, name in (("/metrics", "Metrics"), ("/healthz", "Health"), ("/readyz", "Readiness")):
        yield f'<a href="{path}">{name}</a>'
    yield "</nav>"
    if paused:
        yield '<span class="muted">Reloading is paused. <a href="/">Resume</a></span>'
    else:
        yield f'<span class="muted">Reloads every {REFRESH_S} s. <a href="/?pause">Pause</a></span>'
    yield "</footer>\n</body>\n</html>"
