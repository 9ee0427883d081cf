"""The OpenAPI document and the rules of the routes, as they are declared."""

import re
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from qslice_gateway import openapi
from qslice_gateway.app import Gateway, all_routes
from qslice_gateway.auth.access import Access
from qslice_gateway.problems import CODES
from qslice_gateway.routing import Routes

#: What anybody may ask without a token; a new line here is a decision.
PUBLIC = {"/healthz", "/readyz", "/openapi.json", "/docs", "/docs.css"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi.document(all_routes())


def test_only_these_routes_are_public() -> None:
    assert {route.path for route in all_routes() if route.access is Access.PUBLIC} == PUBLIC


def test_a_route_cannot_be_declared_without_an_access_rule() -> None:
    routes = Routes("test")
    with pytest.raises(TypeError, match="access"):
        routes.get("/x", summary="no rule", answers={})(lambda call: call)


def test_the_application_takes_no_view_that_was_not_declared() -> None:
    app = Gateway("test", static_folder=None)
    with pytest.raises(TypeError, match="access rule"):
        app.route("/x")(lambda: "hello")
    assert isinstance(app, Flask)


def test_routes_about_a_project_or_a_job_ask_for_it() -> None:
    for route in all_routes():
        for name, rule in (
            ("<project>", Access.PROJECT),
            ("<job>", Access.JOB),
            ("<queue>", Access.QUEUE),
        ):
            if name in route.path:
                assert route.access is rule, route.path


def test_every_schema_of_the_document_is_one(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    known = document["components"]["schemas"]
    found = set(re.findall(r"'#/components/schemas/([^']+)'", str(document)))
    assert found <= set(known)
    assert "JobRequest" in found


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    assert len(names) == len(set(names))


def test_the_document_tells_the_errors_that_a_route_may_give(document: dict[str, Any]) -> None:
    submit = document["paths"]["/api/v1/projects/{project}/jobs"]["post"]
    assert {"202", "400", "401", "404", "413", "415", "422", "503"} <= set(submit["responses"])
    assert submit["security"] == [{"token": []}]
    assert "too_many_jobs" in submit["responses"]["422"]["description"]


def test_every_problem_that_a_route_declares_exists() -> None:
    for route in all_routes():
        assert set(route.problems) <= set(CODES), route.path


def test_unknown_fields_are_refused_by_the_schemas_too(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in ("JobRequest", "JobsRequest", "TpTask", "NewBatch", "NewProject", "Limits"):
        assert schemas[name]["additionalProperties"] is False, name
