"""Batches over REST: a sweep, its summary, its results as JSON and CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

import orjson
import pytest
from qslice.messages.result import Result
from qslice.states import State

from tests.support.gateway import Caller, TestGateway

BATCHES = "/api/v1/projects/lab/batches"
TEMPLATE = {
    "repository": "https://git.example/qkd/bb84.git",
    "command": ["python", "bb84.py", "--distance", "{distance}", "--seed", "{seed}"],
    "id": "t-{distance}-{seed}",
}
GRID = {"distance": [0, 10, 20], "seed": [1, 2]}


def submitted(caller: Caller, **fields: Any) -> dict[str, Any]:
    answer = caller.post(BATCHES, {"template": TEMPLATE, "grid": GRID, **fields})
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json or {}
    return found


def end(house: TestGateway, batch: str, index: int, result: Any) -> None:
    """As the ledger writes a job's end."""
    with house.services.pool.connection() as connection:
        row = connection.execute(
            "SELECT id FROM jobs WHERE batch_id = %s AND batch_index = %s", [batch, index]
        ).fetchone()
        assert row is not None
        state = State.FAILED if result is None else State.SUCCEEDED
        message = {
            "job_id": row["id"],
            "state": state,
            "stdout": "x\n",
            "stderr": "",
            "truncated": False,
            "exit_code": 0,
            "duration_s": 2.0,
            "result": result,
        }
        if result is None:
            message["error"] = {"owner": "user", "code": "exit_code", "message": "=1+1"}
        connection.execute(
            """UPDATE jobs SET state = %s, finished_at = now(), exit_code = 0, result = %s::jsonb
               WHERE id = %s""",
            [state, orjson.dumps(message).decode(), row["id"]],
        )


def test_a_sweep_makes_a_job_for_each_point(house: TestGateway, alice: Caller) -> None:
    batch = submitted(alice, name="sweep")
    assert batch["total"] == 6
    assert batch["parameters"] == ["distance", "seed"]
    assert batch["counts"] == {"waiting": 6}
    with house.services.pool.connection() as connection:
        rows = connection.execute(
            "SELECT producer_id, payload, labels FROM jobs ORDER BY batch_index"
        ).fetchall()
    assert [row["producer_id"] for row in rows][:3] == ["t-0-1", "t-0-2", "t-10-1"]
    assert rows[3]["payload"]["command"][-4:] == ["--distance", "10", "--seed", "2"]
    assert rows[3]["labels"] == {"distance": "10", "seed": "2"}


def test_the_same_request_is_the_same_batch(house: TestGateway, alice: Caller) -> None:
    assert submitted(alice, request_id="r") == submitted(alice, request_id="r")
    with house.services.pool.connection() as connection:
        found = connection.execute("SELECT count(*) AS n FROM jobs").fetchone()
    assert found == {"n": 6}


def test_a_batch_that_is_wrong_at_one_point_writes_nothing(
    house: TestGateway, alice: Caller
) -> None:
    answer = alice.post(
        BATCHES, {"template": TEMPLATE, "list": [{"distance": 1, "seed": 2}, {"distance": 2}]}
    )
    assert answer.status_code == 422
    error = (answer.json or {})["errors"][0]
    assert error["field"] == "template.id"
    assert "{seed}" in error["message"]
    with house.services.pool.connection() as connection:
        assert connection.execute("SELECT 1 FROM jobs UNION SELECT 1 FROM batches").fetchall() == []


def test_results_come_in_the_order_of_the_grid_with_their_points(
    house: TestGateway, alice: Caller
) -> None:
    batch = submitted(alice)["batch_id"]
    end(house, batch, 4, {"key_rate": 0.5, "qber": 0.01})
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        query = {"limit": 4, **({"cursor": cursor} if cursor else {})}
        page = alice.get(f"{BATCHES}/{batch}/results", query_string=query).json
        assert page is not None
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    assert [item["batch_index"] for item in found] == list(range(6))
    assert found[4]["parameters"] == {"distance": 20, "seed": 1}
    assert found[4]["result"] == {"key_rate": 0.5, "qber": 0.01}
    assert found[0]["finished_at"] is None
    # A finished item is a result as it stands on Done.
    assert Result.of(found[4]).state is State.SUCCEEDED


