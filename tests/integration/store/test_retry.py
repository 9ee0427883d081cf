"""Trying a finished job again by hand: a new job with the same payload."""

from concurrent.futures import ThreadPoolExecutor

import orjson
import psycopg
import pytest
from psycopg.rows import dict_row
from qslice import ids, names
from qslice.states import ACTIVE, State
from qslice_gateway.store import batches, projects
from qslice_gateway.store.retry import RETRIABLE, NotRetriable, retry

from tests.support.store import PAYLOAD, Store


@pytest.mark.parametrize("state", sorted(RETRIABLE))
def test_a_job_that_did_not_succeed_is_tried_again_as_a_new_one(store: Store, state: State) -> None:
    payload = {**PAYLOAD, "id": "t-1"}
    old = store.ended(state, producer_id="t-1", labels={"a": "b"}, priority=2, payload=payload)
    answer = retry(store.conn, old, ids.new(ids.JOB), "bob")
    assert answer is not None
    assert answer.made
    new = store.job(answer.job_id)
    assert (new["state"], new["retry_of"], new["owner"]) == ("waiting", old, "bob")
    assert (new["payload"], new["labels"], new["priority"]) == (payload, {"a": "b"}, 2)
    # It is still the producer's `t-1`, as its result will say.
    assert new["id"] == "t-1"
    (row,) = store.outbox()
    assert (row["routing_key"], row["job_id"]) == ("lab.ToDo", answer.job_id)
    assert orjson.loads(row["body"]) == payload
    assert store.state(old) == state


@pytest.mark.parametrize("state", [*sorted(ACTIVE), State.SUCCEEDED])
def test_a_job_that_runs_or_succeeded_is_not_tried_again(store: Store, state: State) -> None:
    old = store.in_state(state)
    with pytest.raises(NotRetriable, match=state):
        retry(store.conn, old, ids.new(ids.JOB), "alice")


def test_asked_twice_also_at_once_the_same_new_job_is_answered(
    store: Store, database_url: str
) -> None:
    old = store.ended()

    def again(_: int) -> str:
        with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as conn:
            answer = retry(conn, old, ids.new(ids.JOB), "alice")
            assert answer is not None
            return answer.job_id

    with ThreadPoolExecutor(4) as threads:
        made = set(threads.map(again, range(8)))
    assert len(made) == 1
    assert len(store.outbox()) == 1


def test_a_new_job_can_be_tried_again_in_its_turn(store: Store) -> None:
    old = store.ended()
    first = retry(store.conn, old, ids.new(ids.JOB), "alice")
    assert first is not None
    store.sql("UPDATE jobs SET state = 'failed' WHERE id = %s", first.job_id)
    second = retry(store.conn, first.job_id, ids.new(ids.JOB), "alice")
    assert second is not None
    assert store.job(second.job_id)["retry_of"] == first.job_id


def test_the_new_job_takes_the_place_in_its_batch_which_is_open_again(store: Store) -> None:
    batch_id, members = store.batch(3)
    store.sql("UPDATE jobs SET state = 'failed' WHERE id = %s", members[1])
    store.sql("UPDATE batches SET finished_at = now()")
    answer = retry(store.conn, members[1], ids.new(ids.JOB), "alice")
    assert answer is not None
    assert [row["job_id"] for row in batches.results(store.conn, batch_id)] == [
        members[0],
        answer.job_id,
        members[2],
    ]
    found = batches.get(store.conn, batch_id)
    assert found is not None
    assert found["counts"] == {"waiting": 3}
    assert found["finished_at"] is None


def test_an_unknown_job_is_none_and_one_of_a_deleted_project_is_not_tried(store: Store) -> None:
    assert retry(store.conn, "job_localhost_none", ids.new(ids.JOB), "alice") is None
    old = store.ended()
    projects.delete(store.conn, "lab")
    with pytest.raises(NotRetriable, match="deleted"):
        retry(store.conn, old, ids.new(ids.JOB), "alice")
    assert store.outbox(names.EXCHANGE_TODO) == []
