"""What all pages of the console share: escaping, the frame around a page, and the policy that it is served with.

Rendered on the server as one document; no page has a script or a style of its own inside, and nothing comes from
another origin. Links are relative, because a proxy may put the console below a path prefix that it takes off.
All text from outside goes through ``text``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape

CONSOLE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of every page."""

PAGE_HEADERS = {
    "Content-Security-Policy": CONSOLE_CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""The headers of every page. The referrer stays within the console: some browsers check forms by it."""

PAGES = (("live", "", "Live"), ("calls", "calls", "Calls"), ("health", "health", "Health"))
"""The navigation: name, path below the console's root, words."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at a page."""

    is_admin: bool
    role: str
    """In words: ``admin``, ``read only``, or empty where nobody signs in."""
    csrf: str
    """What every change must carry; empty where nobody has signed in."""
    can_sign_out: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around a page."""

    title: str
    root: str
    """The way from this page to the console's root: ``./`` or ``../``."""
    version: str
    here: str = ""
    """The name of the page in the navigation."""
    viewer: Viewer | None = None
    """None = nobody has signed in; there is no navigation then."""
    scripts: tuple[str, ...] = ()
    """Files of ``bridge.web.assets`` that the page loads."""
    ready: bool | None = None
    """What ``/readyz`` says; None = it is not shown."""


def text(value: object) -> str:
    """Escaped for content and for quoted attributes; undecodable bytes of the environment as ``?``."""
    return escape(str(value).encode("utf-8", "replace").decode())


def document(frame: Frame, main: Iterable[str]) -> str:
    """The whole document."""
    return "\n".join([*_head(frame), *main, *_foot(frame)]) + "\n"


def _head(frame: Frame) -> Iterator[str]:
    root = text(frame.root)
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<title>{text(frame.title)} – Telephony bridge</title>"
    yield f'<link rel="icon" href="{root}assets/icon.svg" type="image/svg+xml">'
    yield f'<link rel="stylesheet" href="{root}assets/console.css">'
    for script in frame.scripts:
        yield f'<script type="module" src="{root}assets/{text(script)}"></script>'
    viewer = frame.viewer
    csrf = text(viewer.csrf) if viewer is not None else ""
    admin = "yes" if viewer is not None and viewer.is_admin else "no"
    yield f'</head>\n<body data-root="{root}" data-csrf="{csrf}" data-admin="{admin}">'
    yield '<a class="skip" href="#main">Skip to content</a>\n<header class="top">'
    yield f'<p class="brand"><a href="{root}">Telephony bridge</a></p>'
    if viewer is not None:
        yield from _navigation(frame)
        yield from _viewer(frame, viewer)
    yield "</header>"
    yield '<p id="banner" class="banner" role="status" aria-live="polite" hidden></p>'
    yield '<main id="main" tabindex="-1">'


def _navigation(frame: Frame) -> Iterator[str]:
    yield '<nav aria-label="Console"><ul>'
    for name, path, words in PAGES:
        current = ' aria-current="page"' if name == frame.here else ""
        yield f'<li><a href="{text(frame.root)}{path}"{current}>{words}</a></li>'
    yield "</ul></nav>"


def _viewer(frame: Frame, viewer: Viewer) -> Iterator[str]:
    yield '<div class="viewer">'
    if frame.ready is not None:
        words, style = ("Ready", "good") if frame.ready else ("Not ready", "bad")
        yield f'<strong id="ready" class="pill {style}">{words}</strong>'
    if viewer.role:
        yield f'<span class="role">{text(viewer.role)}</span>'
    if viewer.can_sign_out:
        yield (
            f'<form method="post" action="{text(frame.root)}sign-out">'
            f'<input type="hidden" name="csrf" value="{text(viewer.csrf)}">'
            '<button type="submit" class="quiet">Sign out</button></form>'
        )
    yield "</div>"


def _foot(frame: Frame) -> Iterator[str]:
    root = text(frame.root)
    yield f'</main>\n<footer><span>Version {text(frame.version)}</span>\n<nav aria-label="More"><ul>'
    for path, words in (("docs", "API"), ("metrics", "Metrics"), ("readyz", "Readiness"), ("healthz", "Alive")):
        yield f'<li><a href="{root}{path}">{words}</a></li>'
    yield "</ul></nav></footer>\n</body>\n</html>"


def duration_text(seconds: float) -> str:
    """A length of time as on a clock: ``0:07``, ``12:05``, ``1:02:03``."""
    whole = max(int(seconds), 0)
    minutes, hours = whole // 60, whole // 3600
    return f"{hours}:{minutes % 60:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def uptime_text(uptime_s: float) -> str:
    """A length of time in its two greatest units: ``12 s``, ``3 min 5 s``, ``2 h 10 min``, ``4 d 1 h``."""
    seconds = max(int(uptime_s), 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