def test_results_are_a_table_with_a_column_for_each_parameter_and_each_result(
    house: TestGateway, alice: Caller
) -> None:
    batch = submitted(alice)["batch_id"]
    end(house, batch, 0, {"key_rate": 0.5, "note": "=cmd|' /C calc'!A0"})
    end(house, batch, 1, 7)
    end(house, batch, 2, None)
    path = f"{BATCHES}/{batch}/results"
    answer = alice.get(path, headers={"Accept": "text/csv"})
    assert answer.content_type == "text/csv; charset=utf-8"
    assert batch in answer.headers["Content-Disposition"]
    assert answer.text == alice.get(path, query_string={"format": "csv"}).text
    table = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(table) == 6
    assert (table[0]["distance"], table[0]["seed"]) == ("0", "1")
    assert table[0]["result.key_rate"] == "0.5"
    assert table[1]["result"] == "7"
    assert table[2]["error_code"] == "exit_code"
    assert table[5]["state"] == "waiting"
    # What a task wrote is no formula of who opens the table.
    assert table[0]["result.note"].startswith("'=")
    assert table[2]["error_message"] == "'=1+1"
    finished = alice.get(path, query_string={"format": "csv", "finished": "true"})
    assert len(list(csv.DictReader(io.StringIO(finished.text)))) == 3


def test_a_large_table_comes_whole(house: TestGateway, alice: Caller) -> None:
    answer = alice.post(
        BATCHES,
        {"template": {**TEMPLATE, "command": ["true"], "id": None}, "grid": {"n": [*range(1201)]}},
    )
    assert answer.status_code == 202, answer.text
    batch = (answer.json or {})["batch_id"]
    text = alice.get(f"{BATCHES}/{batch}/results?format=csv").text
    table = list(csv.DictReader(io.StringIO(text)))
    assert [row["n"] for row in table] == [str(number) for number in range(1201)]
    del house


def test_what_is_left_of_a_batch_is_cancelled(house: TestGateway, alice: Caller) -> None:
    batch = submitted(alice)["batch_id"]
    end(house, batch, 0, 1)
    answer = alice.post(f"{BATCHES}/{batch}/cancel")
    assert (answer.status_code, answer.json) == (202, {"batch_id": batch, "cancelled": 5})
    summary = alice.get(f"{BATCHES}/{batch}").json or {}
    assert summary["counts"] == {"succeeded": 1, "cancelled": 5}
    assert summary["finished"] == 6


def test_batches_are_listed_newest_first(alice: Caller) -> None:
    made = [submitted(alice, template={**TEMPLATE, "id": None})["batch_id"] for _ in range(3)]
    first = alice.get(f"{BATCHES}?limit=2").json or {}
    rest = alice.get(f"{BATCHES}?cursor={first['next']}").json or {}
    assert [item["batch_id"] for item in first["items"] + rest["items"]] == made[::-1]
    assert rest["next"] is None


@pytest.mark.parametrize("name", ["x", "batch_localhost_" + "0" * 26, "job_localhost_" + "0" * 26])
def test_a_batch_that_is_not_there_is_told_so(alice: Caller, name: str) -> None:
    for answer in (
        alice.get(f"{BATCHES}/{name}"),
        alice.get(f"{BATCHES}/{name}/results"),
        alice.post(f"{BATCHES}/{name}/cancel"),
    ):
        assert (answer.status_code, answer.json and answer.json["code"]) == (404, "batch_not_found")


def test_a_batch_is_found_only_under_its_own_project(alice: Caller) -> None:
    batch = submitted(alice)["batch_id"]
    alice.post("/api/v1/projects", {"name": "other"})
    assert alice.get(f"/api/v1/projects/other/batches/{batch}").status_code == 404
