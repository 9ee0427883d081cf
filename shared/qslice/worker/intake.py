"""The feeder's part of one connection: asks, listens, and looks for queues that are wanted."""

import asyncio
import time
from collections import deque
from typing import Protocol

import structlog

from qslice.amqp import Channel, Cut, Refused
from qslice.backoff import Backoff
from qslice.fairness import Rotation
from qslice.worker.delivery import Delivery
from qslice.worker.ear import Ear
from qslice.worker.link import Session

log = structlog.get_logger(__name__)

#: Queues asked at the same time: an answer takes the broker a disk write, so some overlap.
ASKS = 8
#: Listen to busy queues where each could have this many of the free slots; else take turns.
PLENTY = 4
#: Seconds that a message which came when no slot was left is kept for the next free one. Given
#: back at once it would count against the queue's delivery limit time after time; kept for long
#: it would be kept from workers that are free.
HOLD_S = 5.0
#: Seconds until another channel is opened where the broker closed one.
_REST_S = 0.1
#: Between two looks for a queue that is not there (yet).
_LOOK = Backoff(base=0.1, cap=10.0)


class Pool(Protocol):
    """What an intake needs of its feeder: slots, queues, and somebody who takes the messages."""

    rotation: Rotation
    stopping: bool
    slots: int

    @property
    def free(self) -> int: ...
    @free.setter
    def free(self, slots: int) -> None: ...
    @property
    def missing(self) -> list[str]: ...
    def hand_out(self, delivery: Delivery) -> None: ...


class Intake:
    """Takes messages over one session while slots of the pool are free."""

    def __init__(self, pool: Pool, session: Session, askers: list[Channel], ear: Channel) -> None:
        self._pool = pool
        self._session = session
        self._askers = askers
        self._asks: set[asyncio.Task[None]] = set()
        self._ear = Ear(session, ear, lambda: pool.free, self._heard, self._gone)
        self._held: deque[Delivery] = deque()
        self._look = asyncio.Event()

    @classmethod
    async def open(cls, pool: Pool, session: Session) -> "Intake":
        """Raises `Cut`."""
        askers = [await session.channel(vital=False) for _ in range(ASKS)]
        return cls(pool, session, askers, await session.channel(vital=False))

    async def run(self) -> None:
        """Until the session is lost; all that it took slots for is then handed out or free."""
        self.look()
        self.pump()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._follow()), group.create_task(self._find())]
                await self._session.lost()
                for task in tasks:
                    task.cancel()
        except* Cut:
            self._session.fail()
        finally:
            await self._wait_for_asks()

    def look(self) -> None:
        """The pool wants other queues."""
        self._look.set()
        self._ear.changed.set()

    def pump(self) -> None:
        """Use the slots that are free, in the mode that fits."""
        pool = self._pool
        if pool.stopping or self._session.is_lost:
            return
        while self._held and pool.free:
            pool.free -= 1
            pool.hand_out(self._held.popleft())
        if self._ear.listening:
            if not pool.free:
                self._ear.listen(False)
            return
        while pool.free and self._askers and not self._should_listen():
            queue = pool.rotation.next(time.monotonic())
            if queue is None:
                break
            pool.free -= 1
            ask = asyncio.create_task(self._ask(queue, self._askers.pop()))
            self._asks.add(ask)
            ask.add_done_callback(self._asks.discard)
        if self._should_listen():
            self._ear.listen(True)

    async def stop(self) -> None:
        """Take nothing more; give back what was not handed out."""
        self._ear.listen(False)
        try:
            await self._ear.follow(())
        except Cut:
            self._session.fail()
        await self._wait_for_asks()
        while self._held:
            self._held.popleft().give_back()

    def _should_listen(self) -> bool:
        rotation, free = self._pool.rotation, self._pool.free
        if not len(rotation) or not free or self._ear.has_consumers:
            return False
        return rotation.quiet or free >= max(PLENTY * len(rotation), self._pool.slots // 2)

    # -- asking

    async def _ask(self, queue: str, channel: Channel) -> None:
        pool = self._pool
        message = None
        try:
            message = await channel.get(queue)
        except Cut as cut:
            pool.rotation.unanswered(queue)
            if isinstance(cut, Refused) and cut.not_found:
                self._gone(queue)
        else:
            if message is None:
                pool.rotation.empty(queue, time.monotonic())
            else:
                pool.rotation.found(queue)
        if message is None:
            pool.free += 1
        elif pool.stopping:
            pool.free += 1
            Delivery(self._session, channel, queue, message).give_back()
        else:
            pool.hand_out(Delivery(self._session, channel, queue, message))
        self._askers.append(await self._replaced(channel))
        self.pump()

    async def _replaced(self, channel: Channel) -> Channel:
        """The channel, or one in its place where the broker closed it."""
        if not channel.is_open and not self._session.is_lost:
            await asyncio.sleep(_REST_S)
            try:
                return await self._session.channel(vital=False)
            except Cut:
                self._session.fail()
        return channel

    async def _wait_for_asks(self) -> None:
        """They end with their channels at the latest, and give their slots back."""
        if self._asks:
            await asyncio.wait(self._asks, timeout=HOLD_S)

    # -- listening

    def _heard(self, delivery: Delivery) -> None:
        pool = self._pool
        pool.rotation.served(delivery.queue)
        if pool.stopping:
            delivery.give_back()
        elif pool.free:
            pool.free -= 1
            pool.hand_out(delivery)
            self.pump()
        else:
            self._held.append(delivery)
            asyncio.get_running_loop().call_later(HOLD_S, self._held_long_enough, delivery)

    def _held_long_enough(self, delivery: Delivery) -> None:
        if delivery in self._held:
            self._held.remove(delivery)
            delivery.give_back()

    async def _follow(self) -> None:
        """Let the ear follow what changed."""
        while True:
            await self._ear.changed.wait()
            self._ear.changed.clear()
            await self._ear.follow(list(self._pool.rotation))
            self.pump()

    # -- queues that come and go

    def _gone(self, queue: str) -> None:
        log.warning("a queue is gone", queue=queue)
        self._pool.rotation.discard(queue)
        self._look.set()

    async def _find(self) -> None:
        """Take up the queues that the pool wants, as soon as they are there."""
        failures = 0
        while True:
            self._look.clear()
            await self._take_up(self._pool.missing)
            failures = failures + 1 if self._pool.missing else 0
            try:
                async with asyncio.timeout(_LOOK.delay(failures) if failures else None):
                    await self._look.wait()
                    failures = 0
            except TimeoutError:
                continue

    async def _take_up(self, queues: list[str]) -> None:
        channel: Channel | None = None
        for queue in queues:
            channel = channel or await self._session.channel(vital=False)
            try:
                await channel.declare_queue(queue, passive=True)
            except Refused as refused:
                if not refused.not_found:
                    raise
                channel = None
                continue
            if queue in self._pool.missing:
                self._pool.rotation.add(queue)
                self._ear.changed.set()
                self.pump()
        if channel is not None:
            await channel.close()
