"""Requests of a worker to the ledger, asked again until there is an answer.

Answers come by RabbitMQ's direct reply-to: no queue of ours, and nothing left behind. A request is
asked again with the same correlation id, so a late answer to an earlier asking counts as well:
the ledger gives the same answer to the same words.
"""

import asyncio
import itertools
from typing import TypeVar

import structlog
from prometheus_client import Counter, Histogram

from qslice import names
from qslice.amqp import Channel, Cut, Message
from qslice.messages.base import Note, Rejected
from qslice.messages.ledger import (
    Claim,
    ClaimAnswer,
    Heartbeat,
    HeartbeatAnswer,
    Owned,
    OwnedAnswer,
    Projects,
    ProjectsAnswer,
)
from qslice.worker.link import Link, Session

log = structlog.get_logger(__name__)

REPLY_TO = "amq.rabbitmq.reply-to"
#: Seconds until a request is asked again: longer each time, since a ledger that is slow has the
#: earlier asking still before it.
PATIENCE_S = (3.0, 6.0, 10.0)
#: Job ids in one question about what is owned.
OWNED_AT_ONCE = 500

ANSWER_S = Histogram(
    "qslice_worker_ledger_answer_seconds",
    "Time from a request to its answer",
    ["op"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1, 3, 10, 30),
)
ASKED_AGAIN = Counter("qslice_worker_ledger_asked_again", "Requests without an answer in time")

A = TypeVar("A", bound=Note)


class Ledger:
    """The ledger, as a worker speaks to it."""

    def __init__(self, link: Link, patience_s: tuple[float, ...] = PATIENCE_S) -> None:
        self._link = link
        self._patience_s = patience_s
        self._ids = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._channel: Channel | None = None
        link.attach(self._attach)

    async def claim(self, request: Claim, session: Session) -> ClaimAnswer:
        """Raises `Cut` at the end of the session that the message came by: it is delivered anew."""
        return await self._ask("claim", request, ClaimAnswer, session)

    async def heartbeat(self, request: Heartbeat) -> HeartbeatAnswer:
        return await self._ask("heartbeat", request, HeartbeatAnswer)

    async def projects(self) -> list[str]:
        return (await self._ask("projects", Projects(), ProjectsAnswer)).projects

    async def owned(self, job_ids: list[str]) -> set[str]:
        """Of these, the jobs that are still somebody's."""
        found: set[str] = set()
        for start in range(0, len(job_ids), OWNED_AT_ONCE):
            request = Owned(job_ids=job_ids[start : start + OWNED_AT_ONCE])
            found.update((await self._ask("owned", request, OwnedAnswer)).owned)
        return found

    async def _attach(self, session: Session) -> None:
        channel = await session.channel()
        await channel.consume(REPLY_TO, self._answered, no_ack=True)
        self._channel = channel
        session.when_lost(self._lost)

    def _lost(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Cut("the connection was lost"))
                waiting.exception()  # it may not be awaited yet, and that is no error

    def _answered(self, message: Message) -> None:
        waiting = self._waiting.get(message.correlation_id or "")
        if waiting is not None and not waiting.done():
            waiting.set_result(message.body)

    async def _ask(self, op: str, request: Note, answer: type[A], only: Session | None = None) -> A:
        """Ask until there is an answer; on each new session again, or on one `only`."""
        loop = asyncio.get_running_loop()
        body = request.body()
        key = str(next(self._ids))
        begun = loop.time()
        try:
            for asked in itertools.count():
                session = only or await self._link.session()
                patience = self._patience_s[min(asked, len(self._patience_s) - 1)]
                future: asyncio.Future[bytes] = loop.create_future()
                self._waiting[key] = future
                try:
                    self._send(session, body, key, patience)
                    raw = await self._wait(future, patience)
                    if raw is not None:
                        ANSWER_S.labels(op).observe(loop.time() - begun)
                        return answer.read(raw)
                    log.warning("the ledger does not answer; asking again", op=op, asked=asked + 1)
                except Rejected as wrong:
                    log.error("the ledger's answer cannot be read", op=op, error=str(wrong))
                    await asyncio.sleep(patience)
                except Cut:
                    if only is not None:
                        raise
                    await asyncio.sleep(0.05)
                ASKED_AGAIN.inc()
            raise AssertionError("unreachable")
        finally:
            self._waiting.pop(key, None)

    def _send(self, session: Session, body: bytes, key: str, patience: float) -> None:
        if session.is_lost or self._channel is None:
            raise Cut("the connection was lost")
        # In the queue no longer than until it is asked anew: let it not stand there twice.
        self._channel.send(
            names.QUEUE_RPC, body, correlation_id=key, reply_to=REPLY_TO, expires_s=patience
        )

    async def _wait(self, future: asyncio.Future[bytes], patience: float) -> bytes | None:
        """The answer's body, or None when patience is over."""
        try:
            async with asyncio.timeout(patience):
                return await future
        except TimeoutError:
            return None
