"""Health, readiness and metrics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway import RUN, TestGateway, Tokens, gateway

SECRET = "metrics-token-of-this-test"


def test_the_process_answers_also_without_its_parts(tokens: Tokens, management_url: str) -> None:
    with gateway(
        tokens,
        "postgresql://nobody:x@127.0.0.1:1/none",
        "amqp://nobody:x@127.0.0.1:1/none",
        management_url,
    ) as house:
        nobody = house.by_nobody()
        assert nobody.get("/healthz").json == {"status": "ok"}
        ready = nobody.get("/readyz")
        assert ready.status_code == 503
        assert ready.json == {
            "ready": False,
            "checks": {
                "database": "cannot be reached",
                "ledger": "unknown",
                "broker": "the broker cannot be reached",
            },
        }
        assert house.by("alice").get("/api/v1/projects").status_code == 503


def test_it_is_ready_once_a_ledger_lives(house: TestGateway) -> None:
    nobody = house.by_nobody()
    before = nobody.get("/readyz")
    assert before.status_code == 503
    assert (before.json or {})["checks"] == {
        "database": "ok",
        "ledger": "no ledger runs",
        "broker": "ok",
    }
    with house.services.pool.connection() as connection:
        connection.execute("INSERT INTO ledgers (name) VALUES ('test')")
    after = nobody.get("/readyz")
    assert (after.status_code, (after.json or {})["ready"]) == (200, True)


@pytest.fixture
def metered(
    tokens: Tokens, database_url: str, broker_url: str, management_url: str
) -> Iterator[TestGateway]:
    with gateway(tokens, database_url, broker_url, management_url, metrics_token=SECRET) as house:
        yield house


def test_metrics_are_for_administrators_and_who_has_their_token(metered: TestGateway) -> None:
    alice = metered.by("alice")
    alice.post("/api/v1/projects", {"name": "lab"})
    alice.post("/api/v1/projects/lab/jobs", RUN)
    assert metered.by_nobody().get("/metrics").status_code == 401
    assert metered.with_token(SECRET + "x").get("/metrics").status_code == 401
    assert alice.get("/metrics").status_code == 403
    for caller in (metered.with_token(SECRET), metered.by("root", admin=True)):
        page = caller.get("/metrics")
        assert page.status_code == 200
        samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(page.text)
            for sample in family.samples
        }
        waiting = (("kind", "run"), ("project", "lab"), ("state", "waiting"))
        assert samples["qslice_jobs_active", waiting] == 1
        # The job's message, and the project's announcement.
        assert samples["qslice_outbox_messages", ()] == 2
        route = "POST /api/v1/projects/<project>/jobs"
        assert samples["qslice_gateway_requests_total", (("route", route), ("status", "202"))] >= 1


def test_the_metrics_token_opens_nothing_else(metered: TestGateway) -> None:
    assert metered.with_token(SECRET).get("/api/v1/projects").status_code == 401
