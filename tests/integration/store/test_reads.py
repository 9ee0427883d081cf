"""Listings by filters and pages, events and logs after an id."""

from typing import Any

import pytest
from qslice import ids, names
from qslice.states import State
from qslice_gateway.store import batches, jobs, projects, reads

from tests.support.store import Store


def listed(store: Store, **filters: Any) -> list[str]:
    return [row["job_id"] for row in reads.jobs(store.conn, "lab", **filters)]


def test_jobs_are_listed_newest_first_page_by_page_without_gap_or_overlap(store: Store) -> None:
    made = [store.in_state(state) for state in State for _ in range(3)]
    seen: list[str] = []
    while page := listed(store, limit=5, before=seen[-1] if seen else None):
        assert len(page) <= 5
        seen += page
    assert seen == sorted(made, reverse=True)


def test_filters_may_be_combined(store: Store) -> None:
    a = store.queued(labels={"sweep": "s1", "x": "1"})
    b = store.queued(labels={"sweep": "s1", "x": "2"})
    c = store.ended(labels={"sweep": "s1"}, producer_id="t-c")
    d = store.submit(kind=names.K8S)
    batch_id, members = store.batch(2)
    assert set(listed(store, states=["queued"])) == {a, b}
    assert set(listed(store, states=["queued", "failed"])) == {a, b, c}
    assert listed(store, kinds=[names.K8S]) == [d]
    assert set(listed(store, labels={"sweep": "s1"})) == {a, b, c}
    assert listed(store, labels={"sweep": "s1", "x": "2"}) == [b]
    assert listed(store, labels={"sweep": "s1"}, states=["failed"]) == [c]
    assert listed(store, producer_id="t-c") == [c]
    assert listed(store, producer_id="t-c", states=["queued"]) == []
    assert set(listed(store, batch_id=batch_id)) == set(members)
    assert listed(store, batch_id=batch_id, before=max(members)) == [min(members)]
    assert listed(store, states=["succeeded"]) == []


def test_another_projects_jobs_are_never_listed(store: Store) -> None:
    projects.create(store.conn, "other", "bob")
    theirs = store.submit(project="other", labels={"a": "b"}, producer_id="t-1")
    assert listed(store) == []
    assert listed(store, labels={"a": "b"}) == []
    assert listed(store, producer_id="t-1") == []
    assert [row["job_id"] for row in reads.jobs(store.conn, "other")] == [theirs]


def test_a_rare_job_among_many_is_found_through_an_index(store: Store) -> None:
    jobs.submit_many(store.conn, [store.new() for _ in range(5000)])
    rare = store.ended(State.DEAD)
    store.sql("ANALYZE jobs")
    assert listed(store, states=["dead"]) == [rare]
    plan = "\n".join(
        str(row["QUERY PLAN"])
        for row in store.conn.execute(
            "EXPLAIN (ANALYZE, BUFFERS OFF) " + reads._PAGE,
            {
                "project": "lab",
                "kinds": list(names.KINDS),
                "states": ["dead", "failed"],
                "before": reads.AFTER_ALL,
                "since": "",
                "limit": 50,
            },
        ).fetchall()
    )
    assert "jobs_listed" in plan
    assert "Seq Scan on jobs" not in plan


def test_events_and_logs_are_read_in_order_after_an_id(store: Store) -> None:
    job_id = store.running()
    for n in range(4):
        store.sql(
            "INSERT INTO job_events (job_id, attempt, type) VALUES (%s, 1, %s)", job_id, f"e{n}"
        )
        store.sql(
            """INSERT INTO job_logs (job_id, attempt, seq, stream, at, text)
               VALUES (%s, %s, %s, 'stdout', now(), %s)""",
            job_id,
            1 + n // 2,
            n,
            f"line {n}\n",
        )
    events = reads.events(store.conn, job_id)
    assert [event["type"] for event in events] == ["e0", "e1", "e2", "e3"]
    rest = reads.events(store.conn, job_id, after=events[1]["id"], limit=1)
    assert [event["type"] for event in rest] == ["e2"]
    logs = reads.logs(store.conn, job_id)
    assert [line["text"] for line in logs] == [f"line {n}\n" for n in range(4)]
    assert [line["seq"] for line in reads.logs(store.conn, job_id, after=logs[2]["id"])] == [3]
    assert [line["seq"] for line in reads.logs(store.conn, job_id, attempt=2)] == [2, 3]


def test_a_job_is_read_by_its_id_and_by_its_producers(store: Store) -> None:
    job_id = store.ended(State.SUCCEEDED, producer_id="t-1")
    by_id, by_producer = reads.job(store.conn, job_id), reads.by_producer(store.conn, "lab", "t-1")
    assert by_id == by_producer
    assert by_id is not None
    assert by_id["result"]["state"] == "succeeded"
    assert reads.job(store.conn, "job_localhost_none") is None
    assert reads.by_producer(store.conn, "lab", "t-2") is None


def test_jobs_are_counted_by_state(store: Store) -> None:
    store.submit()
    store.submit()
    store.ended(State.DEAD)
    assert reads.counts(store.conn, "lab") == {"waiting": 2, "dead": 1}


def test_a_batch_made_twice_by_one_request_is_one_batch(store: Store) -> None:
    def create() -> tuple[dict[str, Any], bool]:
        batch_id = ids.new(ids.BATCH)
        members = [store.new(batch_id=batch_id, batch_index=n) for n in range(3)]
        batch = batches.NewBatch(batch_id, "lab", "alice", {"command": []}, request_id="r-1")
        return batches.create(store.conn, batch, members)

    (first, made), (second, made_again) = create(), create()
    assert (made, made_again) == (True, False)
    assert first["batch_id"] == second["batch_id"]
    assert first["total"] == 3
    assert len(store.sql("SELECT * FROM jobs")) == 3


def test_a_batch_of_an_unknown_project_leaves_nothing(store: Store) -> None:
    batch = batches.NewBatch(ids.new(ids.BATCH), "nowhere", "alice", {})
    with pytest.raises(jobs.UnknownProject):
        batches.create(store.conn, batch, [store.new(project="nowhere", batch_id=batch.id)])
    assert store.sql("SELECT * FROM batches") == []


def test_results_of_a_batch_come_in_the_order_of_its_grid_page_by_page(store: Store) -> None:
    batch_id, members = store.batch(25)
    found: list[str] = []
    after = -1
    while page := batches.results(store.conn, batch_id, after=after, limit=10):
        found += [row["job_id"] for row in page]
        after = page[-1]["batch_index"]
    assert found == members
    assert [row["batch_id"] for row in batches.listed(store.conn, "lab")] == [batch_id]
    assert batches.listed(store.conn, "lab", before=batch_id) == []


def test_projects_are_listed_by_owner_and_membership(store: Store) -> None:
    for name, owner in (("a", "alice"), ("b", "bob"), ("c", "carol")):
        projects.create(store.conn, name, owner)
    projects.delete(store.conn, "c")

    def seen(**who: Any) -> list[str]:
        return [row["name"] for row in projects.listed(store.conn, **who)]

    assert seen() == ["a", "b", "lab"]
    assert seen(owner="bob") == ["b"]
    assert seen(owner="bob", members=["lab", "c"]) == ["b", "lab"]
    assert seen(members=[]) == []
    assert seen(after="a", limit=1) == ["b"]
