"""The console's files: styles, scripts, an icon. Served as they are; there is no build step."""

from __future__ import annotations

from importlib.resources import files

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml; charset=utf-8",
}

NAMES = (
    "console.css",
    "icon.svg",
    "page.js",
    "live.js",
    "rows.js",
    "actions.js",
    "listen.js",
    "listen-worklet.js",
    "call.js",
    "health.js",
)
"""Every file, so that nothing else of the folder can be asked for."""

ASSETS = {name: (files(__name__).joinpath(name).read_bytes(), _TYPES[name.rpartition(".")[2]]) for name in NAMES}
"""Content and content type by name."""
