"""The description of the interface: valid, whole, and true of every answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.deployment import Limits, Server
from seatrial.serve.protocols import inference_forms as forms
from seatrial.serve.protocols import inference_json
from seatrial.serve.protocols.openapi import PIXEL, document
from seatrial.serve.protocols.openapi_errors import ERRORS

Running = Any
Served = tuple[Running, dict[str, Any]]
TOKEN = "0123456789abcdef" * 2
AUTHORISED = {"Authorization": f"Bearer {TOKEN}"}

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def served(
    run_app: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(TOKEN)
    with run_app(Limits(body_bytes=2**18), server=Server(token_file=str(file))) as running:
        running.client.headers.update(AUTHORISED)
        yield running, running.client.get("/openapi.json").json()


def schema_errors(described: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    whole = {**schema, "components": described["components"]}
    found = jsonschema.Draft202012Validator(whole).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in found]


def resolved(described: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    for part in node["$ref"].split("/")[1:] if "$ref" in node else ():
        described = described[part]
    return described if "$ref" in node else node


def check_answer(described: dict[str, Any], operation: dict[str, Any], answer: Any) -> None:
    """Status, media type, headers and body are those that the operation has."""
    assert str(answer.status_code) in operation["responses"], answer.text[:300]
    expected = resolved(described, operation["responses"][str(answer.status_code)])
    for name in expected.get("headers", {}):
        if answer.status_code == 200 or name != "X-Predicted-Wait-Ms":
            assert name in answer.headers
    if "content" not in expected:
        return
    media = answer.headers["content-type"].partition(";")[0]
    assert media in expected["content"]
    if media == "application/json":
        schema = expected["content"][media]["schema"]
        assert schema_errors(described, schema, answer.json()) == []


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in described["paths"].items():
        for method in item.keys() & {"get", "post"}:
            own = item[method]
            parameters = [*item.get("parameters", ()), *own.get("parameters", ())]
            yield method, path, {**own, "parameters": parameters}


def test_it_is_openapi(served: Served) -> None:
    validator = pytest.importorskip(
        "openapi_spec_validator", reason="openapi-spec-validator is not installed"
    )
    _, described = served
    validator.validate(described)
    assert described["openapi"].startswith("3.1.")
    ids = [operation["operationId"] for _, _, operation in operations(described)]
    assert len(set(ids)) == len(ids)
    # What else a deployment may say.
    validator.validate(document(["m"], 5, token=False, metrics=True, open_metrics=True))


def test_each_route_of_the_application_is_described(served: Served) -> None:
    running, described = served
    routes = {
        (method.lower(), route.path)
        for route in running.app.router.routes
        for method in route.methods - {"HEAD"}
    }
    assert routes == {(method, path) for method, path, _ in operations(described)}


def test_what_needs_a_token(served: Served) -> None:
    running, described = served
    assert described["security"] == [{"bearer": []}]
    free = {p for _, p, operation in operations(described) if operation.get("security") == []}
    assert free == {"/livez", "/readyz", "/healthz"}
    opened = document(["m"], 5, token=True, metrics=True, open_metrics=True)
    assert opened["paths"]["/metrics"]["get"]["security"] == []
    for _, path, operation in operations(described):
        answer = running.client.get(path, headers={"Authorization": ""})
        if path not in free and "{" not in path:
            check_answer(described, operation, answer)
            assert answer.status_code == 401


def test_every_example_is_answered_as_described(served: Served) -> None:
    running, described = served
    sent = 0
    for method, path, operation in operations(described):
        where, query, headers = path, {}, {}
        for parameter in operation["parameters"]:
            if "example" not in parameter:
                continue
            assert schema_errors(described, parameter["schema"], parameter["example"]) == []
            text = str(parameter["example"]).lower()
            if parameter["in"] == "path":
                where = where.replace(f"{{{parameter['name']}}}", parameter["example"])
            else:
                {"query": query, "header": headers}[parameter["in"]][parameter["name"]] = text
        bodies: dict[str, Any] = {"": {}}
        if "requestBody" in operation:
            bodies = operation["requestBody"]["content"]
        for media, body in bodies.items():
            given: dict[str, Any] = {}
            if media == "multipart/form-data":
                given = {"files": {"image": PIXEL}}
            elif "example" in body:
                assert schema_errors(described, body["schema"], body["example"]) == []
                given = {"json": body["example"]}
            elif "infer" in path:
                continue  # binary data: tests of the protocol send them
            elif media:
                given = {"content": PIXEL, "headers": {"Content-Type": media}}
            given["headers"] = {**headers, **given.get("headers", {})}
            answer = running.client.request(method, where, params=query, **given)
            assert answer.status_code == 200, (path, answer.text)
            check_answer(described, operation, answer)
            sent += 1
    assert sent >= 28


def test_examples_of_answers_have_their_schema(served: Served) -> None:
    _, described = served
    checked = 0

    def walk(node: Any) -> None:
        nonlocal checked
        if isinstance(node, dict):
            if "schema" in node and "example" in node:
                assert schema_errors(described, node["schema"], node["example"]) == []
                checked += 1
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(described)
    assert checked > 2 * len(ERRORS)


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("/detect", {"content": b""}, 400),
        ("/detect?confidence=2", {"content": PIXEL}, 400),
        ("/detect", {"content": b"x" * 300_000}, 413),
        ("/detect.jpg", {"content": b"GIF89a"}, 415),
        ("/detect", {"content": PIXEL[:44]}, 422),
        ("/v2/models/other/infer", {"content": b"{}"}, 404),
        ("/v2/models/tiny/infer", {"content": b"{"}, 400),
        ("/v2/models/tiny/infer", {"content": b"x" * 300_000}, 413),
        ("/v2/models/tiny/versions/2/infer", {"content": b"{}"}, 404),
    ],
)
def test_errors_are_as_described(
    served: Served, path: str, sent: dict[str, Any], status: int
) -> None:
    running, described = served
    answer = running.client.post(path, **sent)
    assert answer.status_code == status
    pattern = re.sub(r"/models/\w+", "/models/{model}", path.partition("?")[0])
    pattern = re.sub(r"/versions/\w+", "/versions/{version}", pattern)
    check_answer(described, described["paths"][pattern]["post"], answer)


def test_a_refusal_is_as_described(served: Served, photo: bytes) -> None:
    running, described = served
    with running.lanes_held():
        answer = running.client.post(
            "/detect", content=photo, headers={"X-Request-Timeout-Ms": "200"}
        )
    assert answer.status_code == 504
    check_answer(described, described["paths"]["/detect"]["post"], answer)


def test_thresholds_have_the_bounds_of_the_deployment(served: Served) -> None:
    _, described = served
    parameters = described["paths"]["/detect"]["post"]["parameters"]
    bounds = {one["name"]: one["schema"] for one in parameters}
    assert bounds["max_detections"] == {"type": "integer", "minimum": 1, "maximum": 1000}
    assert bounds["confidence"] == {"type": "number", "minimum": 0.0, "maximum": 1.0}
    assert all(one["description"] for one in parameters)


@pytest.mark.parametrize(
    ("read", "described"),
    [
        (inference_json._Request, forms.InferenceRequest),
        (inference_json._Tensor, forms.InputTensor),
        (inference_json._Wanted, forms.WantedOutput),
    ],
)
def test_requests_of_the_protocol_are_read_as_described(read: Any, described: Any) -> None:
    def names(kind: Any) -> set[tuple[str, bool]]:
        return {(field.name, field.required) for field in msgspec.structs.fields(kind)}

    assert names(read) == names(described)


def test_the_reference_names_the_description() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "http.md").read_text()
    assert "`GET /openapi.json`" in text
