"""Whether the gateway lives, whether it can work, and its metrics."""

from typing import Annotated

import psycopg
import structlog
from flask import Response
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, Field

from qslice_gateway import metrics
from qslice_gateway.auth.access import Access, Call
from qslice_gateway.problems import Problem
from qslice_gateway.routing import Answer, Routes, json
from qslice_gateway.services import Services
from qslice_gateway.store import health, reads

log = structlog.get_logger()
routes = Routes("operation")

#: A check that takes longer has failed.
PATIENCE_S = 5.0


class Health(BaseModel):
    status: Annotated[str, Field(description="`ok`")]


class Readiness(BaseModel):
    ready: bool
    checks: Annotated[dict[str, str], Field(description="`ok`, or what is wrong")]


@routes.get(
    "/healthz",
    access=Access.PUBLIC,
    summary="Whether the process answers",
    answers={200: Answer("It does", Health)},
)
def healthz(call: Call) -> Response:
    del call
    return json({"status": "ok"})


@routes.get(
    "/readyz",
    access=Access.PUBLIC,
    summary="Whether database, broker and ledger are there",
    answers={200: Answer("All are", Readiness), 503: Answer("Something is missing", Readiness)},
)
def readyz(call: Call) -> Response:
    checks = {**_database_and_ledger(call.services), "broker": _broker(call.services)}
    ready = all(found == "ok" for found in checks.values())
    return json({"ready": ready, "checks": checks}, 200 if ready else 503)


@routes.get(
    "/metrics",
    access=Access.METRICS,
    summary="Counters for Prometheus",
    description="For administrators, or with the token in QSLICE_METRICS_TOKEN.",
    answers={200: Answer("In Prometheus' text format", media_types=("text/plain",))},
)
def get_metrics(call: Call) -> Response:
    with call.services.pool.connection() as connection:
        outbox = health.outbox(connection)
        jobs = reads.active(connection)
        workers = health.workers(connection)
    page = metrics.written(
        {
            "qslice_outbox_messages": {(): outbox["depth"]},
            "qslice_outbox_oldest_seconds": {(): outbox["age_s"] or 0.0},
            "qslice_jobs_active": {
                tuple((key, str(row[key])) for key in ("project", "kind", "state")): row["n"]
                for row in jobs
            },
            "qslice_worker_slots": {
                (("worker", row["name"]), ("kind", row["kind"])): row["slots"] for row in workers
            },
            "qslice_worker_jobs": {
                (("worker", row["name"]), ("kind", row["kind"])): row["jobs"] for row in workers
            },
        }
    )
    return Response(page, content_type=metrics.MEDIA_TYPE)


def _database_and_ledger(services: Services) -> dict[str, str]:
    try:
        with services.pool.connection(timeout=PATIENCE_S) as connection:
            alive = health.ledger_alive(connection)
    except (psycopg.Error, PoolTimeout) as wrong:
        log.warning("not_ready", part="database", error=str(wrong))
        return {"database": "cannot be reached", "ledger": "unknown"}
    return {"database": "ok", "ledger": "ok" if alive else "no ledger runs"}


def _broker(services: Services) -> str:
    try:
        services.broker.check()
    except Problem as wrong:
        return wrong.title.lower()
    return "ok"
