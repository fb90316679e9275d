"""The OpenAPI document: valid, complete, and true: real answers and its own examples fit its schemas."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from bridge import __version__
from bridge.server.api import openapi
from bridge.server.api.errors import STATUS_TEXTS
from bridge.server.api.examples import DEAD_EVENT, EXAMPLES, LIVE_CALL
from bridge.server.api.ports import ControlResult
from tests.server.api.api_fakes import Api, record, running_api

OPERATIONS = {
    "listCalls": ("get", "/v1/calls"),
    "placeCall": ("post", "/v1/calls"),
    "getCall": ("get", "/v1/calls/{id}"),
    "deleteCall": ("delete", "/v1/calls/{id}"),
    "getCallEvents": ("get", "/v1/calls/{id}/events"),
    "getCallTranscript": ("get", "/v1/calls/{id}/transcript"),
    "getCallAudio": ("get", "/v1/calls/{id}/audio"),
    "getCallWebhooks": ("get", "/v1/calls/{id}/webhooks"),
    "hangUpCall": ("post", "/v1/calls/{id}/hangup"),
    "transferCall": ("post", "/v1/calls/{id}/transfer"),
    "pauseRecording": ("post", "/v1/calls/{id}/recording/pause"),
    "resumeRecording": ("post", "/v1/calls/{id}/recording/resume"),
    "listLiveCalls": ("get", "/v1/live"),
    "getUsage": ("get", "/v1/usage"),
    "listRoutes": ("get", "/v1/routes"),
    "putRoute": ("put", "/v1/routes"),
    "deleteRoute": ("delete", "/v1/routes"),
    "listDeadWebhooks": ("get", "/v1/webhooks/dead"),
    "replayDeadWebhooks": ("post", "/v1/webhooks/dead/replay"),
}
"""Names of methods in generated clients: to change one breaks somebody."""


async def fetched(api: Api) -> dict[str, Any]:
    response = await api.get("/openapi.json")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    document: dict[str, Any] = response.json()
    return document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def validator(document: dict[str, Any], name: str) -> OAS31Validator:
    """Checks a body against one of the document's schemas."""
    return OAS31Validator({"$ref": f"#/components/schemas/{name}", "components": document["components"]})


async def test_it_is_valid() -> None:
    async with running_api() as api:
        document = await fetched(api)
    OpenAPIV31SpecValidator(document).validate()
    for name, schema in document["components"]["schemas"].items():
        OAS31Validator.check_schema(schema)
        assert "title" not in schema, name


async def test_it_is_open_and_holds_no_data() -> None:
    async with running_api(keys="", key="") as api:
        for path in ("/openapi.json", "/docs", "/docs.css"):
            response = await api.get(path)
            assert response.status_code == 200
            assert response.headers["x-content-type-options"] == "nosniff"
            assert (await api.client.head(path)).status_code == 200


async def test_names_of_operations_are_stable() -> None:
    async with running_api() as api:
        document = await fetched(api)
    assert {op["operationId"]: (method, path) for path, method, op in operations(document)} == OPERATIONS
    assert document["info"]["version"] == __version__
    assert document["servers"] == [{"url": "https://bridge.example.com"}]


async def test_every_operation_is_there_and_every_path_of_it_answers() -> None:
    async with running_api(key="") as api:
        document = await fetched(api)
        for path, method, operation in operations(document):
            url = path.replace("{id}", "a1")
            assert await api.refusal(method.upper(), url) == (401, "no_api_key", "")
            allow = (await api.client.options(url)).headers["allow"]
            assert method.upper() in allow.split(", ")
            assert operation["summary"] and operation["description"]


async def test_everything_has_a_description() -> None:
    async with running_api() as api:
        document = await fetched(api)
    nameless = [
        f"{name}.{member}"
        for name, schema in document["components"]["schemas"].items()
        for member, about in schema.get("properties", {}).items()
        if member != "type" and not about.get("description")
    ]
    assert nameless == []
    assert {name.partition(".")[0] for name in openapi.MORE_TEXTS} <= set(document["components"]["schemas"])
    for _, _, operation in operations(document):
        assert all(parameter["description"] for parameter in operation["parameters"])


async def test_examples_fit_their_schemas() -> None:
    async with running_api() as api:
        document = await fetched(api)
    schemas = document["components"]["schemas"]
    for struct in EXAMPLES:
        (example,) = schemas[struct.__name__]["examples"]
        validator(document, struct.__name__).validate(example)
    for _, _, operation in operations(document):
        for parameter in operation["parameters"]:
            if "example" in parameter:
                OAS31Validator(parameter["schema"]).validate(parameter["example"])


