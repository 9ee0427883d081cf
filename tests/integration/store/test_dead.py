"""Dead letters by hand: listed, replayed once, deleted."""

import pytest
from qslice import ids, names
from qslice.states import State
from qslice_gateway.store import dead

from tests.support.store import Store


def letter(store: Store, **fields: object) -> int:
    row = {
        "project": "lab",
        "queue": "lab.ToDo",
        "job_id": None,
        "body": b'{"command": 3}',
        "reason": "must be a list",
        "field": "command",
        "owner": "user",
        **fields,
    }
    (made,) = store.sql(
        f"""INSERT INTO dead_letters ({", ".join(row)})
            VALUES ({", ".join(["%s"] * len(row))}) RETURNING id""",
        *row.values(),
    )
    return int(made["id"])


def test_dead_letters_are_listed_newest_first_with_their_text(store: Store) -> None:
    first, second = letter(store), letter(store, body=b"\xff not text")
    page = dead.listed(store.conn, "lab")
    assert [row["id"] for row in page] == [str(second), str(first)]
    assert page[1]["body"] == '{"command": 3}'
    assert "not text" in page[0]["body"]
    assert [row["id"] for row in dead.listed(store.conn, "lab", before=second)] == [str(first)]
    assert dead.listed(store.conn, "other") == []


def test_a_deleted_letter_is_gone(store: Store) -> None:
    number = letter(store)
    assert not dead.delete(store.conn, "other", number)
    assert dead.delete(store.conn, "lab", number)
    assert not dead.delete(store.conn, "lab", number)
    assert dead.get(store.conn, "lab", number) is None
    assert dead.replay(store.conn, "lab", number, ids.new(ids.JOB), "alice") is None


def test_a_message_without_a_job_is_put_on_its_queue_again_once(store: Store) -> None:
    number = letter(store)
    for _ in range(2):
        answer = dead.replay(store.conn, "lab", number, ids.new(ids.JOB), "alice")
        assert answer is not None
        assert answer["replayed_as"] == "lab.ToDo"
    (row,) = store.outbox()
    assert (row["exchange"], row["routing_key"]) == (names.EXCHANGE_TODO, "lab.ToDo")
    assert bytes(row["body"]) == b'{"command": 3}'
    assert row["job_id"] is None


def test_a_letter_of_a_job_is_replayed_as_a_new_job_once(store: Store) -> None:
    old = store.ended(State.DEAD)
    number = letter(store, job_id=old)
    first = dead.replay(store.conn, "lab", number, ids.new(ids.JOB), "bob")
    again = dead.replay(store.conn, "lab", number, ids.new(ids.JOB), "bob")
    assert first is not None
    assert first == again
    assert store.job(first["replayed_as"])["retry_of"] == old


@pytest.mark.parametrize("queue", [None, "other.ToDo", "lab.Done", "amq.rabbitmq.trace"])
def test_a_letter_from_elsewhere_is_not_replayed(store: Store, queue: str | None) -> None:
    number = letter(store, queue=queue)
    with pytest.raises(dead.NotReplayable):
        dead.replay(store.conn, "lab", number, ids.new(ids.JOB), "alice")
    assert store.outbox() == []


def test_a_letter_of_a_job_that_still_runs_is_not_replayed(store: Store) -> None:
    number = letter(store, job_id=store.running())
    with pytest.raises(dead.NotReplayable, match="running"):
        dead.replay(store.conn, "lab", number, ids.new(ids.JOB), "alice")
    found = dead.get(store.conn, "lab", number)
    assert found is not None
    assert found["replayed_at"] is None
