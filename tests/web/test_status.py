from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from bridge.outcome import AGENT_QUOTA, CALLER_HANGUP
from bridge.web.status import STATUS_CSP, STATUS_CSS, DemoLinks, StatusPage, render_status, uptime_text

PAGE = StatusPage(
    version="0.1.0",
    ready=True,
    problems=(),
    active_calls=3,
    max_calls=1000,
    ended=((str(CALLER_HANGUP), 128), ("agent_quota", 2)),
    uptime_s=7890.5,
    voice_url="https://bridge.example.com/twilio/voice",
    media_url="wss://bridge.example.com/twilio/media",
)
VOID = {"meta", "link", "img"}


class Outline(HTMLParser):
    """What a document is made of; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
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
        self.words.append(data.strip())

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def outline(page: StatusPage = PAGE, *, paused: bool = False) -> Outline:
    return Outline(render_status(page, paused=paused))


def changed(**changes: object) -> StatusPage:
    return dataclasses.replace(PAGE, **changes)  # type: ignore[arg-type]


def test_the_page_has_language_landmarks_and_headings_in_order() -> None:
    page = outline(changed(problems=("Set X.",), demo=DemoLinks()))
    names = [tag for tag, _ in page.tags]
    assert page.attributes("html") == [{"lang": "en"}]
    assert [names.count(tag) for tag in ("header", "main", "nav", "footer", "h1")] == [1, 1, 1, 1, 1]
    headings = [tag for tag in names if re.fullmatch("h[1-6]", tag)]
    assert headings == ["h1"] + ["h2"] * 5
    ids = {attrs["id"] for attrs in page.attributes("h2")}
    assert {attrs["aria-labelledby"] for attrs in page.attributes("section")} == ids


def test_ready_and_not_ready_are_said_in_words() -> None:
    assert "Ready" in outline().words
    assert "Ready – Telephony bridge" in outline().words
    assert "Not ready" in outline(changed(ready=False)).words
    assert "version 0.1.0" in outline().words


def test_problems_are_listed_whether_ready_or_not() -> None:
    for ready in (True, False):
        page = outline(changed(ready=ready, problems=("Set TWILIO_AUTH_TOKEN.", "Set ELEVENLABS_AGENT_ID.")))
        assert {"What to set next", "Set TWILIO_AUTH_TOKEN.", "Set ELEVENLABS_AGENT_ID."} <= set(page.words)
    assert "What to set next" not in outline().words


def test_calls_now_and_uptime_are_shown() -> None:
    page = outline()
    assert {"3", "of 1000", "130", "2 h 11 min"} <= set(page.words)
    (meter,) = page.attributes("meter")
    assert (meter["min"], meter["max"], meter["value"]) == ("0", "1000", "3")


def test_the_meter_stands_a_limit_of_nothing_and_a_count_over_the_limit() -> None:
    (meter,) = outline(changed(max_calls=0, active_calls=5)).attributes("meter")
    assert (meter["max"], meter["value"]) == ("1", "1")


def test_each_end_has_its_count_and_advice() -> None:
    html = render_status(changed(ended=(*PAGE.ended, ("other/strange", 1))))
    assert f'<code>{CALLER_HANGUP}</code></th><td class="count">128</td><td>{CALLER_HANGUP.advice}</td>' in html
    assert AGENT_QUOTA.advice in html
    assert '<code>other/strange</code></th><td class="count">1</td><td></td>' in html
    assert "No call has ended since the start." in outline(changed(ended=())).words


def test_the_addresses_can_be_copied_whole() -> None:
    html = render_status(PAGE)
    assert '<code class="copy">https://bridge.example.com/twilio/voice</code>' in html
    assert '<code class="copy">wss://bridge.example.com/twilio/media</code>' in html
    assert re.search(r"\.copy \{[^}]*user-select: all", STATUS_CSS)


def test_without_a_public_address_it_says_what_to_set() -> None:
    page = outline(changed(voice_url="", media_url=""))
    assert "PUBLIC_URL" in page.words
    assert {"class": "copy"} not in page.attributes("code")


def test_links_lead_to_metrics_health_docs_and_the_demo() -> None:
    links = [attrs["href"] for attrs in outline().attributes("a")]
    assert links == ["/metrics", "/healthz", "/readyz", "/?pause"]
    page = outline(changed(demo=DemoLinks("/demo/call.svg", "/demo/call.wav")))
    assert [attrs["href"] for attrs in page.attributes("a")][:2] == ["/demo/call.svg", "/demo/call.wav"]
    (image,) = page.attributes("img")
    assert image["src"] == "/demo/call.svg"
    assert image["alt"]


def test_it_reloads_itself_until_paused() -> None:
    refresh = {"http-equiv": "refresh", "content": "2"}
    assert refresh in outline().attributes("meta")
    paused = outline(paused=True)
    assert refresh not in paused.attributes("meta")
    assert {"href": "/"} in paused.attributes("a")


def test_nothing_needs_more_than_the_policy_allows() -> None:
    page = outline(changed(demo=DemoLinks()))
    assert STATUS_CSP.startswith("default-src 'none'; style-src 'self'; img-src 'self'; media-src 'self'")
    assert not {"script", "style"} & {tag for tag, _ in page.tags}
    assert not any(name == "style" or name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert page.attributes("link") == [{"rel": "stylesheet", "href": "/status.css"}]
    assert "url(" not in STATUS_CSS
    assert "@import" not in STATUS_CSS


def test_text_from_outside_is_escaped() -> None:
    nasty = "\"><script>alert('1')</script>&\udc80"
    page = StatusPage(nasty, False, (nasty,), 0, 1, ((nasty, 1),), 0, nasty, nasty, DemoLinks(nasty, nasty))
    html = render_status(page)
    html.encode()
    assert "<script" not in html
    assert "alert('" not in html
    shown = nasty.replace("\udc80", "?")
    assert Outline(html).words.count(shown) == 4
    assert [attrs["src"] for attrs in Outline(html).attributes("img")] == [shown]


@pytest.mark.parametrize(
    ("uptime_s", "text"),
    [
        (-1, "0 s"),
        (12.9, "12 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (86_399, "23 h 59 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_uptime_in_its_two_greatest_units(uptime_s: float, text: str) -> None:
    assert uptime_text(uptime_s) == text


def _luminance(colour: str) -> float:
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    levels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in levels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_contrast(scheme: int) -> None:
    colours = dict(re.findall(r"--([a-z-]+): #([0-9a-f]+)", re.findall(r":root \{([^}]*)\}", STATUS_CSS)[scheme]))
    pairs = [(ink, ground) for ink in ("ink", "muted", "link") for ground in ("page", "card")]
    for ink, ground in [*pairs, ("ok", "ok-soft"), ("bad", "bad-soft")]:
        dark, light = sorted((_luminance(colours[ink]), _luminance(colours[ground])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)
