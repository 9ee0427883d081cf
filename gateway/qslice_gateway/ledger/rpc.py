"""Requests of workers: all that wait are answered together, each kind by one statement or two."""

import hashlib
import time
from collections import defaultdict
from typing import Any

import structlog
from pydantic import ValidationError
from qslice.messages.base import Note, rejection
from qslice.messages.ledger import (
    REQUEST,
    Claim,
    Heartbeat,
    Owned,
    OwnedAnswer,
    Projects,
    ProjectsAnswer,
)

from qslice_gateway.ledger import claims, heartbeats, metrics
from qslice_gateway.ledger.broker import Channel, Delivery
from qslice_gateway.ledger.reading import read_object
from qslice_gateway.store.pool import AsyncConnection, AsyncPool

_logger = structlog.get_logger(__name__)

#: Seconds after which a request is not answered any more: its worker has long asked again, and
#: may be gone. It comes to that when the database was away.
STALE_S = 10.0

_PROJECTS = "SELECT name FROM projects WHERE deleted_at IS NULL ORDER BY name"
_OWNED = "SELECT id FROM jobs WHERE id = ANY(%s) AND state = 'running'"


class Answering:
    """Answers batches of requests."""

    def __init__(self, pool: AsyncPool, channel: Channel, authority: str) -> None:
        self._pool = pool
        self._channel = channel
        self._authority = authority

    async def handle(self, batch: list[Delivery]) -> None:
        """Answer a batch. A claim that is repeated after a crash gets the same answer."""
        by_op: defaultdict[str, list[tuple[Delivery, Any]]] = defaultdict(list)
        for delivery in batch:
            if delivery.properties.reply_to:
                request = read_request(delivery.body)
                by_op[request.op].append((delivery, request))
        begun = time.perf_counter()
        async with self._pool.connection() as conn:
            for op, asked in by_op.items():
                await self._answer(conn, op, asked)
        metrics.ANSWER_S.observe(time.perf_counter() - begun)

    async def _answer(
        self, conn: AsyncConnection, op: str, asked: list[tuple[Delivery, Any]]
    ) -> None:
        answers: list[Any]
        match op:
            case "claim":
                answers = await claims.answer(
                    conn,
                    [claims.Asked(request, message_key(delivery)) for delivery, request in asked],
                    self._authority,
                )
                for answer in answers:
                    metrics.CLAIMS.labels(answer.reason if answer else "unsettled").inc()
            case "heartbeat":
                answers = list(await heartbeats.answer(conn, [request for _, request in asked]))
            case "projects":
                rows = await (await conn.execute(_PROJECTS)).fetchall()
                answers = [ProjectsAnswer(projects=[row["name"] for row in rows])] * len(asked)
            case _:
                wanted = [job_id for _, request in asked for job_id in request.job_ids]
                rows = await (await conn.execute(_OWNED, [wanted])).fetchall()
                running = {row["id"] for row in rows}
                answers = [
                    OwnedAnswer(owned=[job_id for job_id in request.job_ids if job_id in running])
                    for _, request in asked
                ]
        for (delivery, _), answer in zip(asked, answers, strict=True):
            if answer is not None:
                self.reply(delivery, answer)

    def reply(self, delivery: Delivery, answer: Note) -> None:
        self._channel.send(
            delivery.properties.reply_to, answer.body(), delivery.properties.correlation_id
        )

    async def give_up(self, delivery: Delivery, wrong: Exception) -> None:
        """Who asked gets no answer; whatever it was, it is not the others' concern."""
        metrics.POISON.labels("rpc").inc()
        _logger.error("a request cannot be answered", error=str(wrong), body=delivery.body[:1000])


def read_request(body: bytes) -> Claim | Heartbeat | Owned | Projects:
    """A request; raises `Rejected` or `Unreadable`."""
    try:
        return REQUEST.validate_python(read_object(body))
    except ValidationError as wrong:
        raise rejection(wrong) from None


def message_key(delivery: Delivery) -> str:
    """The same for the same question asked again: where its answer goes, and under which number.

    A worker's reply address is one connection's own.
    """
    properties = delivery.properties
    words = f"{properties.reply_to}\n{properties.correlation_id}"
    return hashlib.sha256(words.encode()).hexdigest()[:32]
