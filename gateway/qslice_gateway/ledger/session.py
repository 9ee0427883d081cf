"""All that the ledger does while it has a connection to the broker."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from qslice import names
from qslice.backoff import Backoff

from qslice_gateway.ledger.batches import Batches
from qslice_gateway.ledger.broker import Delivery, Link
from qslice_gateway.ledger.dead_letters import Burying
from qslice_gateway.ledger.events import Recording
from qslice_gateway.ledger.inbox import Inbox
from qslice_gateway.ledger.listening import Listening
from qslice_gateway.ledger.outbox import Waking
from qslice_gateway.ledger.presence import Gauges, Presence
from qslice_gateway.ledger.publications import Publications
from qslice_gateway.ledger.purge import Purge
from qslice_gateway.ledger.queues import Queues
from qslice_gateway.ledger.relay import Relay
from qslice_gateway.ledger.results import Finishing
from qslice_gateway.ledger.rpc import STALE_S, Answering
from qslice_gateway.ledger.stuck import Stuck
from qslice_gateway.ledger.tasks import steadily
from qslice_gateway.ledger.watch import Watch
from qslice_gateway.store.pool import AsyncPool

_logger = structlog.get_logger(__name__)

#: Seconds from batch to batch: what nobody waits for is gathered a little under load.
_EVENTS_PACE_S = 0.02
_RESULTS_PACE_S = 0.01
#: Messages that the broker sends ahead; a result may have a megabyte.
_PREFETCH = 200
_REQUESTS_AT_ONCE = 200


@dataclass(frozen=True)
class Parts:
    """What a session needs and outlives."""

    pool: AsyncPool
    database_url: str
    name: str
    authority: str
    backoff: Backoff
    retention: timedelta
    #: As people reach the gateway: it stands in what is published.
    public_url: str = ""
    #: Whether there is a metadata registry to publish to.
    publish: bool = False


class Session:
    """One connection's worth of work. `run` ends when it is stopped, or raises `LinkLost`."""

    def __init__(self, parts: Parts, link: Link) -> None:
        self._parts = parts
        self._link = link
        self._inboxes: list[Inbox] = []
        self._relay: Relay | None = None
        self._busy: list[asyncio.Task[None]] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Do everything until `stop` is set; then finish what is under way."""
        parts, link = self._parts, self._link
        queues = Queues(link, parts.pool)
        # Workers and gateways come up at the same time: the system's part first.
        await queues.declare()
        listening = Listening(asyncio.get_running_loop().time)
        waking = Waking()
        publications = Publications(parts.pool, parts.database_url, parts.public_url, waking.wake)
        batches = Batches(parts.pool, waking.wake, publications.call, publish=parts.publish)
        background = [
            ("publications", publications.run),
            ("batches", batches.run),
            ("watch", Watch(parts.pool, listening, parts.backoff, waking.wake).run),
            ("purge", Purge(parts.pool, parts.retention).run),
            ("presence", Presence(parts.pool, parts.name).run),
            ("gauges", Gauges(parts.pool, names.KINDS).run),
            ("stuck", Stuck(parts.pool, Queues(link, parts.pool), waking.wake).run),
            ("declaring", Queues(link, parts.pool).declare_all),
        ]
        async with asyncio.TaskGroup() as group:
            idle = [
                group.create_task(steadily(what, run, listening.interrupted))
                for what, run in background
            ]
            idle.append(group.create_task(waking.listen(parts.database_url)))
            idle.append(group.create_task(self._end_with_the_link()))
            await self._consume(group, listening, waking, batches, publications)
            self._relay = Relay(
                parts.pool,
                link,
                await link.channel(confirms=True),
                waking,
                prepare=queues.prepare,
                restore=queues.restore,
            )
            self._busy.append(group.create_task(self._relay.run()))
            _logger.info("the ledger listens", name=parts.name)
            await stop.wait()
            self._stop()
            await asyncio.wait(self._busy)
            for task in idle:
                task.cancel()
        await Presence(parts.pool, parts.name).leave()

    async def _consume(
        self,
        group: asyncio.TaskGroup,
        listening: Listening,
        waking: Waking,
        batches: Batches,
        publications: Publications,
    ) -> None:
        parts = self._parts
        # Without a limit: what waits at the broker could not be seen, and would pass for silence.
        requests = await self._link.channel()
        answering = Answering(parts.pool, requests, parts.authority)
        inbox = Inbox(requests, limit=_REQUESTS_AT_ONCE)

        async def answer(batch: list[Delivery]) -> None:
            listening.waited(inbox.age(batch[0]))
            await answering.handle([one for one in batch if inbox.age(one) < STALE_S])

        self._inboxes.append(inbox)
        self._busy.append(
            group.create_task(inbox.work(answer, answering.give_up, listening.interrupted))
        )
        await requests.consume(names.QUEUE_RPC, inbox.put)
        recording = Recording(
            parts.pool,
            parts.backoff,
            waking.wake,
            publications.call if parts.publish else None,
        )
        finishing = Finishing(parts.pool, batches.call)
        burying = Burying(parts.pool, waking.wake)
        await self._take(
            group, names.QUEUE_EVENTS, recording.handle, recording.give_up, _EVENTS_PACE_S
        )
        await self._take(
            group, names.QUEUE_DONE, finishing.handle, finishing.give_up, _RESULTS_PACE_S
        )
        await self._take(group, names.QUEUE_DEAD, burying.handle, burying.give_up, _EVENTS_PACE_S)

    async def _take(
        self,
        group: asyncio.TaskGroup,
        queue: str,
        handle: Callable[[list[Delivery]], Awaitable[None]],
        give_up: Callable[[Delivery, Exception], Awaitable[None]],
        pace: float,
    ) -> None:
        channel = await self._link.channel(prefetch=_PREFETCH)
        inbox = Inbox(channel, limit=_PREFETCH, pace=pace)
        self._inboxes.append(inbox)
        self._busy.append(group.create_task(inbox.work(handle, give_up)))
        await channel.consume(queue, inbox.put)

    async def _end_with_the_link(self) -> None:
        await asyncio.shield(self._link.lost)

    def _stop(self) -> None:
        for inbox in self._inboxes:
            inbox.close()
        if self._relay is not None:
            self._relay.stop()
