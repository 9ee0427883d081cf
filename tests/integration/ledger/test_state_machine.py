"""Whatever happens in whatever order: accepted is finished, each once, and one has a job at a time.

The database and the ledger's own functions are real; the broker and the workers are lists in which
messages are lost never, doubled sometimes, and delivered in any order.
"""

import asyncio
import itertools
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import dict_row
from qslice import ids, names
from qslice.backoff import Backoff
from qslice.messages.ledger import Claim, ClaimAnswer, Heartbeat, Held, Reason
from qslice.states import FINAL, State
from qslice_gateway.ledger import claims, heartbeats
from qslice_gateway.ledger.broker import Delivery, Fate, Outgoing
from qslice_gateway.ledger.dead_letters import Burying
from qslice_gateway.ledger.events import Recording
from qslice_gateway.ledger.outbox import Waking
from qslice_gateway.ledger.relay import Relay
from qslice_gateway.ledger.results import Finishing
from qslice_gateway.ledger.watch import Watch
from qslice_gateway.store import batches, cancel, jobs, projects, retry
from qslice_gateway.store.pool import open_async_pool

from tests.support.store import PAYLOAD, Store

WORKERS = ("w1", "w2", "w3")
BACKOFF = Backoff(base=0.0, limit=3)
ENDS = (State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED)


class Crash(Exception):
    """The relay's process ends here."""


class Broker:
    """Takes what the relay publishes."""

    def __init__(self) -> None:
        self.todo: list[Outgoing] = []
        self.done: list[dict[str, Any]] = []
        self.dead: list[Outgoing] = []
        self.crash_after_publishing = False

    async def publish(self, messages: Any) -> list[Fate]:
        sent = list(messages)
        for message in sent:
            if message.exchange == names.EXCHANGE_TODO:
                self.todo.append(message)
            elif message.exchange in (names.EXCHANGE_DONE, ""):
                self.done.append(orjson.loads(message.body))
            elif message.exchange == names.EXCHANGE_DEAD:
                self.dead.append(message)
        if self.crash_after_publishing:
            raise Crash
        return [Fate.CONFIRMED] * len(sent)


class AlwaysListening:
    """Any silence counts."""

    seconds = 1e9


