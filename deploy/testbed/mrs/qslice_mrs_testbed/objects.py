"""`/v0.2/digital-objects`: create, read, replace, delete, search."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import flask
import sqlalchemy as sa

from qslice_mrs_testbed import contract, search
from qslice_mrs_testbed.registry import Registry, answer, problem
from qslice_mrs_testbed.store import OBJECTS
from qslice_mrs_testbed.tokens import BadToken

MAX_PAGE = 100
_VALIDATION = "One or more validation errors occurred."


def routes(registry: Registry) -> flask.Blueprint:
    blueprint = flask.Blueprint("objects", __name__)
    store, build = registry.store, registry.build

    @blueprint.errorhandler(contract.Rejected)
    def rejected(wrong: contract.Rejected) -> flask.Response:
        return problem(400, _VALIDATION, wrong.errors)

    @blueprint.errorhandler(search.BadQuery)
    def bad_query(wrong: search.BadQuery) -> flask.Response:
        return problem(400, _VALIDATION, {"advancedQuery": [str(wrong)]})

    @blueprint.errorhandler(BadToken)
    def unauthorized(wrong: BadToken) -> flask.Response:
        refusal = flask.Response(status=401)
        refusal.headers["WWW-Authenticate"] = str(wrong)
        return refusal

    def authorize() -> None:
        registry.tokens.check(flask.request.headers.get("Authorization"))

    def created(document: dict[str, Any]) -> flask.Response:
        if build.generates_identifier:
            document = document | {"identifier": str(uuid4())}
        document = store.create(document)
        if build.create_answers_object:
            return answer(document, 200)
        return answer(document["internalIdentifier"], 201)

    @blueprint.post("/v0.2/digital-objects")
    def create() -> flask.Response:
        authorize()
        if flask.request.mimetype != "application/json":
            return problem(415, "Unsupported Media Type")
        return created(contract.read(flask.request.get_data(), update=False))

    @blueprint.post("/v0.2/digital-objects/upload")
    def upload() -> flask.Response:
        authorize()
        file = flask.request.files.get("file")
        metadata = flask.request.form.get("metadata")
        if file is None or metadata is None:
            return problem(400, _VALIDATION, {"file": ["file and metadata are required."]})
        document = contract.read(metadata.encode(), update=False)
        document["byteSize"] = len(file.read())
        return created(document)

    @blueprint.get("/v0.2/digital-objects/<int:number>")
    def read(number: int) -> flask.Response:
        found = store.get(number)
        return problem(404, "Not Found") if found is None else answer(found)

    @blueprint.route("/v0.2/digital-objects/<int:number>", methods=["PUT", "PATCH"])
    def replace(number: int) -> flask.Response:
        authorize()
        if flask.request.mimetype != "application/json":
            return problem(415, "Unsupported Media Type")
        document = contract.read(
            flask.request.get_data(), update=True, read_only_null=build.read_only_null
        )
        before = store.get(number)
        if before is None:
            return problem(404, "Not Found")
        if before["$type"] != document["$type"]:
            raise contract.Rejected("$.$type", "The type of an object cannot change.")
        for name in contract.READ_ONLY:
            if document.pop(name, None) not in (None, before[name]):
                raise contract.Rejected(f"$.{name}", "The property is read-only.")
        store.update(number, document)
        return flask.Response(status=204)

    @blueprint.delete("/v0.2/digital-objects/<int:number>")
    def delete(number: int) -> flask.Response:
        authorize()
        return flask.Response(status=204) if store.delete(number) else problem(404, "Not Found")

    @blueprint.get("/v0.2/digital-objects/search/<path>")
    def find(path: str) -> flask.Response:
        if path not in contract.SEARCH_PATHS:
            return problem(404, "Not Found")
        given = flask.request.args
        where: list[sa.ColumnElement[bool]] = []
        if type_ := contract.SEARCH_PATHS[path]:
            where.append(OBJECTS.c.type == type_)
        if name := given.get("nameQuery"):
            where.append(search.by_name(name))
        if query := given.get("advancedQuery"):
            where.append(search.advanced(query, boolean=build.boolean_search))
        index, size = _page(given)
        items, total = store.find(where, index * size, size)
        shown = ("internalIdentifier", "$type", "name", "createdAt", "identifier")
        return answer(
            {
                "items": [{name: item[name] for name in shown} for item in items],
                "total": total,
                "currentPageIndex": index,
                "maxPerPage": size,
            }
        )

    @blueprint.get("/reporting/charts/objects-by-type")
    def chart() -> flask.Response:
        return answer([{"type": type_, "count": count} for type_, count in store.by_type().items()])

    return blueprint


def _page(given: Mapping[str, str]) -> tuple[int, int]:
    """The page's index and size; a size above the server's own most is cut to it."""
    try:
        index, size = int(given.get("pageIndex", 0)), int(given.get("pageSize", 20))
    except ValueError:
        raise contract.Rejected("pageIndex", "The value is not a number.") from None
    if index < 0 or size < 1:
        raise contract.Rejected("pageIndex", "The value is out of range.")
    return index, min(size, MAX_PAGE)
