"""The page at ``/docs``: the OpenAPI document for people. Rendered once, on the server; no scripts, nothing from
elsewhere, and nothing to try out: a form that holds an admin key is no place for one. Everything is escaped.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from html import escape
from importlib.resources import files
from typing import Any

DOCS_CSS = files("bridge.server.api").joinpath("docs.css").read_text("utf-8")
"""The stylesheet, to be served at ``/docs.css`` as ``text/css``."""

DOCS_CSP = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The Content-Security-Policy to serve the page with."""

_CODE = re.compile(r"`([^`]+)`")
_LOCAL = "http://127.0.0.1:8080"
"""In examples, where the bridge does not know its address."""

Document = Mapping[str, Any]


def render_docs(document: Document) -> str:
    """The page as one HTML document, from an OpenAPI document."""
    parts = [*_head(document), *_navigation(document)]
    for tag in document["tags"]:
        parts.append(f'<h2 id="{_text(tag["name"])}">{_text(tag["name"].capitalize())}</h2>')
        parts.append(f'<p class="muted">{_rich(tag["description"])}</p>')
        for path, method, operation in _operations(document, tag["name"]):
            parts += _operation(document, path, method, operation)
    parts += [*_schemas(document), "</main>\n</body>\n</html>"]
    return "\n".join(parts) + "\n"


def curl_example(document: Document, path: str, method: str, operation: Document) -> str:
    """A command line that carries out this operation."""
    server = document["servers"][0]["url"]
    url = (_LOCAL if server == "/" else server) + path
    query: list[str] = []
    for parameter in operation["parameters"]:
        example = str(parameter.get("example", ""))
        if parameter["in"] == "path":
            url = url.replace(f"{{{parameter['name']}}}", example)
        elif parameter["in"] == "query" and parameter["required"]:
            query.append("--data-urlencode " + shlex.quote(f"{parameter['name']}={example}"))
    words = ["curl", "-H 'X-API-Key: KEY'"]
    if method not in {"get", "post"} or (method == "post" and "requestBody" not in operation):
        words.append(f"-X {method.upper()}")
    if query:
        words.append("-G " + " ".join(query))
    if "requestBody" in operation:
        schema = _resolve(document, next(iter(operation["requestBody"]["content"].values()))["schema"])
        body = json.dumps(schema.get("examples", [{}])[0])
        words.append(f"-H 'Content-Type: application/json' -d {shlex.quote(body)}")
    if "audio/wav" in operation["responses"].get("200", {}).get("content", {}):
        words.append("-o call.wav")
    return " ".join([*words, shlex.quote(url)])


def _head(document: Document) -> Iterator[str]:
    info = document["info"]
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f'<title>API – {_text(info["title"])}</title>\n<link rel="stylesheet" href="/docs.css">\n</head>\n<body>'
    yield '<a class="skip" href="#main">Skip to the operations</a>\n<header>'
    yield f'<h1>{_text(info["title"])}: API</h1>\n<p class="muted">Version {_text(info["version"])} · '
    yield '<a href="/openapi.json">openapi.json</a></p>'
    for paragraph in info["description"].split("\n\n"):
        yield f"<p>{_rich(paragraph)}</p>"
    yield "</header>"


def _navigation(document: Document) -> Iterator[str]:
    yield '<nav aria-label="Operations">\n<ul>'
    for tag in document["tags"]:
        for path, method, operation in _operations(document, tag["name"]):
            yield (
                f'<li><a href="#{_text(operation["operationId"])}"><span class="method">{method.upper()}</span> '
                f"<code>{_text(path)}</code></a> <span>{_text(operation['summary'])}</span></li>"
            )
    yield '</ul>\n</nav>\n<main id="main">'


