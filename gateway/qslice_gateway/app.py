"""The WSGI application: every route with its rule, one place for errors, and safe headers."""

from typing import Any

import psycopg
import structlog
from flask import Flask, Response, request
from flask.sessions import NullSession, SessionInterface
from psycopg_pool import PoolTimeout
from werkzeug.exceptions import HTTPException

from qslice_gateway.api import (
    batches,
    dead,
    documentation,
    health,
    jobs,
    logs,
    projects,
    provenance,
    publications,
    rabbit,
)
from qslice_gateway.problems import Problem, invalid
from qslice_gateway.routing import Route
from qslice_gateway.services import Services
from qslice_gateway.settings import GatewaySettings
from qslice_gateway.store.jobs import UnknownProject

log = structlog.get_logger()

#: On every answer. What a task wrote is shown by nobody's browser as more than text.
SAFE_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)

_OF_STATUS = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
}


def all_routes() -> list[Route]:
    """Every route of the gateway."""
    modules = (
        projects,
        jobs,
        logs,
        batches,
        provenance,
        publications,
        dead,
        rabbit,
        health,
    )
    found = [route for module in modules for route in module.routes.found]
    return [*found, *documentation.routes_about(found)]


class _NoSessions(SessionInterface):
    """There are no cookies here."""

    _session = NullSession()

    def open_session(self, app: Flask, request: Any) -> NullSession:
        del app, request
        return self._session

    def is_null_session(self, obj: object) -> bool:
        return obj is self._session


class Gateway(Flask):
    """Flask that knows no route without a rule."""

    session_interface = _NoSessions()

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: Any = None,
        provide_automatic_options: bool | None = None,
        **options: Any,
    ) -> None:
        if getattr(view_func, "qslice_access", None) is None:
            raise TypeError(f"{rule}: a route needs an access rule; declare it with Routes")
        super().add_url_rule(rule, endpoint, view_func, provide_automatic_options, **options)


def create_app(settings: GatewaySettings, services: Services | None = None) -> Gateway:
    """The application, with its services in `extensions["qslice"]`; `close_app` ends them."""
    app = Gateway(__name__, static_folder=None)
    app.url_map.strict_slashes = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    found = services or Services.of(settings)
    app.extensions["qslice"] = found
    for route in all_routes():
        app.add_url_rule(
            route.path,
            f"{route.method} {route.path}",
            route.bind(found, answer_to),
            provide_automatic_options=False,
            methods=[route.method],
        )
    app.register_error_handler(Exception, answer_to)
    app.after_request(_make_safe)
    return app


def close_app(app: Flask) -> None:
    """Close what the application holds open."""
    services: Services = app.extensions["qslice"]
    services.close()


def _make_safe(response: Response) -> Response:
    response.headers.extend(SAFE_HEADERS)
    return response


def answer_to(error: Exception) -> Response:
    """The answer to anything that a request ran into."""
    if isinstance(error, Problem):
        return error.response()
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, UnknownProject):
        return Problem("project_not_found", str(error)).response()
    if isinstance(error, psycopg.Error | PoolTimeout):
        return _of_database(error)
    return _of_surprise(error)


def _of_http(error: HTTPException) -> Response:
    status = error.code or 500
    code = _OF_STATUS.get(status)
    if code is None:
        if status >= 500:
            return _of_surprise(error)
        code = "bad_request"
    problem = Problem(code, _detail(code, error))
    answer = problem.response()
    if status == 405:
        answer.headers["Allow"] = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
    return answer


def _detail(code: str, error: HTTPException) -> str:
    if code == "not_found":
        return f"{request.path[:200]!r} is no address here; see /docs"
    if code == "method_not_allowed":
        return f"{request.method} is not for {request.path[:200]!r}; see /docs"
    return error.description or code


def _of_database(error: Exception) -> Response:
    if isinstance(error, psycopg.OperationalError | PoolTimeout):
        log.error("database_unavailable", error=str(error), route=_route())
        return Problem(
            "database_unavailable",
            "try again in a few seconds, with the same request_id",
            headers={"Retry-After": "2"},
        ).response()
    if isinstance(error, psycopg.DataError):
        log.warning("unstorable", error=str(error), route=_route())
        return invalid([("", "holds a value that cannot be stored")]).response()
    return _of_surprise(error)


def _of_surprise(error: Exception) -> Response:
    log.error("unexpected", route=_route(), exc_info=error)
    return Problem("internal", "it is in the gateway's log; tell the operator").response()


def _route() -> str:
    return f"{request.method} {request.url_rule.rule if request.url_rule else '?'}"
