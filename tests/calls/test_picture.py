from __future__ import annotations

import base64
import hashlib
import re
from xml.etree import ElementTree

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.calls.picture import (
    MAX_STATES,
    PICTURE_CSP,
    CallLane,
    CallPicture,
    MarkKind,
    PictureMark,
    StateSpan,
    render_svg,
)
from bridge.calls.picture_layout import PLOT_LEFT, PLOT_RIGHT, PLOT_WIDTH

RATE_HZ = 8000
SVG = "{http://www.w3.org/2000/svg}"
EMPTY = CallLane("Caller", b"", RATE_HZ)


def tone(duration_ms: int, peak: int = 10_000) -> bytes:
    time = np.arange(RATE_HZ * duration_ms // 1000) / RATE_HZ
    return bytes((peak * np.sin(2 * np.pi * 400 * time)).astype("<i2").tobytes())


def quiet(duration_ms: int) -> bytes:
    return bytes(RATE_HZ * duration_ms // 1000 * 2)


def call(
    caller: bytes = b"",
    agent: bytes = b"",
    *,
    duration_ms: int = 10_000,
    title: str = "Call",
    marks: tuple[PictureMark, ...] = (),
    states: tuple[StateSpan, ...] = (),
) -> CallPicture:
    lanes = (CallLane("Caller", caller, RATE_HZ), CallLane("Agent (heard)", agent, RATE_HZ))
    return CallPicture(title, "by twilio", duration_ms, lanes, marks, states)


def parsed(picture: CallPicture) -> ElementTree.Element:
    return ElementTree.fromstring(render_svg(picture))


def texts(root: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def paths(root: ElementTree.Element, css: str) -> list[str]:
    return [path.attrib["d"] for path in root.iter(f"{SVG}path") if path.get("class") == css]


def test_it_scales_and_names_itself_to_screen_readers() -> None:
    root = parsed(call(tone(2000), duration_ms=10_000))
    assert root.attrib["viewBox"] == f"0 0 1200 {root.attrib['height']}"
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"] == "picture-title picture-desc"
    assert root.findtext(f"{SVG}title[@id='picture-title']") == "Call"
    assert root.findtext(f"{SVG}desc[@id='picture-desc']") == (
        "by twilio. Length 10.00 s. Caller: 2.00 s of speech, talkspurts: 1. "
        "Agent (heard): 0.00 s of speech, talkspurts: 0."
    )


def test_the_description_tells_states_and_marks_and_stops_in_time() -> None:
    marks = tuple(PictureMark(at_ms, MarkKind.DTMF, "5") for at_ms in range(43))
    root = parsed(call(marks=marks, states=(StateSpan(0, 780, "connecting"),)))
    desc = root.findtext(f"{SVG}desc") or ""
    assert "State connecting from 0.00 s to 0.78 s. key (DTMF) at 0.00 s: 5. " in desc
    assert desc.endswith("And 3 more marks.")


def test_it_is_self_contained_and_its_policy_lets_its_style_in() -> None:
    svg = render_svg(call(tone(100), marks=(PictureMark(0, MarkKind.END, "end"),)))
    assert not re.search(r"<script|href|url\(|@import|\bon\w+=|style=", svg)
    style = ElementTree.fromstring(svg).findtext(f"{SVG}style") or ""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in PICTURE_CSP


def test_each_lane_has_one_column_of_waveform_per_unit() -> None:
    root = parsed(call(tone(10_000), tone(10_000)))
    for css in ("peak caller", "peak agent", "caller", "agent"):
        (path,) = paths(root, css)
        assert path.startswith(f"M{PLOT_LEFT} ")
        assert path.count("L") == 2 * PLOT_WIDTH - 1


def test_the_waveform_is_drawn_to_the_lanes_height_but_noise_is_not() -> None:
    def heights(peak: int) -> float:
        (path,) = paths(parsed(call(tone(10_000, peak))), "peak caller")
        levels = [float(point.split()[1]) for point in path.strip("Mz").split("L")]
        return max(levels) - min(levels)

    assert 110 < heights(30_000) <= 115
    assert 110 < heights(3000) <= 115
    assert heights(20) < 2


def test_talk_is_shaded_where_it_is() -> None:
    root = parsed(call(quiet(5000) + tone(2500) + quiet(2500)))
    left, right = PLOT_LEFT + PLOT_WIDTH * 0.5, PLOT_LEFT + PLOT_WIDTH * 0.75
    assert paths(root, "speech caller") == [f"M{left:g} 104H{right:g}v124H{left:g}z"]
    assert paths(root, "speech agent") == [""]
    assert "speech 2.50 s" in texts(root)
    assert "peak \u221210 dBFS" in texts(root)
    assert "silent" in texts(root)


def test_talkspurts_too_close_to_tell_apart_are_one_box() -> None:
    pcm = tone(200) + quiet(240) + tone(200)
    (path,) = paths(parsed(call(pcm, duration_ms=3_600_000)), "speech caller")
    assert path.count("M") == 1


def test_states_lie_along_the_ribbon_with_their_names_where_they_fit() -> None:
    states = (StateSpan(0, 100, "connecting"), StateSpan(100, 9000, "active"), StateSpan(9000, 9900, "draining"))
    root = parsed(call(states=(*states, StateSpan(10_000, 10_000, "ended"), StateSpan(0, 0, "parked"))))
    ribbon = [group for group in root.findall(f"{SVG}g") if (group.get("class") or "").startswith("ribbon")]
    assert [group.attrib["class"] for group in ribbon] == [
        "ribbon connecting",
        "ribbon active",
        "ribbon draining",
        "ribbon ended",
        "ribbon other",
    ]
    assert [group.findtext(f"{SVG}text") for group in ribbon] == [None, "active", "draining", None, None]
    assert ribbon[1].findtext(f"{SVG}title") == "active from 0.10 s to 9.00 s"
    for group in ribbon:
        rect = group.find(f"{SVG}rect")
        assert rect is not None
        assert float(rect.attrib["x"]) >= PLOT_LEFT
        assert float(rect.attrib["x"]) + float(rect.attrib["width"]) <= PLOT_RIGHT
    assert {"connecting 0.10 s", "active 8.90 s", "ended 0.00 s"} <= set(texts(root))


def test_the_legend_counts_the_kinds_that_occur() -> None:
    kinds = (MarkKind.INTERRUPTION, MarkKind.CLEAR, MarkKind.INTERRUPTION, MarkKind.END)
    root = parsed(call(marks=tuple(PictureMark(at, kind, "") for at, kind in enumerate(kinds))))
    shown = texts(root)
    assert shown[shown.index("average level") + 1 :] == ["interruption × 2", "clear", "end"]


def test_a_long_legend_wraps() -> None:
    states = tuple(StateSpan(0, 1000, f"a rather long name of state {number}") for number in range(6))
    rows = [
        re.findall(r"[\d.]+", group.attrib["transform"])
        for group in parsed(call(states=states)).findall(f"{SVG}g[@transform]")
    ]
    assert len({y for _, y in rows}) == 3
    assert all(float(x) < PLOT_RIGHT - 200 for x, _ in rows if float(x) > PLOT_LEFT + 300)


def test_notes_say_what_is_not_shown() -> None:
    marks = tuple(PictureMark(5000, MarkKind.CLEAR, "clear") for _ in range(125))
    shown = texts(parsed(call(marks=marks)))
    assert "Marks without room for a label: 112. Point at a line to read it." in shown
    assert "Less important marks that are not drawn: 5." in shown


def test_ticks_are_labelled_and_the_last_stays_on_the_page() -> None:
    root = parsed(call(duration_ms=3_600_000))
    assert {"0 s", "5:00", "55:00", "1:00:00"} <= set(texts(root))
    last = next(element for element in root.iter(f"{SVG}text") if element.text == "1:00:00")
    assert last.get("class") == "small muted end-at"


def test_hostile_text_is_text() -> None:
    hostile = '</style><script>alert("1")</script> & ]]> \x00\x1b[31m \u202e \ud800'
    lane = CallLane(hostile, b"\x01", RATE_HZ)
    marks = tuple(PictureMark(at, kind, hostile, hostile) for at, kind in enumerate(MarkKind))
    picture = CallPicture(hostile, hostile, 1000, (lane, lane), marks, (StateSpan(0, 1000, hostile),))
    svg = render_svg(picture)
    svg.encode()
    assert "<script" not in svg
    cleaned = '</style><script>alert("1")</script> & ]]> \ufffd\ufffd[31m \ufffd \ufffd'
    assert ElementTree.fromstring(svg).findtext(f"{SVG}title") == cleaned


def test_a_call_that_ended_at_once_has_a_picture() -> None:
    mark = PictureMark(0, MarkKind.END, "end", "server_error/capacity")
    for duration_ms in (0, -5):
        root = parsed(CallPicture("Call", "", duration_ms, (EMPTY, EMPTY), (mark,)))
        assert "0.00 s" in texts(root)
        assert paths(root, "peak caller") == []


def test_the_worst_hour_stays_under_300_kb() -> None:
    spurt = tone(500) + quiet(300)
    hour = spurt * (3_600_000 // 800)
    nasty = "&<😀" * 200
    marks = tuple(PictureMark(number * 9000, kind, nasty, nasty) for number in range(400) for kind in MarkKind)
    states = tuple(StateSpan(number * 9000, number * 9000 + 8000, f"{number}{nasty}") for number in range(400))
    svg = render_svg(call(hour, hour, duration_ms=3_600_000, marks=marks, states=states, title=nasty))
    assert len(svg.encode()) <= 300_000
    assert svg.count('<g class="ribbon other"><title>') == MAX_STATES


_TIME = st.integers(-(10**7), 10**7)


@settings(max_examples=40)
@given(
    duration_ms=_TIME,
    caller=st.binary(max_size=600),
    agent=st.binary(max_size=600),
    rate_hz=st.integers(50, 48_000),
    marks=st.lists(st.builds(PictureMark, _TIME, st.sampled_from(MarkKind), st.text(), st.text()), max_size=12),
    states=st.lists(st.builds(StateSpan, _TIME, _TIME, st.text()), max_size=6),
    title=st.text(st.characters()),
)
def test_any_call_gives_well_formed_xml(
    duration_ms: int,
    caller: bytes,
    agent: bytes,
    rate_hz: int,
    marks: list[PictureMark],
    states: list[StateSpan],
    title: str,
) -> None:
    lanes = (CallLane(title, caller, rate_hz), CallLane("Agent", agent, rate_hz))
    picture = CallPicture(title, title, duration_ms, lanes, tuple(marks), tuple(states))
    root = ElementTree.fromstring(render_svg(picture).encode())
    for path in root.iter(f"{SVG}path"):
        assert re.fullmatch(r"[-0-9. MLHVhvaz]*", path.attrib["d"])
