"""Cancelling in every state, and against what moves at the same time."""

from concurrent.futures import ThreadPoolExecutor

import orjson
import psycopg
import pytest
from psycopg.rows import dict_row
from qslice import names
from qslice.messages.ledger import Control
from qslice.messages.result import Result
from qslice.states import FINAL, State
from qslice_gateway.store import cancel, projects

from tests.support.store import Store


@pytest.mark.parametrize("state", [State.WAITING, State.QUEUED])
def test_a_job_that_no_worker_has_ends_at_once_and_its_result_is_told(
    store: Store, state: State
) -> None:
    job_id = store.in_state(state, producer_id="t-1", labels={"a": "b"})
    answer = cancel.job(store.conn, job_id, "Changed my mind.")
    assert answer is not None
    assert answer["state"] == "cancelled"
    (told,) = store.outbox()
    assert told["exchange"] == names.EXCHANGE_DONE
    assert told["routing_key"] == names.done_key("lab", "run", "cancelled")
    result = Result.read(bytes(told["body"]))
    assert (result.job_id, result.id, result.state) == (job_id, "t-1", State.CANCELLED)
    assert result.error is not None
    assert (result.error.owner, result.error.message) == ("user", "Changed my mind.")
    job = store.job(job_id)
    assert Result.of(job["result"]) == result
    assert (job["error_owner"], job["error_code"]) == ("user", "cancelled")
    assert job["finished_at"] is not None
    assert store.events(job_id) == ["cancelled"]


def test_a_running_job_is_asked_to_stop_once(store: Store) -> None:
    job_id = store.running()
    for _ in range(2):
        answer = cancel.job(store.conn, job_id)
        assert answer is not None
        assert answer["state"] == "running"
        assert answer["cancel_requested_at"] is not None
    (told,) = store.outbox()
    assert told["exchange"] == names.EXCHANGE_CONTROL
    assert Control.read(bytes(told["body"])) == Control(op="cancel", job_id=job_id)
    assert store.events(job_id) == ["cancel_requested"]


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_job_that_is_over_keeps_its_end(store: Store, state: State) -> None:
    job_id = store.in_state(state)
    answer = cancel.job(store.conn, job_id)
    assert answer is not None
    assert answer["state"] == state
    assert store.outbox() == []
    assert store.events(job_id) == []


def test_an_unknown_job_is_none(store: Store) -> None:
    assert cancel.job(store.conn, "job_localhost_none") is None


def test_a_message_that_a_relay_holds_is_left_to_it(store: Store, database_url: str) -> None:
    job_id = store.submit()
    with psycopg.connect(database_url) as relay:
        relay.execute("SELECT * FROM outbox FOR UPDATE SKIP LOCKED")
        answer = cancel.job(store.conn, job_id)
        assert answer is not None
        assert answer["state"] == "cancelled"
    exchanges = [row["exchange"] for row in store.outbox()]
    assert sorted(exchanges) == [names.EXCHANGE_DONE, names.EXCHANGE_TODO]


def test_a_batch_is_cancelled_whole_and_others_are_not_touched(store: Store) -> None:
    batch_id, members = store.batch(5)
    store.sql("UPDATE jobs SET state = 'running', worker = 'w' WHERE id = %s", members[0])
    store.sql("UPDATE jobs SET state = 'succeeded' WHERE id = %s", members[1])
    other = store.submit()
    assert cancel.batch(store.conn, batch_id) == 4
    states = [store.state(member) for member in members]
    assert states == ["running", "succeeded", "cancelled", "cancelled", "cancelled"]
    assert store.state(other) == "waiting"
    assert cancel.batch(store.conn, batch_id) == 0


def test_deleting_a_project_cancels_its_jobs_and_tells_the_workers(store: Store) -> None:
    waiting, running = store.submit(), store.running()
    assert projects.delete(store.conn, "lab")
    assert not projects.delete(store.conn, "lab")
    assert store.state(waiting) == "cancelled"
    assert store.job(running)["cancel_requested_at"] is not None
    told = [Control.read(bytes(row["body"])) for row in store.outbox(names.EXCHANGE_CONTROL)]
    assert told[0] == Control(op="project-deleted", project="lab")
    assert told[1] == Control(op="cancel", job_id=running)
    assert projects.get(store.conn, "lab") is None
    assert projects.create(store.conn, "lab", "mallory") is None


def test_cancelling_at_once_from_many_sides_ends_a_job_once(
    store: Store, database_url: str
) -> None:
    batch_id, members = store.batch(40)

    def end(_: int) -> int:
        with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as conn:
            return cancel.batch(conn, batch_id)

    with ThreadPoolExecutor(4) as threads:
        touched = list(threads.map(end, range(4)))
    assert sum(touched) == 40
    done = [orjson.loads(row["body"])["job_id"] for row in store.outbox(names.EXCHANGE_DONE)]
    assert sorted(done) == sorted(members)
    assert store.outbox(names.EXCHANGE_TODO) == []


def test_the_result_of_a_cancelled_task_of_the_course_carries_its_names(store: Store) -> None:
    job_id = store.submit(payload={"ID_projet": 7, "ID_tache": "a", "URL_git": "u", "CMD": "c"})
    cancel.job(store.conn, job_id)
    result = Result.of(store.job(job_id)["result"])
    assert (result.ID_projet, result.ID_tache) == (7, "a")