def answer_schema(document: dict[str, Any], operation: dict[str, Any], response: httpx.Response) -> str:
    """Name of the schema that the document has for this answer."""
    about = operation["responses"][str(response.status_code)]
    if "$ref" in about:
        about = document["components"]["responses"][about["$ref"].rpartition("/")[2]]
    schema: str = about["content"]["application/json"]["schema"]["$ref"]
    return schema.rpartition("/")[2]


@pytest.mark.parametrize("redact", [False, True])
@pytest.mark.parametrize(("name", "at"), OPERATIONS.items())
async def test_real_answers_are_as_declared(name: str, at: tuple[str, str], redact: bool) -> None:
    method, path = at
    async with running_api(redact=redact) as api:
        document = await fetched(api)
        api.calls.add(record("a1"), record("b2", state="active", ended_at=None, answered_at=None, recording=None))
        api.live.calls = [LIVE_CALL]
        api.deliveries.events = [msgspec.structs.replace(DEAD_EVENT, call_id="a1")]
        await api.client.put("/v1/routes", json={"number": "+49*"})
        operation = document["paths"][path][method]
        bodies: dict[str, Any] = {
            "placeCall": {"to_number": "+4930123456"},
            "putRoute": {"number": "+4930*", "overflow": "reject"},
            "replayDeadWebhooks": {"all": True},
        }
        query = {"number": "+49*"} if name == "deleteRoute" else {}
        for call_id in ("a1", "b2", "gone", "a.b"):
            url = path.replace("{id}", call_id)
            response = await api.client.request(method.upper(), url, json=bodies.get(name), params=query)
            assert str(response.status_code) in operation["responses"], response.text
            if response.content:
                validator(document, answer_schema(document, operation, response)).validate(response.json())


async def test_refusals_are_as_declared() -> None:
    async with running_api() as api:
        document = await fetched(api)
        api.calls.add(record("a1"))
        api.control.result = ControlResult.NOT_RECORDED
        seen = set()
        for method, path, more in (
            ("GET", "/v1/calls?limit=0", {}),
            ("GET", "/v1/calls", {"headers": {"X-API-Key": "wrong"}}),
            ("GET", "/v1/calls/gone", {}),
            ("PATCH", "/v1/calls", {}),
            ("POST", "/v1/calls/a1/recording/pause", {}),
            ("PUT", "/v1/routes", {"content": b"x"}),
            ("PUT", "/v1/routes", {"json": {}}),
            ("PUT", "/v1/routes", {"json": ["x" * 70_000]}),
        ):
            response = await api.client.request(method, path, **more)
            seen.add(response.status_code)
            validator(document, "ErrorBody").validate(response.json())
    assert seen == {400, 401, 404, 405, 409, 413, 415, 422}
    assert seen <= set(STATUS_TEXTS)


async def test_every_refusal_that_an_operation_can_give_is_declared() -> None:
    async with running_api() as api:
        document = await fetched(api)
    for _, _, operation in operations(document):
        assert {"401", "403", "405", "429", "500", "503"} <= set(operation["responses"])
        if "{id}" in str(operation["parameters"]):
            assert "404" in operation["responses"]
        if "requestBody" in operation:
            assert {"413", "415"} <= set(operation["responses"])


async def test_security_schemes() -> None:
    async with running_api() as api:
        document = await fetched(api)
    schemes = document["components"]["securitySchemes"]
    assert document["security"] == [{"bearer": []}, {"apiKey": []}, {"vendorKey": []}]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert (schemes["apiKey"]["name"], schemes["vendorKey"]["name"]) == ("X-API-Key", "xi-api-key")


def test_schemas_name_every_member_as_required_unless_it_is_left_out_when_unset() -> None:
    schemas = openapi.component_schemas([])
    assert schemas["ErrorInfo"]["required"] == ["code", "message"]
    assert schemas["ErrorBody"]["required"] == ["error"]


def test_it_does_without_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_source(_: object) -> str:
        raise OSError("could not get source code")

    openapi._texts_of_module.cache_clear()
    monkeypatch.setattr(inspect, "getsource", no_source)
    try:
        assert "description" not in openapi.component_schemas([])["ErrorInfo"]["properties"]["code"]
    finally:
        openapi._texts_of_module.cache_clear()


async def test_nothing_of_the_code_shows() -> None:
    async with running_api() as api:
        text = (await api.get("/openapi.json")).text
    assert not re.search(r"``|bridge\.(server|calls)", text)
