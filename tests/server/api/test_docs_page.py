"""The page at ``/docs``: complete, escaped, without scripts or anything from elsewhere."""

from __future__ import annotations

import copy
import re
import shlex
from html.parser import HTMLParser
from typing import Any

from bridge.server.api.docs_page import DOCS_CSS, curl_example, render_docs
from tests.server.api.api_fakes import running_api

VOID = {"meta", "link"}


class Page(HTMLParser):
    """Checks that elements nest, and collects ids, links and tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value or "")
            elif name in ("href", "src"):
                self.links.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def documents() -> tuple[dict[str, Any], str]:
    async with running_api() as api:
        document: dict[str, Any] = (await api.get("/openapi.json")).json()
        return document, (await api.get("/docs")).text


async def test_it_is_a_whole_page_whose_links_lead_somewhere() -> None:
    _, html = await documents()
    page = Page(html)
    assert html.startswith("<!doctype html>")
    assert len(page.ids) == len(set(page.ids))
    anchors = {link[1:] for link in page.links if link.startswith("#")}
    assert anchors <= set(page.ids)
    assert {link for link in page.links if not link.startswith("#")} == {"/docs.css", "/openapi.json"}
    assert {"h1", "main", "nav", "header", "table", "caption"} <= page.tags
    assert '<html lang="en">' in html


async def test_every_operation_and_every_body_is_on_it() -> None:
    document, html = await documents()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f'id="{operation["operationId"]}"' in html
            assert f"{method.upper()}</span> <code>{path}</code>" in html
            for parameter in operation["parameters"]:
                assert f"<code>{parameter['name']}</code>" in html
    for name in document["components"]["schemas"]:
        assert f'id="schema-{name}"' in html


async def test_no_scripts_and_nothing_from_elsewhere() -> None:
    async with running_api(key="") as api:
        response = await api.get("/docs")
        style = await api.get("/docs.css")
    policy = response.headers["content-security-policy"]
    assert policy == "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    page = Page(response.text)
    assert not page.tags & {"script", "style", "iframe", "img", "form", "object"}
    assert not [name for name in page.attributes if name.startswith("on") or name == "style"]
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    assert "url(" not in DOCS_CSS and "@import" not in DOCS_CSS
    assert "prefers-color-scheme: dark" in DOCS_CSS


async def test_text_is_escaped() -> None:
    document, _ = await documents()
    evil = copy.deepcopy(document)
    evil["info"]["title"] = evil["info"]["description"] = '<script>alert("1")</script>`<b>`'
    evil["paths"]["/v1/usage"]["get"]["summary"] = '"><img src=x onerror=1>'
    page = Page(render_docs(evil))
    assert not page.tags & {"script", "img", "b"}
    assert not [name for name in page.attributes if name.startswith("on")]


async def test_examples_are_commands_that_a_shell_takes() -> None:
    document, html = await documents()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            words = shlex.split(curl_example(document, path, method, operation))
            assert words[0] == "curl"
            assert words[1:3] == ["-H", "X-API-Key: KEY"]
            assert re.fullmatch(r"https://bridge\.example\.com/v1/[a-z0-9/]+", words[-1])
            assert ("-X" in words) == (
                method in ("delete", "put") or "/calls/" in path and method == "post" and "requestBody" not in operation
            )
    replay = shlex.split(curl_example(document, *at(document, "/v1/webhooks/dead/replay", "post")))
    assert replay[replay.index("-d") + 1] == '{"ids": ["evt_9f86d081884c7d65_call.ended"], "all": false}'
    removal = shlex.split(curl_example(document, *at(document, "/v1/routes", "delete")))
    assert removal[removal.index("--data-urlencode") + 1] == "number=+4930*"
    assert "curl -H &#x27;X-API-Key: KEY&#x27; https://bridge.example.com/v1/usage" in html


def at(document: dict[str, Any], path: str, method: str) -> tuple[str, str, dict[str, Any]]:
    return path, method, document["paths"][path][method]


async def test_without_a_public_address_examples_name_this_machine() -> None:
    document, _ = await documents()
    document["servers"] = [{"url": "/"}]
    assert curl_example(document, *at(document, "/v1/usage", "get")).endswith(" http://127.0.0.1:8080/v1/usage")


async def test_text_can_be_read_in_both_schemes() -> None:
    """WCAG 2.2, criterion 1.4.3: at least 4.5:1."""
    blocks = re.findall(r":root \{([^}]*)\}", DOCS_CSS)
    assert len(blocks) == 2
    for block in blocks:
        colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{3,6})", block))
        for ink in ("ink", "muted", "link", "read", "change"):
            for ground in ("page", "card"):
                assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    red, green, blue = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
