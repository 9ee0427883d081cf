"""The OpenAPI document, written from the routes' own declarations."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from qslice_gateway import problems
from qslice_gateway.auth.access import Access
from qslice_gateway.problems import CODES, ProblemBody
from qslice_gateway.routing import JSON, Route

VERSION = "0.1.0"
_REF = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"<(?:[a-z]+:)?([a-z_]+)>")

_TYPE_ID = r"^{type}_[a-z0-9]([a-z0-9.-]{{0,61}}[a-z0-9])?_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"
#: What stands in the place of each parameter of a path.
PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "project": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"},
    "job": {"type": "string", "pattern": _TYPE_ID.format(type="job")},
    "batch": {"type": "string", "pattern": _TYPE_ID.format(type="batch")},
    "publication": {
        "type": "string",
        "pattern": _TYPE_ID.format(type="[a-z]{1,16}"),
    },
    "message": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    "queue": {"type": "string", "pattern": "^[a-z0-9-]{1,63}(\\.[A-Za-z0-9_-]{1,100}){1,2}$"},
}

_BY_ACCESS = {
    Access.PUBLIC: (),
    Access.PERSON: ("unauthorized", "token_expired"),
    Access.PROJECT: ("unauthorized", "token_expired", "project_not_found"),
    Access.QUEUE: ("unauthorized", "token_expired", "project_not_found"),
    Access.JOB: ("unauthorized", "token_expired", "job_not_found"),
    Access.METRICS: ("unauthorized", "token_expired", "forbidden"),
}
_OF_BODY = ("not_json", "body_too_large", "not_json_type", "invalid")
_ALWAYS = ("internal", "database_unavailable", "issuer_unavailable")


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """OpenAPI 3.1 of these routes."""
    routes = list(routes)
    found, schemas = models_json_schema(
        sorted(_models(routes), key=lambda pair: (pair[0].__name__, pair[1])),
        ref_template=_REF,
    )
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for route in routes:
        paths[_PARAMETER.sub(r"{\1}", route.path)][route.method.lower()] = _operation(route, found)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "qslice",
            "version": VERSION,
            "description": "Runs experiments of a lab: submit, follow, gather results.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(route.tag for route in routes)],
        "paths": dict(paths),
        "components": {
            "schemas": schemas.get("$defs", {}),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def _models(routes: list[Route]) -> set[tuple[type[BaseModel], JsonSchemaMode]]:
    found: set[tuple[type[BaseModel], JsonSchemaMode]] = {(ProblemBody, "serialization")}
    for route in routes:
        if route.body is not None:
            found |= {(model, "validation") for model in route.body.models}
        found |= {
            (model, "serialization") for answer in route.answers.values() for model in answer.models
        }
    return found


def _operation(route: Route, schemas: Any) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.view.__name__,
        "tags": [route.tag],
        "summary": route.summary,
        "responses": _responses(route, schemas),
    }
    if route.description:
        operation["description"] = route.description
    if parameters := [*_path_parameters(route), *_query_parameters(route), *_headers(route)]:
        operation["parameters"] = parameters
    if route.access is not Access.PUBLIC:
        operation["security"] = [{"token": []}]
    if route.body is not None:
        models = [schemas[model, "validation"] for model in route.body.models]
        content: dict[str, Any] = {"schema": _any_of(models)}
        if route.body.example is not None:
            content["example"] = route.body.example
        operation["requestBody"] = {"required": True, "content": {JSON: content}}
    return operation


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": PATH_PARAMETERS[name]}
        for name in _PARAMETER.findall(route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema()
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": described.pop("description", ""),
            "schema": _without_null(described),
        }
        for name, described in schema.get("properties", {}).items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query parameter is there or not; it is never null."""
    kept = {key: value for key, value in schema.items() if key not in ("title", "default")}
    choices = [one for one in kept.get("anyOf", []) if one.get("type") != "null"]
    return choices[0] if len(choices) == 1 else kept


def _headers(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "schema": schema}
        for name, schema in route.headers.items()
    ]


def _responses(route: Route, schemas: Any) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in route.answers.items():
        described: dict[str, Any] = {"description": answer.description}
        if answer.models:
            schema = _any_of([schemas[model, "serialization"] for model in answer.models])
            described["content"] = {JSON: {"schema": schema}}
        for media_type in answer.media_types:
            if media_type != JSON:
                described.setdefault("content", {})[media_type] = {"schema": {"type": "string"}}
        responses[str(status)] = described
    problem = {problems.MEDIA_TYPE: {"schema": schemas[ProblemBody, "serialization"]}}
    for status, codes in sorted(_problems(route).items()):
        told = "; ".join(f"`{code}`: {CODES[code][1]}" for code in codes)
        if str(status) in responses:
            # A status that is both an answer and a problem, as of a page that is not ready.
            responses[str(status)]["content"].update(problem)
        else:
            responses[str(status)] = {"description": told, "content": problem}
    return responses


def _problems(route: Route) -> dict[int, list[str]]:
    codes = [*_BY_ACCESS[route.access], *route.problems]
    if route.body is not None:
        codes += _OF_BODY
    if route.query is not None or route.headers:
        codes.append("invalid")
    if route.access is not Access.PUBLIC:
        codes += _ALWAYS
    grouped: dict[int, list[str]] = defaultdict(list)
    for code in dict.fromkeys(codes):
        grouped[CODES[code][0]].append(code)
    return grouped
