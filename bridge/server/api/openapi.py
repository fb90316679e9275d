"""The OpenAPI 3.1 document of the table of operations.

Schemas are derived from the structs themselves (``msgspec.json.schema_components``), descriptions from the text
below each field in their source. Answers always have all of their members, so in their schemas all are required, but
for structs that are sent without what was not set. Source: OpenAPI Specification 3.1.1.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from bridge import __version__
from bridge.auth.api_keys import Scope
from bridge.server.api.errors import JSON, STATUS_TEXTS, ErrorBody
from bridge.server.api.examples import EXAMPLES
from bridge.server.api.operations import AUDIO, FLIGHT, Operation, Parameter
from bridge.server.recording.encoders import CONTENT_TYPES

TAGS = {
    "calls": "Stored calls, those in progress among them.",
    "control": "Orders to calls in progress.",
    "live": "What goes on now, on all instances.",
    "routes": "Which agent takes which number.",
    "webhooks": "Events that were not taken by their receiver.",
}
"""Every tag with its description, in the order of the page."""

SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}, {"vendorKey": []}]
"""Any one of the three."""

ALWAYS = (401, 403, 405, 429, 500, 503)
"""Refusals that every operation can give."""

MORE_TEXTS = {
    "InitiationData.conversation_config_override": "Overrides of the agent; its security settings must allow them.",
    "InitiationData.custom_llm_extra_body": "For the agent's language model, if it is your own.",
    "InitiationData.dynamic_variables": "Texts, numbers or truth values by name; `system__` ones are the vendor's.",
    "InitiationData.source_info": "What placed the call.",
    "InitiationData.user_id": "Your own id of the person.",
    "KeyPress.at_s": "Seconds since the call was offered.",
    "KeyPress.duration_ms": "0 where the carrier does not say.",
    "LatencySummary.count": "Messages that were timed.",
    "LatencySummary.mean_ms": "Mean, milliseconds.",
    "LatencySummary.p50_ms": "Half of them took no longer, milliseconds.",
    "LatencySummary.p99_ms": "99 of 100 took no longer, milliseconds.",
    "Route.number": "Pattern of the called number or SIP address; `*` stands for any characters.",
    "Route.overflow": "What happens to a caller for whom there is no slot.",
    "Route.overflow_queue_s": "How long a caller may wait, seconds.",
    "Route.recording": "Whether calls are recorded.",
    "Step.at_s": "Seconds since the call was offered.",
    "Step.detail": "More words on it.",
    "Step.event": "What happened.",
    "ToolUse.at_s": "Seconds since the call was offered.",
    "ToolUse.call_id": "The agent's id of this use.",
    "ToolUse.is_error": "Whether it failed.",
    "ToolUse.name": "The tool.",
    "ToolUse.parameters": "What the agent gave it.",
    "ToolUse.result": "What it answered; empty while it runs.",
    "Turn.at_s": "Seconds since the call was offered.",
    "Turn.interrupted": "Whether the caller cut it short.",
    "Turn.role": "Who spoke.",
}
"""Members that need no text beside their code, or another one for whoever does not see the code."""

_ABOUT = """\
Calls, recordings, limits and routes of a telephony bridge.

Give a key of `BRIDGE_API_KEY` as Bearer token or as `X-API-Key`. Keys have a scope: `read` sees, `admin` also \
changes. Every refusal has the same shape, with a `code` for programs and a `message` that says what to do. Times \
are Unix seconds. With `REDACT_NUMBERS` on, phone numbers and SIP users are masked in every answer."""


def build_openapi(operations: Sequence[Operation], public_url: str) -> dict[str, Any]:
    """The document as JSON-able data. ``public_url`` has no trailing slash; empty = where it was fetched from."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Telephony bridge",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": public_url or "/"}],
        "security": SECURITY,
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": _paths(operations),
        "components": {
            "schemas": component_schemas(operations),
            "responses": {_refusal_name(status): _refusal(status) for status in STATUS_TEXTS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A key of BRIDGE_API_KEY."},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
                "vendorKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "xi-api-key",
                    "description": "The same key, where the vendor's own clients put theirs.",
                },
            },
        },
    }


