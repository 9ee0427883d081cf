"""The OpenAPI document against the application: what it says is what happens."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.gateway import RUN, Caller, TestGateway

# Not positive_data_acceptance: which git addresses, placeholders or times fit together is more
# than a JSON schema can say.
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
EXAMPLES = 12
#: Last: what comes after it would find nothing.
DESTROYS = "DELETE /api/v1/projects/{project}"


@pytest.fixture
def things(house: TestGateway, alice: Caller) -> dict[str, str]:
    """What stands in the paths, so that there is something behind most of them."""
    job = alice.post("/api/v1/projects/lab/jobs", RUN)
    batch = alice.post(
        "/api/v1/projects/lab/batches", {"template": RUN, "grid": {"distance": [1, 2]}}
    )
    with house.services.pool.connection() as connection:
        connection.execute(
            """INSERT INTO dead_letters (project, queue, body, reason, owner)
               VALUES ('lab', 'lab.ToDo', 'x', 'no JSON', 'user')"""
        )
        connection.execute(
            "INSERT INTO ledgers (name, seen_at) VALUES ('test', now() + interval '1 hour')"
        )
    return {
        "project": "lab",
        "job": (job.json or {})["job_id"],
        "batch": (batch.json or {})["batch_id"],
        "message": "1",
        "queue": "lab.Done",
    }


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_operation_answers_as_the_document_says(
    house: TestGateway, things: dict[str, str], mode: GenerationMode
) -> None:
    schema = schemathesis.openapi.from_wsgi("/openapi.json", house.app)
    # The token is given here; made-up ones have tests of their own.
    schema.config.generation.update(with_security_parameters=False)
    headers = {"Authorization": f"Bearer {house.tokens.make('root', admin=True)}"}
    found: list[Any] = list(schema.get_all_operations())
    operations = [each.ok() for each in found]
    operations.sort(key=lambda operation: operation.label == DESTROYS)
    assert len(operations) > 25
    tried = 0

    def attempt(case: Any) -> None:
        nonlocal tried
        tried += 1
        path = case.meta.components.get(ParameterLocation.PATH)
        if path is not None and path.mode is GenerationMode.POSITIVE:
            for name in set(case.path_parameters) & set(things):
                case.path_parameters[name] = things[name]
        if mode is GenerationMode.POSITIVE:
            _make_sound(case.body)
            (case.query or {}).pop("cursor", None)
        case.call_and_validate(headers=headers, checks=CHECKS)

    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not _takes_input(operation):
            continue
        run = settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(given(case=operation.as_strategy(mode))(attempt))
        run()
    assert tried > len(operations)


def _make_sound(body: Any) -> None:
    """Put what a schema cannot describe in order: addresses, paths and names of a run."""
    if isinstance(body, dict):
        if "repository" in body:
            body |= {"repository": RUN["repository"], "command": RUN["command"]}
            body |= {"ref": "main", "dockerfile": "Dockerfile", "env": {}, "labels": {}}
        if "URL_git" in body:
            body |= {"URL_git": RUN["repository"], "CMD": "true"}
        if "template" in body:
            body.pop("list", None)
            body["grid"] = {"distance": [1, 2.5, "far", True]}
        for inner in [body.get("template"), *body.get("jobs", [])]:
            _make_sound(inner)


def _takes_input(operation: Any) -> bool:
    """Whether there is anything to get wrong."""
    return bool(operation.body or operation.query or operation.path_parameters)