class Jobs(RuleBasedStateMachine):
    """Set `database_url` in a subclass."""

    database_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.conn = psycopg.connect(self.database_url, autocommit=True, row_factory=dict_row)
        self.store = Store(self.conn)
        self.runner = asyncio.Runner()
        self.pool = open_async_pool(self.database_url, size=2)
        self.broker = Broker()
        #: What each worker believes that it has: job to attempt.
        self.held: dict[str, dict[str, int]] = {worker: {} for worker in WORKERS}
        #: Who was ever granted an attempt.
        self.granted: dict[tuple[str, int], str] = {}
        #: Results and events on their way to the ledger.
        self.results: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        #: The ends that were seen, which must not change.
        self.ends: dict[str, tuple[str, Any]] = {}
        #: In the order in which they came, so that the same choices mean the same jobs.
        self.accepted: dict[str, None] = {}
        self.asked = 0
        # Identifiers in the order of their making, also within a millisecond: what PostgreSQL
        # sorts by them comes in the same order in every run of an example.
        numbers = itertools.count(1)
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(ids, "uuid7", lambda: UUID(int=next(numbers)))

    @initialize()
    def begin(self) -> None:
        self.store.sql(
            """TRUNCATE projects, batches, jobs, outbox, job_events, job_logs, job_log_sizes,
                        dead_letters, workers"""
        )
        assert projects.create(self.conn, "lab", "alice") is not None
        self.store.sql("DELETE FROM outbox")
        self.runner.run(self.pool.open())

    def teardown(self) -> None:
        try:
            if self.accepted:
                self.drain()
        finally:
            self.patch.undo()
            self.runner.run(self.pool.close())
            self.runner.close()
            self.conn.close()

    # Submitting.

    @rule(key=st.none() | st.sampled_from(["a", "b", "c"]))
    def submit(self, key: str | None) -> None:
        answer = jobs.submit(self.conn, self.store.new(producer_id=key))
        assert answer.made == (answer.job_id not in self.accepted)
        self.accepted[answer.job_id] = None

    @rule(size=st.integers(1, 4))
    def submit_batch(self, size: int) -> None:
        self.accepted.update(dict.fromkeys(self.store.batch(size)[1]))

    @rule(worker=st.sampled_from(WORKERS), key=st.sampled_from(["a", "b", "c", "d"]))
    def a_labs_message_is_claimed(self, worker: str, key: str) -> None:
        answer = self.claim(worker, producer_id=key, payload=PAYLOAD)
        if answer.job_id is not None:
            self.accepted[answer.job_id] = None

    # The relay and the broker.

    @rule(crash=st.booleans())
    def relay(self, crash: bool) -> None:
        self.broker.crash_after_publishing = crash

        async def nothing(_: Any) -> Any:
            return set()

        made = Relay(
            self.pool,
            None,  # type: ignore[arg-type]
            self.broker,  # type: ignore[arg-type]
            Waking(),
            prepare=nothing,
            restore=nothing,
        )
        try:
            self.runner.run(made.relay())
        except Crash:
            pass
        finally:
            self.broker.crash_after_publishing = False

    @precondition(lambda self: self.broker.todo)
    @rule(data=st.data())
    def a_message_is_doubled(self, data: st.DataObject) -> None:
        self.broker.todo.append(data.draw(st.sampled_from(self.broker.todo)))

    @precondition(lambda self: self.broker.todo)
    @rule(data=st.data(), worker=st.sampled_from(WORKERS), answer_arrives=st.booleans())
    def a_message_is_claimed(self, data: st.DataObject, worker: str, answer_arrives: bool) -> None:
        at = data.draw(st.integers(0, len(self.broker.todo) - 1))
        message = self.broker.todo[at]
        answer = self.claim(worker, *job_of(message), answer_arrives)
        # A worker that dies here has not acknowledged: the message comes again.
        if answer_arrives:
            assert answer.reason is not Reason.UNKNOWN
            del self.broker.todo[at]

    @precondition(lambda self: self.broker.todo)
    @rule(data=st.data(), owner=st.sampled_from(["user", "system"]))
    def a_message_goes_to_dead(self, data: st.DataObject, owner: str) -> None:
        at = data.draw(st.integers(0, len(self.broker.todo) - 1))
        message = self.broker.todo.pop(at)
        headers = {
            **message.headers,
            names.HEADER_OWNER: owner,
            names.HEADER_REASON: "no good",
            names.HEADER_QUEUE: message.routing_key,
        }
        burying = Burying(self.pool, lambda: None)
        self.runner.run(burying.handle([delivery(message.body, "lab.Dead", headers)]))

    def claim(
        self,
        worker: str,
        job_id: str | None = None,
        attempt: int = 0,
        answer_arrives: bool = True,
        **fields: Any,
    ) -> ClaimAnswer:
        self.asked += 1
        request = Claim(
            job_id=job_id,
            attempt=attempt,
            project="lab",
            kind="run",
            worker=worker,
            lease_s=60,
            **fields,
        )

        async def ask() -> ClaimAnswer | None:
            async with self.pool.connection() as conn:
                asked = [claims.Asked(request, str(self.asked))]
                return (await claims.answer(conn, asked, "localhost"))[0]

        answer = self.runner.run(ask())
        assert answer is not None
        if answer.granted:
            assert answer.job_id is not None
            key = answer.job_id, answer.attempt
            assert self.granted.setdefault(key, worker) == worker, f"{key} was granted twice"
            if answer_arrives:
                self.held[worker][answer.job_id] = answer.attempt
        return answer

    # What workers do.

    def somebodys(self, data: st.DataObject) -> tuple[str, str, int] | None:
        having = [
            (worker, job_id, attempt)
            for worker, jobs_ in self.held.items()
            for job_id, attempt in jobs_.items()
        ]
        return data.draw(st.sampled_from(having)) if having else None

    @rule(data=st.data(), state=st.sampled_from(ENDS))
    def a_worker_posts_a_result(self, data: st.DataObject, state: State) -> None:
        if (one := self.somebodys(data)) is not None:
            worker, job_id, attempt = one
            del self.held[worker][job_id]
            self.results.append(result(worker, job_id, attempt, state))

    @rule(data=st.data(), type_=st.sampled_from(["fault", "released"]))
    def a_worker_gives_up_an_attempt(self, data: st.DataObject, type_: str) -> None:
        if (one := self.somebodys(data)) is not None:
            worker, job_id, attempt = one
            del self.held[worker][job_id]
            self.events.append(event(type_, worker, job_id, attempt))

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_beats(self, worker: str) -> None:
        having = dict(self.held[worker])

        async def beat() -> list[Any]:
            held = [Held(job_id=job_id, attempt=attempt) for job_id, attempt in having.items()]
            request = Heartbeat(worker=worker, kind="run", slots=4, lease_s=60, jobs=held)
            async with self.pool.connection() as conn:
                return list(await heartbeats.answer(conn, [request]))

        (answer,) = self.runner.run(beat())
        for job_id, attempt in having.items():
            job = self.store.job(job_id)
            mine = (job["state"], job["attempt"], job["worker"]) == ("running", attempt, worker)
            assert (job_id in answer.lost) != mine
            wanted = mine and job["cancel_requested_at"] is not None
            assert (job_id in answer.cancel) == wanted
            if job_id in answer.lost:
                del self.held[worker][job_id]

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_dies(self, worker: str) -> None:
        self.held[worker].clear()

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_falls_silent(self, worker: str) -> None:
        """It goes on with what it has, and may come back later."""
        self.store.sql(
            "UPDATE jobs SET lease_until = now() - interval '1 s' WHERE state = 'running' "
            "AND worker = %s",
            worker,
        )
        self.watch()

    # What the ledger does.

    def watch(self) -> None:
        watch = Watch(self.pool, AlwaysListening(), BACKOFF, lambda: None)  # type: ignore[arg-type]
        self.runner.run(watch.look())

    @rule(copies=st.integers(1, 2), order=st.randoms(use_true_random=False))
    def results_arrive(self, copies: int, order: Any) -> None:
        arrived, self.results = self.results * copies, []
        order.shuffle(arrived)
        finishing = Finishing(self.pool, lambda: None)
        if arrived:
            self.runner.run(finishing.handle([delivery(orjson.dumps(one)) for one in arrived]))

    @rule(copies=st.integers(1, 2), order=st.randoms(use_true_random=False))
    def events_arrive(self, copies: int, order: Any) -> None:
        arrived, self.events = self.events * copies, []
        order.shuffle(arrived)
        recording = Recording(self.pool, BACKOFF, lambda: None)
        if arrived:
            self.runner.run(recording.handle([delivery(orjson.dumps(one)) for one in arrived]))

    # What people do.

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def a_person_cancels(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(list(self.accepted)))
        answer = cancel.job(self.conn, job_id)
        assert answer is not None
        assert answer["state"] in FINAL or answer["cancel_requested_at"] is not None

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def a_person_tries_again(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(list(self.accepted)))
        state = State(self.store.state(job_id))
        try:
            answer = retry.retry(self.conn, job_id, ids.new(ids.JOB), "alice")
        except retry.NotRetriable:
            assert state not in retry.RETRIABLE
        else:
            assert answer is not None
            assert state in retry.RETRIABLE
            self.accepted[answer.job_id] = None

    # What must hold at any time.

    @invariant()
    def an_end_is_an_end(self) -> None:
        for job in self.store.sql("SELECT id, state, result FROM jobs"):
            if job["state"] in FINAL:
                known = self.ends.setdefault(job["id"], (job["state"], job["result"]))
                assert known == (job["state"], job["result"]), job["id"]
            else:
                assert job["id"] not in self.ends, job["id"]

    @invariant()
    def a_job_ends_once_and_every_change_is_an_event(self) -> None:
        for job in self.store.sql(
            """SELECT j.id, j.state, array_remove(array_agg(e.type ORDER BY e.id), NULL) AS types
               FROM jobs j LEFT JOIN job_events e ON e.job_id = j.id AND e.type = ANY(%s)
               GROUP BY j.id""",
            [str(state) for state in State],
        ):
            path = [State.WAITING, *(State(type_) for type_ in job["types"])]
            assert path[-1] == job["state"], job
            assert sum(state in FINAL for state in path) == (job["state"] in FINAL), job

    @invariant()
    def nothing_that_waits_is_lost(self) -> None:
        under_way = {job_of(message) for message in self.broker.todo}
        under_way |= {
            (row["job_id"], row["attempt"]) for row in self.store.outbox(names.EXCHANGE_TODO)
        }
        for job in self.store.sql(
            "SELECT id, attempt FROM jobs WHERE state IN ('waiting', 'queued')"
        ):
            assert (job["id"], job["attempt"]) in under_way, job["id"]

    @invariant()
    def whoever_runs_a_job_was_granted_it(self) -> None:
        for job in self.store.sql("SELECT id, attempt, worker FROM jobs WHERE state = 'running'"):
            assert self.granted[job["id"], job["attempt"]] == job["worker"]

    # In the end.

    def drain(self) -> None:
        """Everything comes back and works on: then every job ends, and is told on Done."""
        posted = []
        for _ in range(100):
            self.relay(crash=False)
            self.results_arrive(1, NoShuffle())
            self.events_arrive(1, NoShuffle())
            for worker in WORKERS:
                self.a_worker_falls_silent(worker)
                self.held[worker].clear()
            todo, self.broker.todo = self.broker.todo, []
            for message in todo:
                answer = self.claim("w1", *job_of(message))
                if answer.granted:
                    posted.append(result("w1", *job_of(message), State.SUCCEEDED))
            self.results += posted
            posted = []
            self.results_arrive(1, NoShuffle())
            if not self.store.outbox() and not self.broker.todo and not self.active():
                break
        self.an_end_is_an_end()
        self.a_job_ends_once_and_every_change_is_an_event()
        assert self.active() == []
        assert {row["id"] for row in self.store.sql("SELECT id FROM jobs")} == set(self.accepted)
        told = {one["job_id"]: one["state"] for one in self.broker.done}
        for job_id, (state, kept) in self.ends.items():
            by_worker = "posted_by" in (kept or {})
            assert by_worker or told[job_id] == state
        for batch in self.store.sql("SELECT id, total FROM batches"):
            assert sum(batches.counts(self.conn, batch["id"]).values()) == batch["total"]

    def active(self) -> list[str]:
        rows = self.store.sql("SELECT id FROM jobs WHERE finished_at IS NULL")
        return [row["id"] for row in rows]


