"""Submitting: a job and its message, or neither; a producer id is one job."""

from concurrent.futures import ThreadPoolExecutor

import orjson
import psycopg
import pytest
from psycopg.rows import dict_row
from qslice import names
from qslice.messages.base import Rejected
from qslice_gateway.store import jobs, projects
from qslice_gateway.store.jobs import BULK, SINGLE, UnknownProject

from tests.support.store import PAYLOAD, Store


def test_a_submitted_job_waits_with_its_message_in_the_outbox(store: Store) -> None:
    new = store.new(producer_id="t-1", labels={"sweep": "s1"}, priority=3)
    answer = jobs.submit(store.conn, new)
    assert answer == jobs.Submitted(new.id, "t-1", "waiting", True)
    job = store.job(new.id)
    assert (job["id"], job["state"], job["attempt"]) == ("t-1", "waiting", 1)
    assert (job["payload"], job["labels"], job["priority"]) == (PAYLOAD, {"sweep": "s1"}, 3)
    (row,) = store.outbox()
    assert (row["exchange"], row["routing_key"]) == (names.EXCHANGE_TODO, "lab.ToDo")
    assert (row["job_id"], row["attempt"], row["priority"]) == (new.id, 1, 3)
    assert orjson.loads(row["body"]) == PAYLOAD


def test_a_job_of_another_kind_goes_to_the_queue_of_that_kind(store: Store) -> None:
    store.submit(kind=names.K8S)
    assert store.outbox()[0]["routing_key"] == names.todo("lab", names.K8S)


def test_the_same_producer_id_gives_the_job_that_has_it(store: Store) -> None:
    first = jobs.submit(store.conn, store.new(producer_id="t-1"))
    store.sql("UPDATE jobs SET state = 'running' WHERE id = %s", first.job_id)
    again = jobs.submit(store.conn, store.new(producer_id="t-1"))
    assert again == jobs.Submitted(first.job_id, "t-1", "running", False)
    assert len(store.outbox()) == 1


def test_the_same_producer_id_in_another_project_is_another_job(store: Store) -> None:
    projects.create(store.conn, "other", "bob")
    mine = store.submit(producer_id="t-1")
    theirs = store.submit(producer_id="t-1", project="other")
    assert mine != theirs


def test_many_that_submit_the_same_producer_id_at_once_get_one_job(
    store: Store, database_url: str
) -> None:
    def submit(_: int) -> jobs.Submitted:
        with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as conn:
            return jobs.submit(conn, store.new(producer_id="t-1"))

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(submit, range(24)))
    assert len({answer.job_id for answer in answers}) == 1
    assert sum(answer.made for answer in answers) == 1
    assert len(store.outbox()) == 1


def test_an_unknown_or_deleted_project_takes_nothing(store: Store) -> None:
    with pytest.raises(UnknownProject):
        store.submit(project="nowhere")
    projects.create(store.conn, "gone", "alice")
    projects.delete(store.conn, "gone")
    with pytest.raises(UnknownProject):
        store.submit(project="gone")
    with pytest.raises(UnknownProject):
        jobs.submit_many(store.conn, [store.new(), store.new(project="gone")])
    assert store.sql("SELECT * FROM jobs") == []
    assert store.outbox(names.EXCHANGE_TODO) == []


@pytest.mark.parametrize("payload", [{"command": ["a\x00b"]}, {"env": {"\x00": "x"}}])
def test_a_payload_with_nul_characters_is_rejected(
    store: Store, payload: dict[str, object]
) -> None:
    with pytest.raises(Rejected, match="NUL"):
        store.submit(payload=payload)
    with pytest.raises(Rejected, match="NUL"):
        jobs.submit_many(store.conn, [store.new(), store.new(payload=payload)])
    assert store.sql("SELECT * FROM jobs") == []


def test_a_payload_that_only_looks_like_nul_is_kept(store: Store) -> None:
    payload = {"command": ["\\u0000 \\\\u0000"]}
    assert store.job(store.submit(payload=payload))["payload"] == payload


def test_a_submit_that_is_not_committed_leaves_nothing(store: Store) -> None:
    with store.conn.transaction(force_rollback=True):
        store.submit()
    assert store.sql("SELECT * FROM jobs") == []
    assert store.outbox() == []


def test_many_jobs_are_answered_in_their_order_and_overtaken_by_single_ones(
    store: Store,
) -> None:
    many = [store.new(producer_id=f"t-{n}", labels={"n": str(n)}) for n in range(100)]
    answers = jobs.submit_many(store.conn, many)
    assert [answer.job_id for answer in answers] == [job.id for job in many]
    assert all(answer.made for answer in answers)
    single = store.submit()
    rows = store.outbox()
    assert len(rows) == 101
    assert (rows[0]["job_id"], rows[0]["lane"]) == (single, SINGLE)
    assert {row["lane"] for row in rows[1:]} == {BULK}
    assert {row["attempt"] for row in rows} == {1}
    assert store.job(many[7].id)["labels"] == {"n": "7"}
    assert store.job(many[7].id)["payload"] == PAYLOAD


def test_known_and_repeated_producer_ids_among_many_are_answered_with_their_jobs(
    store: Store,
) -> None:
    known = store.queued(producer_id="known")
    many = [
        store.new(producer_id="a"),
        store.new(producer_id="known"),
        store.new(),
        store.new(producer_id="a"),
    ]
    answers = jobs.submit_many(store.conn, many)
    assert [answer.made for answer in answers] == [True, False, True, False]
    assert answers[1] == jobs.Submitted(known, "known", "queued", False)
    assert answers[3].job_id == many[0].id
    assert len(store.sql("SELECT * FROM jobs")) == 3
    assert len(store.outbox()) == 2


def test_many_submitted_twice_are_made_once(store: Store) -> None:
    def request() -> list[jobs.NewJob]:
        return [store.new(producer_id=f"r/{n}") for n in range(50)]

    first = jobs.submit_many(store.conn, request())
    again = jobs.submit_many(store.conn, request())
    assert [one.job_id for one in first] == [one.job_id for one in again]
    assert not any(one.made for one in again)
    assert len(store.outbox()) == 50


def test_two_bulks_with_the_same_producer_ids_at_once_make_each_job_once(
    store: Store, database_url: str
) -> None:
    def submit(order: int) -> list[jobs.Submitted]:
        wanted = [store.new(producer_id=f"r/{n}") for n in range(300)]
        with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as conn:
            return jobs.submit_many(conn, wanted)

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(submit, range(4)))
    assert len(store.sql("SELECT * FROM jobs")) == 300
    assert len(store.outbox()) == 300
    for others in answers[1:]:
        assert [one.job_id for one in others] == [one.job_id for one in answers[0]]
    assert sum(one.made for answer in answers for one in answer) == 300


def test_a_job_id_that_is_taken_is_an_error_and_no_second_job(store: Store) -> None:
    new = store.new()
    jobs.submit(store.conn, new)
    with pytest.raises(psycopg.errors.UniqueViolation):
        jobs.submit(store.conn, new)
    with pytest.raises(psycopg.errors.UniqueViolation):
        jobs.submit_many(store.conn, [store.new(), new])
    assert len(store.outbox()) == 1


def test_no_jobs_at_all_are_no_error(store: Store) -> None:
    assert jobs.submit_many(store.conn, []) == []
