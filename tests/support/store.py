"""Jobs in a real database, put in any state by plain SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row
from qslice import ids, names
from qslice.states import State
from qslice_gateway.store import batches, jobs, projects, reads

PAYLOAD = {"repository": "https://git.example/qkd/bb84.git", "command": ["python", "bb84.py"]}


@dataclass
class Store:
    """A connection, with a project `lab` of alice's."""

    conn: psycopg.Connection[dict[str, Any]]
    project: str = "lab"

    def new(self, **fields: Any) -> jobs.NewJob:
        """A job that was not submitted yet."""
        return jobs.NewJob(
            **{
                "id": ids.new(ids.JOB),
                "project": self.project,
                "kind": names.RUN,
                "payload": PAYLOAD,
                "owner": "alice",
                **fields,
            }
        )

    def submit(self, **fields: Any) -> str:
        """A submitted job's id."""
        return jobs.submit(self.conn, self.new(**fields)).job_id

    def queued(self, **fields: Any) -> str:
        """A job whose message is on its queue."""
        job_id = self.submit(**fields)
        self.sql("DELETE FROM outbox WHERE job_id = %s", job_id)
        self.sql("UPDATE jobs SET state = 'queued', queued_at = now() WHERE id = %s", job_id)
        return job_id

    def running(self, worker: str = "w1", lease_s: float = 60, **fields: Any) -> str:
        """A job that a worker has."""
        job_id = self.queued(**fields)
        self.sql(
            """UPDATE jobs SET state = 'running', worker = %s, lease_s = %s, started_at = now(),
                   lease_until = now() + make_interval(secs => %s) WHERE id = %s""",
            worker,
            lease_s,
            lease_s,
            job_id,
        )
        return job_id

    def ended(self, state: State = State.FAILED, **fields: Any) -> str:
        """A job that is over, with a result."""
        job_id = self.running(**fields)
        self.sql(
            """UPDATE jobs SET state = %s::text, finished_at = now(), lease_until = NULL,
                   result = jsonb_build_object('job_id', id, 'state', %s::text) WHERE id = %s""",
            state,
            state,
            job_id,
        )
        return job_id

    def in_state(self, state: State, **fields: Any) -> str:
        """A job in any state."""
        if state is State.WAITING:
            return self.submit(**fields)
        if state is State.QUEUED:
            return self.queued(**fields)
        return self.running(**fields) if state is State.RUNNING else self.ended(state, **fields)

    def batch(self, size: int, **fields: Any) -> tuple[str, list[str]]:
        """A batch and its jobs' ids."""
        batch_id = ids.new(ids.BATCH)
        members = [
            self.new(batch_id=batch_id, batch_index=index, **fields) for index in range(size)
        ]
        batches.create(
            self.conn, batches.NewBatch(batch_id, self.project, "alice", {"command": []}), members
        )
        return batch_id, [member.id for member in members]

    def sql(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        cursor = self.conn.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def job(self, job_id: str) -> dict[str, Any]:
        found = reads.job(self.conn, job_id)
        assert found is not None, job_id
        return found

    def state(self, job_id: str) -> str:
        return str(self.job(job_id)["state"])

    def events(self, job_id: str) -> list[str]:
        """The types of a job's events, in order."""
        return [event["type"] for event in reads.events(self.conn, job_id)]

    def outbox(self, exchange: str | None = None) -> list[dict[str, Any]]:
        """What waits to be relayed, in order."""
        return self.sql(
            """SELECT * FROM outbox WHERE %s::text IS NULL OR exchange = %s
               ORDER BY lane, not_before, id""",
            exchange,
            exchange,
        )


@contextmanager
def open_store(database_url: str) -> Iterator[Store]:
    """A store on a database with the schema, with an empty outbox."""
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as conn:
        store = Store(conn)
        assert projects.create(conn, store.project, "alice") is not None
        store.sql("DELETE FROM outbox")
        yield store
