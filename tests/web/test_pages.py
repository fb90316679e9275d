"""The console's pages as documents: well-formed, named, without anything that the policy forbids; text as text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest

from bridge.calls.journal import Journal
from bridge.calls.record import CallRecord
from bridge.outcome import CALLER_HANGUP
from bridge.server.api.examples import RECORD
from bridge.server.api.views import Views
from bridge.server.store.delivery import Delivery
from bridge.web.assets import ASSETS
from bridge.web.call import CallPage, render_call
from bridge.web.calls import CallsPage, render_calls
from bridge.web.health import CheckResult, HealthPage, render_health
from bridge.web.html import CONSOLE_CSP, Frame, Viewer, document, duration_text, text, uptime_text
from bridge.web.live import Address, DemoLinks, LivePage, render_live
from bridge.web.signin import render_sign_in, render_sorry

NASTY = "\"><script>alert('1')</script>&\udc80"
SHOWN = "\"><script>alert('1')</script>&?"
ADMIN, READER = Viewer(True, "admin", "token", True), Viewer(False, "read only", "token", True)
VOID = {"meta", "link", "img", "input", "br", "rect"}


class Outline(HTMLParser):
    """What a document is made of; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        html.encode()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def frame(viewer: Viewer | None = ADMIN, *scripts: str) -> Frame:
    return Frame(NASTY, "../", NASTY, "live", viewer, scripts, True)


def record() -> CallRecord:
    journal = Journal()
    journal.step("connecting", NASTY, 0.5)
    for role in ("user", "agent"):
        journal.said(role, NASTY, 3.0)
    journal.corrected("cut")
    journal.tool_called(NASTY, "t1", {NASTY: [NASTY]}, 4.0)
    journal.tool_answered("t1", NASTY, 4.1, is_error=True)
    journal.tool_called("runs", "t2", {}, 4.0)
    journal.pressed("", 90, 5.0)
    copy = msgspec.json.decode(msgspec.json.encode(RECORD), type=CallRecord)
    return msgspec.structs.replace(
        copy, journal=journal, caller=NASTY, called=NASTY, agent_id=NASTY, detail=NASTY, provider=NASTY, call_sid=NASTY
    )


DELIVERY = Delivery(
    id="e1", call_id="c1", sequence=1, type=NASTY, state="dead", attempts=3, created_at=1.0, next_attempt_at=None,
    delivered_at=2.0, last_error=NASTY,
)  # fmt: skip


def live(**changes: object) -> str:
    given: dict[str, object] = {
        "problems": (NASTY,),
        "active_calls": 3,
        "max_calls": 1000,
        "ended": ((str(CALLER_HANGUP), 128), (NASTY, 2)),
        "uptime_s": 7890.5,
        "addresses": (Address(NASTY, NASTY, NASTY),),
        "shows_calls": True,
        "demo": DemoLinks(),
    }
    return render_live(frame(ADMIN, "live.js"), LivePage(**{**given, **changes}))  # type: ignore[arg-type]


def call(**changes: object) -> str:
    given: dict[str, object] = {
        "call": Views(False).detail(record()),
        "deliveries": (DELIVERY,),
        "now": 2e9,
        "is_here": True,
        "has_ladder": True,
        "has_flight": True,
    }
    return render_call(frame(ADMIN, "call.js"), CallPage(**{**given, **changes}))  # type: ignore[arg-type]


SUMMARIES = [Views(False).summary(record())]
HEALTH = HealthPage((NASTY,), ((NASTY, NASTY, False),), [CheckResult(NASTY, "failed", NASTY, NASTY)], False, 1e9, NASTY)
PAGES = {
    "live": live(),
    "call": call(),
    "calls": render_calls(frame(), CallsPage(SUMMARIES, "next", {"caller": NASTY, "cursor": NASTY}, (NASTY,))),
    "no calls": render_calls(frame(), CallsPage((), None, {}, (), NASTY)),
    "health": render_health(frame(), HEALTH),
    "sign in": render_sign_in("./", NASTY, problem=NASTY, then=NASTY),
    "sorry": render_sorry("./", NASTY, NASTY, NASTY, NASTY),
}


@pytest.mark.parametrize("name", PAGES)
def test_text_from_outside_is_text(name: str) -> None:
    html = PAGES[name]
    assert "<script>" not in html and "alert('" not in html
    assert SHOWN in Outline(html).words


@pytest.mark.parametrize("name", PAGES)
def test_nothing_needs_more_than_the_policy_allows(name: str) -> None:
    page = Outline(PAGES[name])
    assert "style" not in {tag for tag, _ in page.tags}
    assert all(script["src"] for script in page.attributes("script"))
    for tag, attributes in page.tags:
        assert not [each for each in attributes if each == "style" or each.startswith("on")], tag
        for place in ("href", "src", "action"):
            assert not re.match(r"(?i)\s*(//|[a-z]+:|/)", attributes.get(place) or ""), (tag, attributes)
    assert CONSOLE_CSP.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'")
    assert "unsafe" not in CONSOLE_CSP and "http" not in CONSOLE_CSP


@pytest.mark.parametrize("name", PAGES)
def test_pages_have_language_landmarks_one_heading_and_named_controls(name: str) -> None:
    page = Outline(PAGES[name])
    names = [tag for tag, _ in page.tags]
    assert page.attributes("html") == [{"lang": "en"}]
    assert [names.count(tag) for tag in ("header", "main", "footer", "h1")] == [1, 1, 1, 1]
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids)), "an id is there twice"
    labels = {label.get("for") for label in page.attributes("label")}
    for tag in ("input", "select"):
        for control in page.attributes(tag):
            if control.get("type") not in ("hidden", "checkbox"):
                assert control.get("id") in labels, control
    for _, attributes in page.tags:
        for reference in (attributes.get("aria-labelledby") or "").split():
            assert reference in ids
    assert all(image.get("alt") for image in page.attributes("img"))


