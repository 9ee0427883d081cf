"""From single deliveries to batches, and what happens to a batch when something goes wrong."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import psycopg
import structlog
from psycopg_pool import PoolTimeout
from qslice.backoff import Backoff

from qslice_gateway.ledger.broker import Channel, Delivery, LinkLost

_logger = structlog.get_logger(__name__)

_RETRY = Backoff(base=0.2, cap=5.0)


class Inbox:
    """The deliveries of one queue, taken in batches: all that wait, within limits.

    pace: seconds from the begin of a batch to that of the next at the least; under load it makes
    the batches larger, while a message that comes alone is taken at once.
    """

    def __init__(
        self, channel: Channel, *, limit: int, max_bytes: int = 8 << 20, pace: float = 0.0
    ) -> None:
        self._channel = channel
        self._limit = limit
        self._max_bytes = max_bytes
        self._pace = pace
        self._clock = asyncio.get_running_loop().time
        self._waiting: deque[Delivery] = deque()
        self._changed = asyncio.Event()
        self._begun = 0.0
        self._closed = False

    def put(self, delivery: Delivery) -> None:
        self._waiting.append(delivery)
        self._changed.set()

    def close(self) -> None:
        """Give out nothing more; what waits goes back to its queue with the connection."""
        self._closed = True
        self._changed.set()

    def age(self, delivery: Delivery) -> float:
        """Seconds since it came."""
        return self._clock() - delivery.arrived

    async def take(self) -> list[Delivery]:
        """The next batch; an empty one where the inbox is closed."""
        while not self._waiting and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        early = self._begun + self._pace - self._clock()
        if early > 0 and len(self._waiting) < self._limit and not self._closed:
            await asyncio.sleep(early)
        if self._closed:
            return []
        self._begun = self._clock()
        batch: list[Delivery] = []
        size = 0
        while self._waiting and len(batch) < self._limit and size < self._max_bytes:
            batch.append(self._waiting.popleft())
            size += len(batch[-1].body)
        return batch

    async def work(
        self,
        handle: Callable[[list[Delivery]], Awaitable[None]],
        give_up: Callable[[Delivery, Exception], Awaitable[None]],
        outage: Callable[[], None] = lambda: None,
    ) -> None:
        """Handle batches until the inbox is closed, and acknowledge each when it is done."""
        while batch := await self.take():
            await settle(batch, handle, give_up, outage)
            self._channel.acknowledge(batch[-1].tag)


async def settle(
    batch: list[Delivery],
    handle: Callable[[list[Delivery]], Awaitable[None]],
    give_up: Callable[[Delivery, Exception], Awaitable[None]],
    outage: Callable[[], None] = lambda: None,
) -> None:
    """Handle a batch, whatever it takes.

    While the database is away it is tried again. Where something in it cannot be handled it is
    halved, until what is wrong stands alone and is given up, so that the others get through.
    `handle` must be all or nothing, or harmless to repeat.
    """
    failures = 0
    while True:
        try:
            return await handle(batch)
        except LinkLost:
            raise
        except Exception as wrong:
            if is_outage(wrong):
                failures += 1
                outage()
                if failures in (1, 10):
                    _logger.warning("the database does not answer", error=str(wrong).strip())
                await asyncio.sleep(_RETRY.delay(failures))
                continue
            if len(batch) == 1:
                return await give_up(batch[0], wrong)
        half = len(batch) // 2
        await settle(batch[:half], handle, give_up, outage)
        batch = batch[half:]
        failures = 0


def is_outage(error: BaseException) -> bool:
    """Whether it is the database that fails, and not what it was given."""
    if isinstance(error, PoolTimeout):
        return True
    # Class 54, program limits, is an `OperationalError` to psycopg: too deep, too long.
    return isinstance(error, psycopg.OperationalError) and not (error.sqlstate or "").startswith(
        "54"
    )
