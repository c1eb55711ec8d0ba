"""The API's description is complete: what goes in, what comes out, what goes wrong, each with an example."""

from collections.abc import Iterator
from typing import Any

import pytest

from aftercommit.core.settings import Settings
from aftercommit.server.api.app import create_app


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings(_env_file=None, queues=("tasks", "emails"))).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def has_example(schema: dict[str, Any], document: dict[str, Any]) -> bool:
    """Whether an example stands somewhere in a schema or in what it refers to."""
    if "examples" in schema:
        return True
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
    if "items" in schema:
        inner.append(schema["items"])
    if reference := schema.get("$ref"):
        inner.append(document["components"]["schemas"][reference.rpartition("/")[2]])
    return any(has_example(part, document) for part in inner)


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation.get("description"), name


def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        contents = [operation["requestBody"]["content"]] if "requestBody" in operation else []
        contents += [response["content"] for response in operation["responses"].values() if "content" in response]
        for content in contents:
            for body in content.values():
                assert has_example(body["schema"], document), name


def test_every_error_is_a_problem(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400" and name != "GET /readyz":
                [(kind, body)] = response["content"].items()
                assert kind == "application/problem+json", name
                assert body["schema"] == {"$ref": "#/components/schemas/Problem"}, name


def test_errors_that_may_come_are_listed(document: dict[str, Any]) -> None:
    listed = {name: set(operation["responses"]) for name, operation in operations(document)}
    assert listed["POST /v1/tasks"] == {"200", "201", "400", "408", "409", "410", "413", "415", "422", "429", "503"}
    assert listed["GET /v1/tasks/{task_id}"] == {"200", "404", "422", "503"}
    assert listed["POST /v1/tasks/{task_id}/complete"] == {
        "200",
        "400",
        "404",
        "408",
        "409",
        "413",
        "415",
        "422",
        "503",
    }
    assert listed["POST /v1/tasks/{task_id}/cancel"] == {"200", "202"} | listed["POST /v1/tasks/{task_id}/complete"]
    assert listed["GET /healthz"] == {"204"}


def test_every_reference_leads_somewhere_and_nothing_is_left_over(document: dict[str, Any]) -> None:
    text = str(document)
    schemas = document["components"]["schemas"]
    assert all(f"'#/components/schemas/{name}'" in text for name in schemas)
    assert text.count("#/components/schemas/") == sum(text.count(f"'#/components/schemas/{name}'") for name in schemas)


def test_queues_there_are_stand_in_the_description(document: dict[str, Any]) -> None:
    queue = document["components"]["schemas"]["TaskIn"]["properties"]["queue"]
    assert queue["anyOf"][0]["enum"] == ["tasks", "emails"]
