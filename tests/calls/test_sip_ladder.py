"""The ladder picture: one arrow a message, words for those who cannot see it, and nothing that runs or breaks out."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from bridge.calls.sip_ladder import LADDER_CSP, MAX_PEERS, MAX_ROWS, render_ladder
from bridge.sip.message_log import SipMessageEntry, SipTrace

SVG = "{http://www.w3.org/2000/svg}"
PEER, OTHER = "192.0.2.10:5060", "192.0.2.11:5060"


def entry(at: float, summary: str, *, sent: bool, text: str = "", peer: str = PEER) -> SipMessageEntry:
    return SipMessageEntry(
        at=at, sent=sent, transport="UDP", peer=peer, summary=summary, text=text or f"{summary} {at} {sent}"
    )


CALL = SipTrace(
    call_id="a84b4c76e66710@192.0.2.10",
    messages=[
        entry(100.0, "INVITE", sent=False, text="INVITE\n\nv=0\no=-"),
        entry(100.012, "100 Trying (INVITE)", sent=True),
        entry(100.5, "INVITE", sent=False, text="INVITE\n\nv=0\no=-"),
        entry(101.2, "200 OK (INVITE)", sent=True, text="200\n\nv=0\no=-"),
        entry(101.3, "ACK", sent=False),
        entry(161.3, "486 Busy Here (BYE)", sent=True, peer=OTHER),
    ],
)


def drawn(trace: SipTrace, title: str = "SIP messages of call 7") -> ElementTree.Element:
    return ElementTree.fromstring(render_ladder(trace, title))


def arrows(root: ElementTree.Element) -> list[tuple[str, str]]:
    """CSS class and title of every arrow."""
    return [
        (group.get("class", ""), group.findtext(f"{SVG}title") or "")
        for group in root.iter(f"{SVG}g")
        if group.find(f"{SVG}path[@class='hit']") is not None
    ]


def test_every_message_has_its_arrow() -> None:
    assert arrows(drawn(CALL)) == [
        ("request", "INVITE with SDP at 0.000 s, received from 192.0.2.10:5060 over UDP"),
        ("trying", "100 Trying (INVITE) at 0.012 s, sent to 192.0.2.10:5060 over UDP"),
        ("request again", "INVITE with SDP again at 0.500 s, received from 192.0.2.10:5060 over UDP"),
        ("good", "200 OK (INVITE) with SDP at 1.200 s, sent to 192.0.2.10:5060 over UDP"),
        ("request", "ACK at 1.300 s, received from 192.0.2.10:5060 over UDP"),
        ("bad", "486 Busy Here (BYE) at 1:01.300, sent to 192.0.2.11:5060 over UDP"),
    ]


def test_arrows_point_the_way_of_the_message() -> None:
    paths = re.findall(r'class="hit" d="M([\d.]+) \d+H([\d.]+)"', render_ladder(CALL, "x"))
    ways = ["in" if float(end) > float(start) else "out" for start, end in paths]
    assert ways == ["in", "out", "in", "out", "in", "out"]
    assert paths[5][1] != paths[3][1]  # the second peer has a line of its own


def test_it_speaks() -> None:
    root = drawn(CALL)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "SIP messages of call 7"
    described = root.findtext(f"{SVG}desc") or ""
    assert described.startswith("Messages: 6. INVITE with SDP at 0.000 s, received from 192.0.2.10:5060 over UDP. ")
    assert root.get("aria-labelledby") == "ladder-title ladder-desc"
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert texts[:3] == ["SIP messages of call 7", "1:01.300", "messages: 6, Call-ID a84b4c76e66710@192.0.2.10"]
    assert {"bridge", PEER, OTHER, "request", "provisional response", "success", "sent again"} <= set(texts)


def test_light_and_dark_without_anything_active() -> None:
    svg = render_ladder(CALL, "x")
    assert svg.count("prefers-color-scheme:dark") == 2
    assert not re.search(r"<script|href|url\(|@import|on\w+=|style=", svg)
    assert LADDER_CSP.startswith("default-src 'none'; style-src 'sha256-")


def test_text_from_outside_cannot_break_out() -> None:
    nasty = '</text><script>alert("1")</script>&\x00\u202e'
    trace = SipTrace(call_id=nasty, messages=[entry(0, nasty, sent=True, text=nasty, peer=nasty)])
    svg = render_ladder(trace, nasty)
    ElementTree.fromstring(svg)
    assert "<script" not in svg
    assert "\u202e" not in svg


def test_long_calls_show_their_gap() -> None:
    rows = [entry(float(number), "UPDATE", sent=True) for number in range(4)]
    for first, place in ((2, "2.000 s"), (4, None)):
        svg = render_ladder(SipTrace(call_id="c", messages=rows, left_out=7, first=first), "x")
        assert "Messages that are not kept: 7" in svg
        assert "Messages in the middle that are not kept: 7." in svg
        if place:
            assert svg.index("Messages that are not kept: 7") < svg.rindex(place)
    assert "not kept" not in render_ladder(SipTrace(call_id="c", messages=rows), "x")


def test_it_is_bounded() -> None:
    rows = [entry(float(number), "x" * 500, sent=False, peer=f"192.0.2.{number}:5060") for number in range(400)]
    svg = render_ladder(SipTrace(call_id="c" * 1000, messages=rows), "t" * 1000)
    root = ElementTree.fromstring(svg)
    assert len(arrows(root)) == MAX_ROWS
    assert svg.count('class="side"') == MAX_PEERS + 1
    assert "And 110 more messages." in svg
    assert len(svg) < 200_000


def test_a_call_without_messages() -> None:
    root = drawn(SipTrace(call_id="c", messages=[]))
    assert arrows(root) == []
    assert "messages: 0, Call-ID c" in [element.text for element in root.iter(f"{SVG}text")]


def test_a_clock_that_steps_back() -> None:
    trace = SipTrace(call_id="c", messages=[entry(5, "INVITE", sent=False), entry(4, "100 Trying", sent=True)])
    assert arrows(drawn(trace))[1][1] == "100 Trying at 0.000 s, sent to 192.0.2.10:5060 over UDP"
