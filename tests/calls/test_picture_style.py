from __future__ import annotations

import re

from bridge.calls.picture_marks import CSS_CLASS
from bridge.calls.picture_model import MarkKind
from bridge.calls.picture_style import GLYPHS, PICTURE_CSP, STYLE


def test_the_stylesheet_stands_in_xml_as_it_is_and_fetches_nothing() -> None:
    assert not set("<&") & set(STYLE)
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_every_kind_of_mark_has_its_own_class_glyph_and_colours() -> None:
    classes = [CSS_CLASS[kind] for kind in MarkKind]
    assert len({GLYPHS[css] for css in classes}) == len(MarkKind)
    for css in classes:
        assert f".{css} .glyph{{fill:" in STYLE
        assert f".{css} .pole{{stroke:" in STYLE


def test_dark_is_a_rule_of_its_own() -> None:
    _, _, dark = STYLE.partition("@media (prefers-color-scheme:dark){")
    assert ".page{fill:" in dark
    assert dark.count("{") + 1 == dark.count("}")


def test_the_policy_allows_this_stylesheet_and_nothing_else() -> None:
    assert re.fullmatch(r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='", PICTURE_CSP)