def test_a_reader_is_shown_nothing_to_act_with() -> None:
    page = CallPage(call=Views(True).detail(record()), deliveries=None, now=0.0, is_here=True, has_flight=True)
    html = render_call(frame(READER), page)
    assert "data-action" not in html and "Flight record" not in html and "<dialog" not in html
    assert "does not answer" in html
    assert "<dialog" in PAGES["call"] and 'data-action="hangup"' in PAGES["call"]
    assert "<dialog" not in render_live(frame(READER), LivePage((), 0, 0, (), 0.0, (), True))
    health = render_health(frame(READER), HealthPage((), (), None, False))
    assert '<form method="post" action="../health/run"' not in health and "An admin can run it" in health


def test_nobody_signed_in_sees_counts_only() -> None:
    html = render_live(frame(None), LivePage(("Set BRIDGE_API_KEY.",), 1, 0, (), 1.0, (), False))
    assert "Set BRIDGE_API_KEY." in html and '<nav aria-label="Console"' not in html and 'id="rows"' not in html
    assert 'max="1" high="0.9" value="1"' in html, "the meter stands a limit of nothing"
    assert "PUBLIC_URL" in html and "No call has ended" in html


def test_the_page_of_a_call_says_what_there_is_to_hear() -> None:
    over, growing = record(), record()
    assert over.recording is not None and growing.recording is not None
    assert '<audio id="audio"' in call() and 'class="seek"' in call()
    growing.recording.complete = False
    assert "is being written" in call(call=Views(False).detail(growing))
    growing.recording = None
    html = call(call=Views(False).detail(growing))
    assert "was not recorded" in html and 'class="seek"' not in html and "audio" not in html.split("Downloads")[1]
    growing.ended_at, growing.journal = None, Journal()
    html = call(call=Views(False).detail(growing), has_ladder=False)
    assert "This call goes on" in html and "Nothing was said" in html and "sip-messages" not in html


def test_the_doctor_is_waited_for() -> None:
    html = render_health(frame(), HealthPage((), (), None, True))
    assert 'data-running="yes"' in html and "Run the doctor" not in html


def test_links_lead_below_the_root_wherever_it_is() -> None:
    html = document(Frame("T", "../", "1", "calls", ADMIN, ("live.js",)), ())
    for link in (
        'href="../"',
        'href="../calls" aria-current="page"',
        'src="../assets/live.js"',
        'action="../sign-out"',
    ):
        assert link in html


@pytest.mark.parametrize(
    ("seconds", "clock", "words"),
    [
        (-1, "0:00", "0 s"),
        (12.9, "0:12", "12 s"),
        (60, "1:00", "1 min 0 s"),
        (3599, "59:59", "59 min 59 s"),
        (3661, "1:01:01", "1 h 1 min"),
        (90_000, "25:00:00", "1 d 1 h"),
    ],
)
def test_lengths_of_time(seconds: float, clock: str, words: str) -> None:
    assert (duration_text(seconds), uptime_text(seconds)) == (clock, words)


def test_escaping() -> None:
    assert text("<a b='c'>&\udc80") == "&lt;a b=&#x27;c&#x27;&gt;&amp;?"
    assert text(7) == "7"


# --- files ---

CSS = ASSETS["console.css"][0].decode()


def test_files_ask_nobody_else_for_anything() -> None:
    for name, (content, _) in ASSETS.items():
        source = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http" not in source.replace("https://", "http") or name.endswith(".js") and "http" not in source, name
        assert "url(" not in source and "@import" not in source, name


def test_scripts_never_make_markup_of_text_nor_code() -> None:
    for name, (content, _) in ASSETS.items():
        for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert danger not in content.decode(), (name, danger)


def test_who_wants_no_motion_gets_none() -> None:
    assert "prefers-reduced-motion: reduce" in CSS and ":focus-visible" in CSS


def _luminance(colour: str) -> float:
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    levels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in levels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_contrast(scheme: int) -> None:
    colours = dict(re.findall(r"--([a-z-]+): #([0-9a-f]+)", re.findall(r":root \{([^}]*)\}", CSS)[scheme]))
    pairs = [(ink, ground) for ink in ("ink", "muted", "link", "bad") for ground in ("page", "card", "soft")]
    for ink, ground in [*pairs, ("ok", "ok-soft"), ("bad", "bad-soft"), ("on-accent", "accent"), ("ink", "bad-soft")]:
        dark, light = sorted((_luminance(colours[ink]), _luminance(colours[ground])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_how_the_line_was_stands_among_the_figures() -> None:
    media: dict[str, int | float | None] = {"mos": 4.26, "loss": 0.0123, "jitter_ms": 3.6, "round_trip_ms": 41.0}
    shown = Outline(call(call=Views(False).detail(msgspec.structs.replace(record(), media=media)))).words
    for words in ("Quality (MOS)4.3 of 4.5", "Loss, jitter1.2 %, 4 ms", "Round trip41 ms"):
        assert words in shown
    nothing_heard: dict[str, int | float | None] = {"mos": None, "loss": 0.0, "jitter_ms": 0.0, "round_trip_ms": None}
    shown = Outline(call(call=Views(False).detail(msgspec.structs.replace(record(), media=nothing_heard)))).words
    assert "Loss, jitter0.0 %, 0 ms" in shown
    assert "MOS" not in shown
    assert "Round trip" not in shown
