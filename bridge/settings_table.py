"""The README's tables of settings, one a topic, generated from ``config.Settings`` so that they cannot go stale."""

from __future__ import annotations

from typing import Any

from bridge.config import CONFIG_FILE_VARIABLE, DEFAULT_CONFIG_FILE, TOPICS, is_secret
from bridge.settings.base import facts_of

HEAD = "| Setting | Default | Unit | What and why |\n|---|---|---|---|"
SECRET, RESTART = " Secret.", " Changes take a restart."


def settings_table() -> str:
    """Render every setting as Markdown tables: name, default, unit, what it does and why."""
    parts: list[str] = []
    for topic in TOPICS:
        title = (topic.__doc__ or "").rstrip(".")
        rows = [_row(name, topic.model_fields[name].default, facts_of(topic, name).unit, _about(topic, name))
                for name in topic.__annotations__]  # fmt: skip
        if not parts:
            about = "TOML file with settings and routes; need not exist at its default."
            rows.insert(0, _row(CONFIG_FILE_VARIABLE, DEFAULT_CONFIG_FILE, "", about + RESTART))
        parts.append("\n".join([f"### {title}", "", HEAD, *rows]))
    return "\n\n".join(parts)


def _about(topic: type[Any], name: str) -> str:
    text = str(topic.model_fields[name].description)
    return text + (SECRET if is_secret(name) else "") + (RESTART if facts_of(topic, name).restart else "")


def _row(name: str, default: object, unit: str, about: str) -> str:
    return f"| `{name.upper()}` | {_shown(default)} | {unit} | {about} |"


def _shown(default: object) -> str:
    if default is None or default in ((), ""):
        return ""
    if isinstance(default, bool):
        return "`on`" if default else "`off`"
    return f"`{', '.join(default) if isinstance(default, tuple) else default}`"