def _operations(document: Document, tag: str) -> Iterator[tuple[str, str, Document]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield path, method, operation


def _operation(document: Document, path: str, method: str, operation: Document) -> Iterator[str]:
    name = _text(operation["operationId"])
    yield f'<section id="{name}" aria-labelledby="{name}-title">'
    yield f'<h3 id="{name}-title">{_text(operation["summary"])}</h3>'
    yield f'<p class="request"><span class="method {method}">{method.upper()}</span> <code>{_text(path)}</code></p>'
    for paragraph in operation["description"].split("\n\n"):
        yield f"<p>{_rich(paragraph)}</p>"
    if operation["parameters"]:
        yield from _table(
            f"Parameters of {operation['summary']}",
            ("Parameter", "In", "Type", "What it is"),
            (
                (
                    f"<code>{_text(parameter['name'])}</code>",
                    _text(parameter["in"]) + (", required" if parameter["required"] else ""),
                    _type(parameter["schema"]),
                    _rich(parameter["description"]),
                )
                for parameter in operation["parameters"]
            ),
        )
    if "requestBody" in operation:
        schema = next(iter(operation["requestBody"]["content"].values()))["schema"]
        yield f"<p>Body: {_type(schema)}</p>"
    yield from _responses(document, operation)
    yield "<h4>Example</h4>"
    yield f"<pre><code>{_text(curl_example(document, path, method, operation))}</code></pre>\n</section>"


def _responses(document: Document, operation: Document) -> Iterator[str]:
    rows: list[tuple[str, ...]] = []
    for status, response in operation["responses"].items():
        response = _resolve(document, response)
        kinds = [
            _type(media["schema"]) if "schema" in media else f"<code>{_text(kind)}</code>"
            for kind, media in response.get("content", {}).items()
        ]
        rows.append((_text(status), ", ".join(kinds), _rich(response["description"])))
    yield from _table(f"Answers of {operation['summary']}", ("Status", "Body", "When"), iter(rows))


def _schemas(document: Document) -> Iterator[str]:
    yield '<h2 id="schemas">Bodies</h2>'
    for name, schema in document["components"]["schemas"].items():
        anchor = f"schema-{_text(name)}"
        yield f'<section id="{anchor}" aria-labelledby="{anchor}-title">\n<h3 id="{anchor}-title">{_text(name)}</h3>'
        yield f"<p>{_rich(' '.join(schema.get('description', '').split()))}</p>"
        if "properties" in schema:
            yield from _members(name, schema)
        else:
            yield f"<p>{_type(schema)}</p>"
        for example in schema.get("examples", []):
            yield "<details>\n<summary>Example</summary>"
            yield f"<pre><code>{_text(json.dumps(example, indent=2))}</code></pre>\n</details>"
        yield "</section>"


def _members(name: str, schema: Document) -> Iterator[str]:
    required = schema.get("required", [])
    yield from _table(
        f"Members of {name}",
        ("Member", "Type", "What it is"),
        (
            (
                f"<code>{_text(member)}</code>",
                _type(about) + ("" if member in required else ", optional"),
                _rich(about.get("description", "")),
            )
            for member, about in schema["properties"].items()
        ),
    )


def _table(caption: str, heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    """Cells are HTML; the caption is for those who hear the page."""
    yield f'<div class="wide" tabindex="0" role="region" aria-label="{_text(caption)}">\n<table>'
    yield f'<caption class="unseen">{_text(caption)}</caption>'
    yield "<thead><tr>" + "".join(f'<th scope="col">{head}</th>' for head in heads) + "</tr></thead>\n<tbody>"
    for first, *others in rows:
        yield f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in others) + "</tr>"
    yield "</tbody>\n</table>\n</div>"


def _type(schema: Document) -> str:
    """A JSON Schema in a few words, as HTML."""
    if "$ref" in schema:
        name = _text(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(f"<code>{_text(str(value))}</code>" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema['items'])}" if schema.get("items") else "list"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    default = [f"default {schema['default']}"] if "default" in schema else []
    return ", ".join([_text(str(kind)), *map(_text, [*bounds, *default])])


def _resolve(document: Document, part: Document) -> Document:
    """What a reference stands for."""
    if "$ref" not in part:
        return part
    found: Any = document
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    assert isinstance(found, dict)
    return found


def _rich(text: str) -> str:
    """Text with its `code` marked up."""
    return _CODE.sub(r"<code>\1</code>", _text(text))


def _text(text: str) -> str:
    """Escaped for content and for quoted attributes."""
    return escape(text)
