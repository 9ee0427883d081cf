"""`/testbed/…`: fault switches and counts for tests. The real registry has nothing of it."""

import flask

from qslice_mrs_testbed.faults import Fault
from qslice_mrs_testbed.registry import Registry, answer, problem
from qslice_mrs_testbed.search import advanced

_LOOPBACK = ("127.", "::1", "::ffff:127.")


def routes(registry: Registry) -> flask.Blueprint:
    blueprint = flask.Blueprint("admin", __name__, url_prefix="/testbed")

    @blueprint.before_request
    def only_from_here() -> flask.Response | None:
        here = (flask.request.remote_addr or "").startswith(_LOOPBACK)
        return None if here else problem(403, "Forbidden")

    @blueprint.errorhandler(ValueError)
    @blueprint.errorhandler(TypeError)
    def wrong_switch(wrong: Exception) -> flask.Response:
        return problem(400, str(wrong))

    @blueprint.get("/faults")
    def listed() -> flask.Response:
        return answer(registry.faults.list())

    @blueprint.post("/faults")
    def switched_on() -> flask.Response:
        registry.faults.add(Fault.of(flask.request.get_json()))
        return answer(registry.faults.list(), 201)

    @blueprint.delete("/faults")
    def switched_off() -> flask.Response:
        registry.faults.clear()
        return flask.Response(status=204)

    @blueprint.get("/build")
    def build() -> flask.Response:
        return answer(vars(registry.build))

    @blueprint.put("/build")
    def another_build() -> flask.Response:
        registry.build.set(flask.request.get_json())
        return answer(vars(registry.build))

    @blueprint.post("/forget-tokens")
    def forget() -> flask.Response:
        registry.tokens.forget()
        return flask.Response(status=204)

    @blueprint.get("/requests")
    def requests() -> flask.Response:
        return answer(registry.seen)

    @blueprint.get("/objects")
    def objects() -> flask.Response:
        """Whole objects, all or by their identifier or a keyword, past every fault."""
        sought = flask.request.args.get("sought")
        where = [advanced(f'identifier:"{sought}" OR keywords:"{sought}"')] if sought else []
        count = int(flask.request.args.get("count", 100_000))
        items, total = registry.store.find(where, 0, count)
        return answer({"total": total, "items": items})

    return blueprint
