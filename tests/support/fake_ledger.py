"""A scripted ledger: answers workers over the real broker, and keeps what they tell.

For tests of the worker alone. It keeps its jobs in a dictionary and follows the contract: a claim
is granted once per attempt, the same worker asking again gets the same answer, results and events
of another attempt are refused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import orjson
from qslice import ids, names, topology
from qslice.amqp import Channel, Connection, Message
from qslice.messages.base import Note
from qslice.messages.ledger import (
    REQUEST,
    Claim,
    ClaimAnswer,
    Control,
    Event,
    EventType,
    Heartbeat,
    HeartbeatAnswer,
    Owned,
    OwnedAnswer,
    ProjectsAnswer,
    Reason,
    Request,
)
from qslice.messages.result import Result

from tests.support.wait import wait_for_async


@dataclass
class Record:
    """A job as the fake ledger knows it."""

    job_id: str
    project: str
    producer_id: str | None = None
    attempt: int = 1
    worker: str | None = None
    submitted_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    #: The result of the attempt that counts.
    result: Result | None = None
    batch_id: str | None = None


@dataclass
class Dead:
    """A message on a Dead queue."""

    key: str
    body: bytes
    headers: dict[str, Any]


class FakeLedger:
    """`async with FakeLedger(url) as ledger:` then script it by its attributes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.jobs: dict[str, Record] = {}
        self.projects: list[str] = []
        #: Answers in place of the real one, by job id or producer's id.
        self.refuse: dict[str, Reason] = {}
        self.credentials: dict[str, Any] | None = None
        #: Job ids that the next heartbeats with them are told about.
        self.lost: set[str] = set()
        self.cancel: set[str] = set()
        self.owned: set[str] = set()
        #: Requests of an op to leave unanswered, yet.
        self.silent: Counter[str] = Counter()
        #: Called with each request before it is answered.
        self.when_asked: Callable[[Any], None] = lambda request: None

        self.requests: list[Any] = []
        self.results: list[Result] = []
        #: Results by job id that were of the attempt that is running.
        self.accepted: defaultdict[str, list[Result]] = defaultdict(list)
        self.events: list[Event] = []
        self.dead: list[Dead] = []

    async def __aenter__(self) -> Self:
        self._connection = await Connection.open(self._url, "fake ledger")
        self._channel: Channel = await self._connection.channel(confirms=True)
        await topology.declare(self._channel)
        self._reading: Channel = await self._connection.channel(prefetch=200)
        for queue, take in (
            (names.QUEUE_RPC, self._request),
            (names.QUEUE_EVENTS, self._event),
            (names.QUEUE_DONE, self._done),
            (names.QUEUE_DEAD, self._buried),
        ):
            await self._reading.consume(queue, take)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._connection.close()

    # -- what a test does

    async def create_project(self, project: str, announce: bool = False) -> None:
        await topology.declare(self._channel, project)
        self.projects.append(project)
        if announce:
            await self.call_out(Control(op="project-created", project=project))

    async def call_out(self, control: Control) -> None:
        await self._channel.publish(names.EXCHANGE_CONTROL, "", control.body())

    async def submit(self, project: str, *command: str, **fields: Any) -> str:
        """As the relay does it: a job with an id of ours. Returns the id."""
        job_id = ids.new(ids.JOB)
        record = Record(job_id, project, fields.get("id"))
        self.jobs[job_id] = record
        await self.publish_todo(record, *command, **fields)
        return job_id

    async def publish_todo(self, record: Record, *command: str, **fields: Any) -> None:
        """The message of a job's present attempt."""
        headers = {names.HEADER_JOB: record.job_id, names.HEADER_ATTEMPT: record.attempt}
        await self.publish_raw(record.project, run_body(*command, **fields), headers)

    async def publish_raw(
        self, project: str, body: bytes, headers: dict[str, Any] | None = None
    ) -> None:
        """As a lab script may do it."""
        await self._channel.publish(names.EXCHANGE_TODO, names.todo(project), body, headers=headers)

    async def requeue(self, job_id: str, *command: str) -> None:
        """The next attempt, as after a lost worker."""
        record = self.jobs[job_id]
        record.attempt += 1
        record.worker = None
        await self.publish_todo(record, *command)

    async def ready(self, project: str, queue: str | None = None) -> int:
        """Messages that wait on its ToDo queue (or another of its queues)."""
        name = queue or names.todo(project)
        return (await self._channel.declare_queue(name, passive=True)).ready

    async def result_of(self, job_id: str, timeout: float = 60) -> Result:
        await wait_for_async(lambda: self.accepted[job_id], timeout, f"a result of {job_id}")
        return self.accepted[job_id][0]

    def told(self, job_id: str, type_: EventType | None = None) -> list[Event]:
        """Events of a job, in the order in which they came."""
        return [
            event
            for event in self.events
            if event.job_id == job_id and (type_ is None or event.type is type_)
        ]

    def log_of(self, job_id: str) -> str:
        return "".join(event.text or "" for event in self.told(job_id, EventType.LOG))

    def asked(self, type_: type[Request]) -> list[Any]:
        return [request for request in self.requests if isinstance(request, type_)]

    # -- what workers hear

    def _request(self, message: Message) -> None:
        request = REQUEST.validate_json(message.body)
        self.requests.append(request)
        self.when_asked(request)
        self._reading.ack(message)
        if self.silent[request.op] > 0:
            self.silent[request.op] -= 1
            return
        answer = self._answer(request)
        # Who asked may be gone, and the answer with it.
        self._reading.send(
            message.reply_to or "", answer.body(), correlation_id=message.correlation_id
        )

    def _answer(self, request: Any) -> Note:
        match request:
            case Claim():
                return self._claim(request)
            case Heartbeat():
                held = [job.job_id for job in request.jobs]
                lost = [
                    job.job_id
                    for job in request.jobs
                    if job.job_id in self.lost
                    or (known := self.jobs.get(job.job_id)) is None
                    or (known.attempt, known.worker) != (job.attempt, request.worker)
                ]
                return HeartbeatAnswer(
                    lost=lost, cancel=[job_id for job_id in held if job_id in self.cancel]
                )
            case Owned():
                return OwnedAnswer(owned=[one for one in request.job_ids if one in self.owned])
            case _:
                return ProjectsAnswer(projects=self.projects)

    def _claim(self, claim: Claim) -> ClaimAnswer:
        for key in (claim.job_id, claim.producer_id):
            if key is not None and key in self.refuse:
                return ClaimAnswer(reason=self.refuse[key], job_id=claim.job_id)
        if claim.project not in self.projects:
            return ClaimAnswer(reason=Reason.UNKNOWN)
        record = self._record(claim)
        if record is None:
            return ClaimAnswer(reason=Reason.UNKNOWN)
        if record.result is not None:
            return ClaimAnswer(reason=Reason.FINISHED, job_id=record.job_id)
        stale = claim.job_id is not None and claim.attempt != record.attempt
        if stale or record.worker not in (None, claim.worker):
            return ClaimAnswer(reason=Reason.HELD, job_id=record.job_id)
        record.worker = claim.worker
        return ClaimAnswer(
            reason=Reason.GRANTED,
            job_id=record.job_id,
            attempt=record.attempt,
            batch_id=record.batch_id,
            submitted_at=record.submitted_at,
            started_at=datetime.now(UTC),
            credentials=self.credentials,
        )

    def _record(self, claim: Claim) -> Record | None:
        if claim.job_id is not None:
            return self.jobs.get(claim.job_id)
        for record in self.jobs.values():
            if claim.producer_id and (record.project, record.producer_id) == (
                claim.project,
                claim.producer_id,
            ):
                return record
        job_id = ids.new(ids.JOB)
        self.jobs[job_id] = Record(job_id, claim.project, claim.producer_id)
        return self.jobs[job_id]

    def _event(self, message: Message) -> None:
        event = Event.read(message.body)
        assert message.routing_key == names.event_key(event.project, event.kind, event.type)
        self.events.append(event)
        self._reading.ack(message)

    def _done(self, message: Message) -> None:
        result = Result.read(message.body)
        assert message.routing_key == names.done_key(result.project, result.kind, result.state)
        assert message.message_id == f"{result.job_id}:{result.attempt}"
        self.results.append(result)
        record = self.jobs.get(result.job_id)
        if record is not None and record.attempt == result.attempt and record.result is None:
            record.result = result
            self.accepted[result.job_id].append(result)
        self._reading.ack(message)

    def _buried(self, message: Message) -> None:
        self.dead.append(Dead(message.routing_key, message.body, message.headers))
        self._reading.ack(message)


def run_body(*command: str, **fields: Any) -> bytes:
    """A run as a lab script writes it."""
    value = {"repository": "https://git.example/qkd/bb84.git", "command": list(command), **fields}
    return orjson.dumps(value)