def job_of(message: Outgoing) -> tuple[str, int]:
    return message.headers[names.HEADER_JOB], message.headers[names.HEADER_ATTEMPT]


class NoShuffle:
    def shuffle(self, _: list[Any]) -> None:
        """Leave it."""


def delivery(
    body: bytes, key: str = "lab.run.x", headers: dict[str, Any] | None = None
) -> Delivery:
    return Delivery(1, key, False, body, Properties(headers), 0.0)


class Properties:
    def __init__(self, headers: dict[str, Any] | None) -> None:
        self.headers = headers


def result(worker: str, job_id: str, attempt: int, state: State) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "project": "lab",
        "kind": "run",
        "state": state,
        "attempt": attempt,
        "worker": worker,
        "posted_by": worker,
        "finished_at": "2026-01-01T00:00:00Z",
    }


def event(type_: str, worker: str, job_id: str, attempt: int) -> dict[str, Any]:
    return {
        "type": type_,
        "job_id": job_id,
        "project": "lab",
        "kind": "run",
        "attempt": attempt,
        "worker": worker,
        "at": "2026-01-01T00:00:00Z",
    }


def test_accepted_is_finished_each_once_and_no_attempt_is_had_by_two(database_url: str) -> None:
    machine = type("Machine", (Jobs,), {"database_url": database_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_without_the_guard_of_a_claim_the_machine_fails(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at what it says it does."""
    broken = claims._CLAIM.replace(
        "IN ('waiting', 'queued')", "IN ('waiting', 'queued', 'running')"
    )
    assert broken != claims._CLAIM
    monkeypatch.setattr(claims, "_CLAIM", broken)
    Jobs.database_url = database_url
    machine = Jobs()
    try:
        machine.begin()
        machine.submit(None)
        machine.relay(crash=True)
        machine.relay(crash=False)
        machine.claim("w1", *job_of(machine.broker.todo[0]))
        with pytest.raises(AssertionError, match="granted twice"):
            machine.claim("w2", *job_of(machine.broker.todo[1]))
    finally:
        machine.accepted.clear()
        machine.teardown()