def component_schemas(operations: Sequence[Operation]) -> dict[str, Any]:
    """JSON Schemas of all bodies by name."""
    answers = [operation.answer for operation in operations if _is_json(operation.answer)]
    bodies = [operation.body for operation in operations if operation.body is not None]
    _, schemas = msgspec.json.schema_components([*answers, ErrorBody], ref_template="#/components/schemas/{name}")
    structs = _structs([*answers, *bodies, ErrorBody])
    sparse = {struct.__name__ for struct in structs if struct.__struct_config__.omit_defaults}
    for name, schema in schemas.items():
        members = schema.get("properties", {})  # an Enum has none
        if members and name not in sparse:
            schema["required"] = list(members)
        for member in members.values():
            member.pop("default", None)
    _, of_bodies = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    schemas = {**of_bodies, **schemas}
    for schema in schemas.values():
        schema.pop("title", None)  # repeats the name
        if "description" in schema:
            schema["description"] = _plain(schema["description"])
    for struct in structs:
        schema, texts = schemas[struct.__name__], field_texts(struct)
        for member, about in schema["properties"].items():
            text = MORE_TEXTS.get(f"{struct.__name__}.{member}", texts.get(member))
            if text is not None:
                about["description"] = text
        if struct in EXAMPLES:
            schema["examples"] = [msgspec.to_builtins(EXAMPLES[struct])]
    return dict(sorted(schemas.items()))


def field_texts(struct: type) -> dict[str, str]:
    """The text below each field in the source of this struct and of those that it extends."""
    texts: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        texts.update(_texts_of_module(base.__module__).get(base.__name__, {}))
    return texts


@functools.cache
def _texts_of_module(name: str) -> dict[str, dict[str, str]]:
    """The same of every class in a module of the bridge, by class."""
    if not name.startswith("bridge."):
        return {}
    try:
        source = inspect.getsource(sys.modules[name])
    except OSError:  # installed without its source: the document does without the texts
        return {}
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return {node.name: dict(_fields(node)) for node in classes}


def _fields(struct: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in pairwise(struct.body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            yield field.target.id, _plain(str(below.value.value))


def _plain(text: str) -> str:
    """A docstring as Markdown: one line, double backquotes as single ones."""
    return " ".join(text.replace("``", "`").split())


def _structs(types: Iterable[Any]) -> list[type[msgspec.Struct]]:
    """Every struct in these types, each once."""
    found: list[type[msgspec.Struct]] = []
    todo = list(types)
    while todo:
        seen = todo.pop()
        if isinstance(seen, type) and issubclass(seen, msgspec.Struct):
            if seen in found:
                continue
            found.append(seen)
            todo += [field.type for field in msgspec.structs.fields(seen)]
        todo += getattr(seen, "__args__", ())
    return found


def _is_json(answer: Any) -> bool:
    return answer is not None and answer not in (AUDIO, FLIGHT)


def _paths(operations: Sequence[Operation]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return paths


def _operation(operation: Operation) -> dict[str, Any]:
    scope = "Needs an admin key." if operation.scope is Scope.ADMIN else "A read key will do."
    document: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": f"{operation.description}\n\n{scope}",
        "parameters": [_parameter(parameter) for parameter in operation.parameters],
        "responses": {
            **_success(operation),
            **{
                str(status): {"$ref": f"#/components/responses/{_refusal_name(status)}"}
                for status in sorted({*ALWAYS, *operation.errors})
            },
        },
    }
    if operation.body is not None:
        document["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(operation.body)}}}
    return document


def _parameter(parameter: Parameter) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path" or parameter.required,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }
    if parameter.example:
        document["example"] = parameter.example
    return document


def _success(operation: Operation) -> dict[str, Any]:
    if operation.answer is None:
        return {"204": {"description": "Done."}}
    if operation.answer is FLIGHT:
        return {"200": {"description": "The file.", "content": {"application/gzip": {}}}}
    if operation.answer is AUDIO:
        content: dict[str, Any] = {kind: {} for kind in CONTENT_TYPES.values()}
        headers = {
            "Accept-Ranges": {"schema": {"type": "string"}, "description": "`bytes`."},
            "ETag": {"schema": {"type": "string"}, "description": "For `If-Range`."},
        }
        return {
            "200": {"description": "The whole recording.", "headers": headers, "content": content},
            "206": {"description": "The range that was asked for.", "headers": headers, "content": content},
        }
    description, schema = _summary_of(operation.answer), _ref(operation.answer)
    kinds: dict[str, Any] = {JSON: {"schema": schema}, **{kind: {} for kind in operation.more_types}}
    return {str(operation.status): {"description": description, "content": kinds}}


def _summary_of(struct: type) -> str:
    return _plain((struct.__doc__ or "").partition("\n\n")[0])


def _ref(struct: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def _refusal_name(status: int) -> str:
    return f"Refusal{status}"


def _refusal(status: int) -> dict[str, Any]:
    document: dict[str, Any] = {
        "description": STATUS_TEXTS[status],
        "content": {JSON: {"schema": _ref(ErrorBody)}},
    }
    if status in (429, 503):
        document["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
    return document
