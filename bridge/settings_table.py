"""The README's table of settings, generated from ``config.Settings`` so that it cannot go stale."""

from __future__ import annotations

from bridge.config import CONFIG_FILE_VARIABLE, DEFAULT_CONFIG_FILE, Settings, is_secret

_UNITS = {"_s": "s", "_ms": "ms", "_calls": "calls", "_concurrency": "calls"}
"""Unit by the end of a setting's name."""


def settings_table() -> str:
    """Render every setting as a Markdown table: name, default, unit, what it does and why."""
    rows = [
        "| Setting | Default | Unit | What and why |",
        "|---|---|---|---|",
        _row(
            CONFIG_FILE_VARIABLE,
            f"`{DEFAULT_CONFIG_FILE}`",
            "",
            "TOML file with settings; need not exist at its default.",
        ),
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        about = (field.description or "") + (" Secret." if is_secret(name) else "")
        rows.append(_row(name.upper(), default, _unit(name), about))
    return "\n".join(rows)


def _row(name: str, default: str, unit: str, about: str) -> str:
    return f"| `{name}` | {default} | {unit} | {about} |"


def _unit(name: str) -> str:
    return next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")
