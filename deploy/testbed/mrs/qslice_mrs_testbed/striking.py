"""Where a fault meets a request: before the route, or after it has done its work."""

import socket
import threading
import time

import flask

from qslice_mrs_testbed.faults import Fault
from qslice_mrs_testbed.registry import Registry

_PASS = "X-Testbed-Pass"  # noqa: S105 (a header's name)


def scopes(method: str, path: str) -> set[str]:
    """What a request counts as."""
    if path.startswith("/testbed/"):
        return set()
    if path.startswith("/realms/"):
        return {"all", "token"}
    if "/search/" in path:
        return {"all", "search", "read"}
    if method == "POST":
        return {"all", "write", "create"}
    if method in ("PUT", "PATCH", "DELETE"):
        return {"all", "write", "update"}
    return {"all", "read"}


def install(app: flask.Flask, registry: Registry) -> None:
    """Let the faults that are switched on meet the requests of an application."""
    lock = threading.Lock()

    @app.before_request
    def before() -> flask.Response | None:
        request = flask.request
        found = scopes(request.method, request.path)
        with lock:
            for scope in found:
                registry.seen[scope] = registry.seen.get(scope, 0) + 1
        fault = None if _PASS in request.headers else registry.faults.strike(found)
        flask.g.fault = fault
        if fault is None:
            return None
        if fault.kind == "status":
            return _refusal(fault)
        if fault.kind == "delay":
            time.sleep(fault.delay_s)
        if fault.kind == "late":
            _later(app, fault.delay_s)
        if fault.kind in ("late", "down"):
            return _cut()
        return None

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        fault: Fault | None = getattr(flask.g, "fault", None)
        if fault is not None and fault.kind == "stored":
            time.sleep(fault.delay_s)
            return _cut()
        return response


def _refusal(fault: Fault) -> flask.Response:
    refusal = flask.Response(fault.body or f"fault {fault.status}", fault.status)
    if fault.retry_after is not None:
        refusal.headers["Retry-After"] = str(fault.retry_after)
    return refusal


def _cut() -> flask.Response:
    """Close the connection without a byte of an answer."""
    connection: socket.socket | None = flask.request.environ.get("gunicorn.socket")
    if connection is not None:
        # Lingering for no time sends a reset: the client sees a connection that broke.
        connection.shutdown(socket.SHUT_RDWR)
    cut = flask.Response(status=500)
    cut.headers["Connection"] = "close"
    return cut


def _later(app: flask.Flask, delay_s: float) -> None:
    """Do what was asked when nobody waits for it any more."""
    request = flask.request
    path, method, body = request.full_path, request.method, request.get_data()
    headers = {name: value for name, value in request.headers if name != "Content-Length"}
    headers[_PASS] = "1"

    def work() -> None:
        time.sleep(delay_s)
        app.test_client().open(path, method=method, data=body, headers=headers)

    threading.Thread(target=work, daemon=True).start()
