"""Jobs over REST: submitted once, listed by pages, cancelled, tried again."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import pytest
from psycopg import OperationalError
from qslice.states import State
from qslice_gateway.api import jobs as api
from qslice_gateway.services import Services
from qslice_gateway.store import jobs as store

from tests.support.gateway import RUN, Caller, TestGateway

JOBS = "/api/v1/projects/lab/jobs"


def accepted(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json
    return found


def rows(house: TestGateway, query: str, *values: Any) -> list[dict[str, Any]]:
    with house.services.pool.connection() as connection:
        return connection.execute(query.encode(), values).fetchall()


def finish(house: TestGateway, job_id: str, state: State = State.FAILED) -> None:
    """As the ledger would write it."""
    result = {
        "job_id": job_id,
        "state": state,
        "stdout": "done\n",
        "stderr": "",
        "truncated": False,
        "duration_s": 1.5,
        "result": {"key_rate": 0.1},
        "error": {"owner": "user", "code": "exit_code", "message": "it ended with 1"},
    }
    rows(
        house,
        """UPDATE jobs SET state = %s, finished_at = now(), exit_code = 1, result = %s::jsonb,
           error_owner = 'user', error_code = 'exit_code' WHERE id = %s RETURNING id""",
        state,
        orjson.dumps(result).decode(),
        job_id,
    )


def test_a_job_is_stored_with_its_message_before_it_is_answered(
    house: TestGateway, alice: Caller
) -> None:
    answer = accepted(alice.post(JOBS, {**RUN, "id": "t-10km", "labels": {"sweep": "s1"}}))
    assert answer["id"] == "t-10km"
    assert answer["state"] == "waiting"
    (job,) = rows(house, "SELECT * FROM jobs")
    assert (job["id"], job["project"], job["owner"]) == (answer["job_id"], "lab", "alice")
    (message,) = rows(house, "SELECT * FROM outbox WHERE exchange = 'qslice.todo'")
    assert message["routing_key"] == "lab.ToDo"
    assert orjson.loads(message["body"]) == job["payload"]
    shown = alice.get(answer["url"]).json or {}
    assert shown["payload"]["command"] == RUN["command"]
    assert shown["result"] is None


def test_the_same_request_makes_its_jobs_once(house: TestGateway, alice: Caller) -> None:
    one = [accepted(alice.post(JOBS, {**RUN, "request_id": "r1"})) for _ in range(2)]
    assert one[0] == one[1]
    many = {"jobs": [RUN, RUN, {**RUN, "id": "own"}], "request_id": "r2"}
    two = [accepted(alice.post(JOBS, many)) for _ in range(2)]
    assert two[0] == two[1]
    assert len({item["job_id"] for item in two[0]["items"]}) == 3
    assert len(rows(house, "SELECT id FROM jobs")) == 4


def test_the_same_id_is_the_same_job_in_a_project_but_not_in_another(
    house: TestGateway, alice: Caller
) -> None:
    alice.post("/api/v1/projects", {"name": "other"})
    first = accepted(alice.post(JOBS, {**RUN, "id": "t"}))
    again = accepted(alice.post(JOBS, {**RUN, "id": "t"}))
    other = accepted(alice.post("/api/v1/projects/other/jobs", {**RUN, "id": "t"}))
    assert first["job_id"] == again["job_id"] != other["job_id"]
    assert len(rows(house, "SELECT id FROM jobs")) == 2


def test_the_same_request_at_the_same_time_makes_one_job(house: TestGateway, alice: Caller) -> None:
    answers: list[str] = []
    gate = threading.Barrier(8)

    def submit() -> None:
        caller = house.by("alice")
        gate.wait()
        answers.append(accepted(caller.post(JOBS, {**RUN, "request_id": "r1"}))["job_id"])

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len(set(answers)) == 1
    del alice


def test_of_many_jobs_all_are_written_or_none(house: TestGateway, alice: Caller) -> None:
    refused = alice.post(JOBS, {"jobs": [RUN, {**RUN, "ref": "--evil"}]})
    assert refused.status_code == 422
    assert (refused.json or {})["errors"][0]["field"] == "jobs.1.ref"
    assert rows(house, "SELECT id FROM jobs") == []


def test_a_connection_that_breaks_in_the_middle_of_a_submit_makes_one_job(
    house: TestGateway, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = store.submit
    calls = []

    def broken_after(connection: Any, job: store.NewJob) -> store.Submitted:
        answer = written(connection, job)
        calls.append(job.id)
        if len(calls) == 1:
            raise OperationalError("the connection is lost, the row is not")
        return answer

    monkeypatch.setattr(store, "submit", broken_after)
    answer = accepted(alice.post(JOBS, RUN))
    assert [row["id"] for row in rows(house, "SELECT id FROM jobs")] == [answer["job_id"]]


def test_a_database_that_stays_away_is_told_as_such(
    house: TestGateway, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(services: Services, job: store.NewJob) -> store.Submitted:
        raise OperationalError("no route to postgres://secret@host")

    monkeypatch.setattr(api, "_submit", away)
    answer = alice.post(JOBS, RUN)
    assert answer.status_code == 503
    assert (answer.json or {})["code"] == "database_unavailable"
    assert answer.headers["Retry-After"]
    assert "secret" not in answer.text
    del house


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"data": b"{", "content_type": "application/json"}, 400, "not_json"),
        ({"data": b"a=b", "content_type": "application/x-www-form-urlencoded"}, 415, None),
        ({"data": b"{}"}, 415, "not_json_type"),
        ({"data": b"[]", "content_type": "application/json"}, 422, "invalid"),
        (
            {"data": b" " * 17 * 1024 * 1024, "content_type": "application/json"},
            413,
            "body_too_large",
        ),
    ],
    ids=["half", "form", "untyped", "list", "large"],
)
def test_a_body_that_is_no_job_is_refused(
    alice: Caller, sent: dict[str, Any], status: int, code: str | None
) -> None:
    answer = alice.send("POST", JOBS, **sent)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    if code is not None:
        assert (answer.json or {})["code"] == code


def test_jobs_are_listed_newest_first_page_by_page_while_others_come(
    house: TestGateway, alice: Caller
) -> None:
    made = [item["job_id"] for item in accepted(alice.post(JOBS, {"jobs": [RUN] * 25}))["items"]]
    found: list[str] = []
    cursor = None
    for _ in range(3):
        page = alice.get(JOBS, query_string={"limit": 10, **({"cursor": cursor} if cursor else {})})
        assert page.json is not None
        found += [job["job_id"] for job in page.json["items"]]
        cursor = page.json["next"]
        # What comes meanwhile is newer: it moves no page.
        alice.post(JOBS, RUN)
    assert cursor is None
    assert sorted(found) == sorted(made)
    assert found == sorted(found, reverse=True)
    assert len(rows(house, "SELECT id FROM jobs")) == 28


def test_jobs_are_listed_by_filters(house: TestGateway, alice: Caller) -> None:
    first = accepted(alice.post(JOBS, {**RUN, "labels": {"sweep": "s1", "n": "1"}}))["job_id"]
    second = accepted(alice.post(JOBS, {**RUN, "id": "k", "labels": {"sweep": "s1"}}))["job_id"]
    batch = accepted(
        alice.post("/api/v1/projects/lab/batches", {"template": RUN, "grid": {"d": [1]}})
    )["batch_id"]
    finish(house, first)
    third = rows(house, "SELECT id FROM jobs WHERE batch_id = %s", batch)[0]["id"]

    def listed(**query: str) -> list[str]:
        answer = alice.get(JOBS, query_string=query)
        assert answer.status_code == 200, answer.text
        return [job["job_id"] for job in (answer.json or {})["items"]]

    assert listed(state="failed") == [first]
    assert listed(state="failed,waiting") == [third, second, first]
    assert listed(state="running") == []
    assert listed(kind="run") == [third, second, first]
    assert listed(kind="k8s") == []
    assert listed(batch_id=batch) == [third]
    assert listed(id="k") == [second]
    assert listed(label="sweep=s1") == [second, first]
    assert listed(label="sweep=s1,n=1") == [first]
    assert listed(since="2020-01-01T00:00:00Z") == [third, second, first]
    assert listed(since="2100-01-01T00:00:00+02:00") == []
    submitted = (alice.get(f"/api/v1/jobs/{second}").json or {})["submitted_at"]
    assert first not in listed(since=submitted) or second in listed(since=submitted)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=done", "state"),
        ("kind=vm", "kind"),
        ("limit=0", "limit"),
        ("limit=ten", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=%00", "cursor"),
        ("cursor=bm8gSUQ", "cursor"),
        ("since=yesterday", "since"),
        ("label=x", "label"),
        ("id=%00", "id"),
        ("stat=failed", "stat"),
    ],
)
def test_a_wrong_filter_is_named(alice: Caller, query: str, field: str) -> None:
    answer = alice.get(f"{JOBS}?{query}")
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in (answer.json or {})["errors"]] == [field]


def test_a_finished_job_shows_its_result_beside_its_own_fields(
    house: TestGateway, alice: Caller
) -> None:
    job = accepted(alice.post(JOBS, RUN))
    finish(house, job["job_id"])
    shown = alice.get(job["url"]).json or {}
    assert shown["state"] == "failed"
    assert shown["stdout"] == "done\n"
    assert shown["result"] == {"key_rate": 0.1}
    assert shown["error"]["code"] == shown["error_code"] == "exit_code"
    assert shown["duration_s"] == 1.5


def test_a_waiting_job_is_cancelled_at_once(house: TestGateway, alice: Caller) -> None:
    job = accepted(alice.post(JOBS, RUN))
    for _ in range(2):
        answer = accepted(alice.post(f"{job['url']}/cancel"))
        assert answer["state"] == "cancelled"
    assert rows(house, "SELECT id FROM outbox WHERE exchange = 'qslice.todo'") == []
    (told,) = rows(house, "SELECT body FROM outbox WHERE exchange = 'qslice.done'")
    result = orjson.loads(told["body"])
    assert result["state"] == "cancelled"
    assert "alice" in result["error"]["message"]


def test_a_job_that_is_over_is_not_cancelled(house: TestGateway, alice: Caller) -> None:
    job = accepted(alice.post(JOBS, RUN))
    finish(house, job["job_id"])
    answer = alice.post(f"{job['url']}/cancel")
    assert (answer.status_code, answer.json and answer.json["code"]) == (409, "job_finished")


def test_a_failed_job_is_tried_again_as_one_new_job(house: TestGateway, alice: Caller) -> None:
    job = accepted(alice.post(JOBS, RUN))
    early = alice.post(f"{job['url']}/retry")
    assert (early.status_code, early.json and early.json["code"]) == (409, "not_retriable")
    finish(house, job["job_id"])
    new = [accepted(alice.post(f"{job['url']}/retry")) for _ in range(2)]
    assert new[0] == new[1]
    assert new[0]["job_id"] != job["job_id"]
    assert (alice.get(new[0]["url"]).json or {})["retry_of"] == job["job_id"]


@pytest.mark.parametrize("name", ["job_localhost_x", "1", "task_localhost_" + "0" * 26, "%00"])
def test_what_is_no_job_id_is_no_job(alice: Caller, name: str) -> None:
    answer = alice.get(f"/api/v1/jobs/{name}")
    assert (answer.status_code, answer.json and answer.json["code"]) == (404, "job_not_found")
