"""A running ledger, and a worker's and a lab's side of the wire done by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

import aio_pika
import orjson
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractRobustConnection
from qslice import names
from qslice.backoff import Backoff
from qslice.messages.base import Note
from qslice.messages.ledger import (
    Claim,
    ClaimAnswer,
    Event,
    EventType,
    Heartbeat,
    HeartbeatAnswer,
    Held,
    Owned,
    OwnedAnswer,
    Projects,
    ProjectsAnswer,
)
from qslice.messages.result import Result
from qslice.states import State
from qslice_gateway.ledger.service import run
from qslice_gateway.ledger.settings import LedgerSettings

A = TypeVar("A", bound=Note)

#: Three failures, tried again at once.
QUICK = Backoff(base=0.0, limit=3)
_REPLY_TO = "amq.rabbitmq.reply-to"


@asynccontextmanager
async def running_ledger(
    broker_url: str, database_url: str, backoff: Backoff = QUICK, **settings: Any
) -> AsyncIterator[asyncio.Task[None]]:
    """A ledger in this event loop, stopped as by SIGTERM at the end; its failure is the test's."""
    stop = asyncio.Event()
    given = LedgerSettings.model_validate(
        {"amqp_url": broker_url, "database_url": database_url, **settings}
    )
    task = asyncio.create_task(run(given, stop, backoff=backoff))
    try:
        yield task
    finally:
        stop.set()
        async with asyncio.timeout(60):
            await task


@dataclass
class HandWorker:
    """Says what a worker says, one thing at a time."""

    name: str
    connection: AbstractRobustConnection
    channel: AbstractChannel
    lease_s: float = 60.0
    _answers: dict[str, asyncio.Future[bytes]] = field(default_factory=dict)
    _asked: int = 0
    #: To read queues that may not be there.
    _reader: AbstractChannel | None = None

    @classmethod
    async def connect(cls, url: str, name: str = "w1") -> Self:
        connection = await aio_pika.connect_robust(url)
        worker = cls(name, connection, await connection.channel(publisher_confirms=True))
        replies = await worker.channel.get_queue(_REPLY_TO, ensure=False)
        await replies.consume(worker._answered, no_ack=True)
        return worker

    async def close(self) -> None:
        await self.connection.close()

    async def _answered(self, message: AbstractIncomingMessage) -> None:
        waiting = self._answers.get(message.correlation_id or "")
        if waiting is not None and not waiting.done():
            waiting.set_result(message.body)

    async def send(self, body: bytes, correlation_id: str = "0") -> None:
        """A request as it stands, whose answer nobody waits for."""
        await self.channel.default_exchange.publish(
            aio_pika.Message(body, reply_to=_REPLY_TO, correlation_id=correlation_id),
            names.QUEUE_RPC,
        )

    async def ask(self, request: Note, answer: type[A], again: bool = False) -> A:
        """Ask, every two seconds until there is an answer; `again`: under the number before."""
        self._asked += not again
        number = str(self._asked)
        async with asyncio.timeout(90):
            while True:
                waiting = self._answers[number] = asyncio.get_running_loop().create_future()
                await self.send(request.body(), number)
                done, _ = await asyncio.wait((waiting,), timeout=2)
                if done:
                    return answer.read(waiting.result())

    async def claim(
        self,
        job_id: str | None = None,
        attempt: int = 1,
        *,
        again: bool = False,
        **fields: Any,
    ) -> ClaimAnswer:
        request = Claim.of(
            {
                "job_id": job_id,
                "attempt": attempt if job_id else 0,
                "project": "lab",
                "kind": names.RUN,
                "worker": self.name,
                "lease_s": self.lease_s,
                **fields,
            }
        )
        return await self.ask(request, ClaimAnswer, again)

    async def beat(self, *held: tuple[str, int], leaving: bool = False) -> HeartbeatAnswer:
        request = Heartbeat(
            worker=self.name,
            kind=names.RUN,
            slots=4,
            lease_s=self.lease_s,
            jobs=[Held(job_id=job_id, attempt=attempt) for job_id, attempt in held],
            leaving=leaving,
        )
        return await self.ask(request, HeartbeatAnswer)

    async def projects(self) -> list[str]:
        return (await self.ask(Projects(), ProjectsAnswer)).projects

    async def owned(self, *job_ids: str) -> list[str]:
        return (await self.ask(Owned(job_ids=list(job_ids)), OwnedAnswer)).owned

    async def publish(self, exchange: str, key: str, body: bytes, **fields: Any) -> None:
        """A message as it stands, confirmed."""
        target = await self.channel.get_exchange(exchange, ensure=False)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **fields)
        await target.publish(message, key)

    async def tell(self, type_: EventType, job_id: str, attempt: int = 1, **fields: Any) -> None:
        """An event of a job."""
        event = Event.of(
            {
                "type": type_,
                "job_id": job_id,
                "project": "lab",
                "kind": names.RUN,
                "attempt": attempt,
                "worker": self.name,
                "at": datetime.now(UTC),
                **fields,
            }
        )
        key = names.event_key("lab", names.RUN, type_)
        await self.publish(names.EXCHANGE_EVENTS, key, event.body())

    async def post(
        self, job_id: str, attempt: int = 1, state: State = State.SUCCEEDED, **fields: Any
    ) -> None:
        """A result of a job."""
        result = Result.of(
            {
                "job_id": job_id,
                "project": "lab",
                "kind": names.RUN,
                "state": state,
                "attempt": attempt,
                "worker": self.name,
                "finished_at": datetime.now(UTC),
                **fields,
            }
        )
        key = names.done_key("lab", names.RUN, state)
        await self.publish(names.EXCHANGE_DONE, key, result.body())

    async def take(self, queue: str = "lab.ToDo") -> AbstractIncomingMessage | None:
        """The next message of a queue, acknowledged."""
        if self._reader is None or self._reader.is_closed:
            self._reader = await self.connection.channel()
        found = await self._reader.get_queue(queue, ensure=False)
        message = await found.get(fail=False)
        if message is not None:
            await message.ack()
        return message

    async def take_one(self, queue: str = "lab.ToDo") -> AbstractIncomingMessage:
        """The same, waited for."""
        async with asyncio.timeout(90):
            while True:
                try:
                    if (message := await self.take(queue)) is not None:
                        return message
                except aio_pika.exceptions.ChannelNotFoundEntity:
                    # Not yet there; the channel ends with the question.
                    self._reader = None
                await asyncio.sleep(0.05)

    async def done(self, count: int = 1) -> list[Result]:
        """So many results from Done."""
        return [Result.read((await self.take_one("lab.Done")).body) for _ in range(count)]

    async def nothing_on(self, queue: str) -> bool:
        """Whether a queue is empty now."""
        message = await self.take(queue)
        assert message is None, orjson.loads(message.body)
        return True


def job_of(message: AbstractIncomingMessage) -> tuple[str, int]:
    """The job and attempt that a ToDo message is for."""
    headers: dict[str, Any] = dict(message.headers)
    return str(headers[names.HEADER_JOB]), int(headers[names.HEADER_ATTEMPT])
