"""The README's generated blocks are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import LocalError
from bridge.readme import BLOCKS, reasons_table, state_diagram, update_readme

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_holds_the_blocks_of_the_code() -> None:
    readme = README.read_text(encoding="utf-8")
    assert update_readme(readme) == readme, "run `make fmt`"


def test_a_block_is_put_between_its_markers() -> None:
    text = "".join(f"<!-- {name}:begin -->\nold {name}\n<!-- {name}:end -->\n" for name in BLOCKS)
    updated = update_readme(text)
    assert not any(f"old {name}" in updated for name in BLOCKS)
    assert f"<!-- states:begin -->\n{state_diagram()}\n<!-- states:end -->\n" in updated
    assert update_readme(updated) == updated


@pytest.mark.parametrize("text", ["", "<!-- settings:begin -->", "<!-- settings:end --><!-- settings:begin -->"])
def test_a_readme_without_markers_is_our_mistake(text: str) -> None:
    with pytest.raises(LocalError, match="the text needs the lines <!-- settings:begin -->"):
        update_readme(text)


def test_every_reason_has_its_advice() -> None:
    assert "| `upstream_error` | `agent_unauthorized` | The agent's side refused the key; " in reasons_table()
