"""Dead letters over REST."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.gateway import RUN, Caller, TestGateway

DEAD = "/api/v1/projects/lab/dead"


def bury(house: TestGateway, **columns: Any) -> str:
    """As the ledger writes a dead letter."""
    values = {
        "project": "lab",
        "queue": "lab.ToDo",
        "body": b'{"repo": 1}',
        "reason": "unknown field",
        "field": "repo",
        "owner": "user",
        **columns,
    }
    names = ", ".join(values)
    places = ", ".join(f"%({name})s" for name in values)
    query = f"INSERT INTO dead_letters ({names}) VALUES ({places}) RETURNING id"
    with house.services.pool.connection() as connection:
        row = connection.execute(query.encode(), values).fetchone()
    assert row is not None
    return str(row["id"])


def test_dead_letters_are_listed_with_their_reason(house: TestGateway, alice: Caller) -> None:
    made = [bury(house, field=name) for name in ("a", "b", "c")]
    first = alice.get(f"{DEAD}?limit=2").json or {}
    rest = alice.get(f"{DEAD}?cursor={first['next']}").json or {}
    found = first["items"] + rest["items"]
    assert [item["id"] for item in found] == made[::-1]
    assert rest["next"] is None
    assert found[0]["body"] == '{"repo": 1}'
    assert (found[0]["field"], found[0]["reason"], found[0]["owner"]) == (
        "c",
        "unknown field",
        "user",
    )


def test_a_message_that_became_no_job_goes_back_to_its_queue_once(
    house: TestGateway, alice: Caller
) -> None:
    letter = bury(house)
    answers = [alice.post(f"{DEAD}/{letter}/replay") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json == answers[1].json
    assert (answers[0].json or {})["replayed_as"] == "lab.ToDo"
    with house.services.pool.connection() as connection:
        sent = connection.execute(
            "SELECT routing_key, body FROM outbox WHERE exchange = 'qslice.todo'"
        ).fetchall()
    assert [(row["routing_key"], bytes(row["body"])) for row in sent] == [
        ("lab.ToDo", b'{"repo": 1}')
    ]


def test_a_dead_job_is_tried_again_as_a_new_one(house: TestGateway, alice: Caller) -> None:
    job = (alice.post("/api/v1/projects/lab/jobs", RUN).json or {})["job_id"]
    letter = bury(house, job_id=job, owner="system")
    early = alice.post(f"{DEAD}/{letter}/replay")
    assert (early.status_code, early.json and early.json["code"]) == (409, "not_replayable")
    with house.services.pool.connection() as connection:
        connection.execute("UPDATE jobs SET state = 'dead', finished_at = now()")
    answer = alice.post(f"{DEAD}/{letter}/replay")
    assert answer.status_code == 202
    new = (answer.json or {})["replayed_as"]
    assert (alice.get(f"/api/v1/jobs/{new}").json or {})["retry_of"] == job


def test_a_dead_letter_is_dropped(house: TestGateway, alice: Caller) -> None:
    letter = bury(house)
    assert alice.delete(f"{DEAD}/{letter}").status_code == 204
    assert alice.delete(f"{DEAD}/{letter}").status_code == 404
    assert (alice.get(DEAD).json or {})["items"] == []


@pytest.mark.parametrize("name", ["0", "x", "9" * 30, "-1"])
def test_a_dead_letter_that_is_not_there_is_told_so(alice: Caller, name: str) -> None:
    for answer in (alice.post(f"{DEAD}/{name}/replay"), alice.delete(f"{DEAD}/{name}")):
        assert answer.status_code == 404
        assert (answer.json or {})["code"] == "dead_letter_not_found"


def test_another_projects_dead_letter_is_not_there(house: TestGateway, alice: Caller) -> None:
    house.by("bob").post("/api/v1/projects", {"name": "other"})
    letter = bury(house, project="other", queue="other.ToDo")
    assert alice.post(f"{DEAD}/{letter}/replay").status_code == 404
    assert alice.delete(f"{DEAD}/{letter}").status_code == 404
