"""The pages: what this is, and the portal's page of an object."""

import flask
import orjson

from qslice_mrs_testbed.registry import Registry, problem
from qslice_mrs_testbed.tokens import CLIENT_ID


def routes(registry: Registry) -> flask.Blueprint:
    blueprint = flask.Blueprint("pages", __name__)

    @blueprint.after_request
    def locked_down(response: flask.Response) -> flask.Response:
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @blueprint.get("/")
    def about() -> str:
        items, total = registry.store.find([], 0, 10_000)
        return flask.render_template(
            "about.html",
            total=total,
            items=items[-50:][::-1],
            issuer=registry.tokens.realm.issuer,
            audience=registry.tokens.realm.audience,
            client_id=CLIENT_ID,
        )

    @blueprint.get("/app/management/digital-objects/view/<int:number>")
    def view(number: int) -> str | flask.Response:
        found = registry.store.get(number)
        if found is None:
            return problem(404, "Not Found")
        rows = {
            name: value
            if isinstance(value, str | int | float)
            else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
            for name, value in found.items()
            if value not in (None, "", [], {})
        }
        return flask.render_template("object.html", name=found["name"], rows=rows)

    @blueprint.get("/healthz")
    def healthy() -> dict[str, str]:
        return {"status": "ok"}

    return blueprint
