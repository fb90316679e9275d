"""Colours and shapes of the picture of a call: its stylesheet, and one glyph per kind of mark.

The hues are Okabe and Ito's ("Color Universal Design", 2008), which people with any colour vision tell apart;
no meaning rests on hue alone: every kind has its own glyph and its name in words. Rules are written out for
dark again instead of going through CSS variables, because picture viewers other than browsers know no variables.
"""

from __future__ import annotations

import base64
import hashlib

STYLE = """
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:#16202a}
.title{font-size:20px;font-weight:650}
.subtitle{font-size:13px}
.length{font-size:20px;font-weight:650;text-anchor:end}
.lane{font-size:14px;font-weight:650}
.small{font-size:12px}
.state,.flag{font-size:12px;font-weight:600}
.detail{font-weight:400}
.muted{fill:#55626f}
.end-at{text-anchor:end}.centred{text-anchor:middle}
.page{fill:#fff}
.panel{fill:#f3f5f8}
.plate{fill:#fff;stroke:#c9d1d9}
.grid{stroke:#d5dbe2;fill:none}
.base{stroke:#a9b4be;fill:none}
.caller{fill:#0072b2}.agent{fill:#009e73}
.speech{opacity:.15}.peak{opacity:.45}
.pole{fill:none;stroke-width:1.5}
.hit{fill:none;stroke:#000;stroke-opacity:0;stroke-width:9;pointer-events:stroke}
.glyph{stroke:#16202a;stroke-width:.8;stroke-linejoin:round}
.interruption .glyph{fill:#d55e00}.interruption .pole{stroke:#d55e00;stroke-width:2}
.clear .glyph{fill:#e69f00}.clear .pole{stroke:#e69f00;stroke-dasharray:5 3}
.tool .glyph{fill:#cc79a7}.tool .pole{stroke:#cc79a7;stroke-dasharray:8 2 2 2}
.dtmf .glyph{fill:#f0e442}.dtmf .pole{stroke:#8a8200;stroke-width:1;stroke-dasharray:1 2}
.end .glyph{fill:#16202a}.end .pole{stroke:#16202a}
.ribbon text{fill:#101418}
.connecting rect{fill:#56b4e9}.active rect{fill:#4fc3a1}.draining rect{fill:#e69f00}
.ended rect{fill:#b4bdc6}.other rect{fill:#f0e442}
@media (prefers-color-scheme:dark){
text{fill:#e6ebf0}
.muted{fill:#a2aeba}
.page{fill:#0f151b}
.panel{fill:#18212a}
.plate{fill:#0f151b;stroke:#43505d}
.grid{stroke:#2c3844}
.base{stroke:#56636f}
.caller{fill:#56b4e9}.agent{fill:#2cc295}
.speech{opacity:.18}
.glyph{stroke:#0f151b}
.interruption .glyph{fill:#ff7a1a}.interruption .pole{stroke:#ff7a1a}
.dtmf .pole{stroke:#f0e442}
.end .glyph{fill:#e6ebf0}.end .pole{stroke:#e6ebf0}
}
"""
"""The one stylesheet inside the picture; no markup characters, so it stands in XML as it is."""

STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

PICTURE_CSP = f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'"
"""The Content-Security-Policy to serve a picture with: its own stylesheet and nothing else."""

GLYPHS = {
    "interruption": "M-5-5H5L0 5z",  # triangle pointing down
    "clear": "M-5-3-3-5 0-2 3-5 5-3 2 0 5 3 3 5 0 2-3 5-5 3-2 0z",  # cross
    "tool": "M0-6 6 0 0 6-6 0z",  # diamond
    "dtmf": "M-5 0a5 5 0 1 0 10 0 5 5 0 1 0-10 0z",  # round, as a key
    "end": "M-5-5H5V5H-5z",  # square, as on a stop key
}
"""Path of each mark's glyph around (0, 0), within 6 units; the key is the mark's CSS class."""
