"""The feeder's part of one connection: channels to ask on, one to listen on, what is under way."""

import asyncio
import itertools
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import structlog

from qslice import names
from qslice.amqp import Channel, Cut, Message, Refused
from qslice.backoff import Backoff
from qslice.fairness import Rotation
from qslice.worker.link import Session

log = structlog.get_logger(__name__)

#: Queues asked at the same time: an answer takes the broker a disk write, so some overlap.
ASKS = 8
#: The most that one consumer gets ahead.
MAX_PREFETCH = 16
#: Listen to busy queues where each could have this many of the free slots; else take turns.
PLENTY = 4
#: Seconds that a message which came when no slot was left is kept for the next free one. Given
#: back at once it would count against the queue's delivery limit time after time; kept for long
#: it would be kept from workers that are free.
HOLD_S = 5.0
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
    def hand_out(self, delivery: "Delivery") -> None: ...


@dataclass
class Consumer:
    """Messages that come by themselves."""

    queue: str
    prefetch: int
    unacked: int = 0
    open: bool = True

    @property
    def credit(self) -> int:
        """Messages that may come by it without anything being acknowledged."""
        return self.prefetch - self.unacked


class Delivery:
    """A message of a project's queue, to be acknowledged or given back once."""

    def __init__(
        self,
        intake: "Intake",
        channel: Channel,
        queue: str,
        message: Message,
        consumer: Consumer | None = None,
    ) -> None:
        self._intake = intake
        self._channel = channel
        self._settled = False
        self.consumer = consumer
        self.queue = queue
        self.project = names.project_of(queue)
        self.session = intake.session
        self.message = message

    def ack(self) -> None:
        """Done with it. After a cut nothing happens: the broker delivers it again."""
        if not self._settled:
            self._settled = True
            self._intake.ack(self)

    def give_back(self) -> None:
        """Somebody else may have it; the broker counts that against the delivery limit."""
        if not self._settled:
            self._settled = True
            self._intake.give_back(self)

    def send_ack(self) -> None:
        try:
            self._channel.ack(self.message)
        except Cut:
            log.debug("not acknowledged, it will come again", queue=self.queue)

    def send_back(self) -> None:
        try:
            self._channel.give_back(self.message)
        except Cut:
            log.debug("the broker takes it back by itself", queue=self.queue)


class Intake:
    """Takes messages over one session while slots of the pool are free."""

    def __init__(self, pool: Pool, session: Session, askers: list[Channel], ear: Channel) -> None:
        self.session = session
        self._pool = pool
        self._askers = askers
        self._asks: set[asyncio.Task[None]] = set()
        self._listening = False
        self._consumers: dict[str, Consumer] = {}
        self._tags = itertools.count(1)
        #: Sum of the consumers' credit.
        self._credit = 0
        self._held: deque[Delivery] = deque()
        #: Acknowledgements that wait until their consumers are cancelled.
        self._deferred: list[Delivery] = []
        self._mode = asyncio.Lock()
        self._changed = asyncio.Event()
        self._look = asyncio.Event()
        self._ear = self._watched(ear)

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
                await self.session.lost()
                for task in tasks:
                    task.cancel()
        except* Cut:
            self.session.fail()
        finally:
            # They end with their channels, and give their slots back.
            if self._asks:
                await asyncio.wait(self._asks, timeout=HOLD_S)

    def look(self) -> None:
        """The pool wants other queues."""
        self._look.set()
        self._changed.set()

    def pump(self) -> None:
        """Use the slots that are free, in the mode that fits."""
        pool = self._pool
        if pool.stopping or self.session.is_lost:
            return
        while self._held and pool.free:
            pool.free -= 1
            pool.hand_out(self._held.popleft())
        if self._listening:
            if not pool.free:
                self._listen(False)
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
            self._listen(True)

    def ack(self, delivery: Delivery) -> None:
        """Acknowledge, unless that would bring a message for which there is no slot."""
        consumer = delivery.consumer
        if consumer is not None and consumer.open:
            # One for each queue may come at any time; more than that needs slots.
            if self._credit >= max(self._pool.free, len(self._consumers)):
                self._listen(False)
            if not self._listening:
                self._deferred.append(delivery)
                return
            consumer.unacked -= 1
            self._credit += 1
        delivery.send_ack()

    def give_back(self, delivery: Delivery) -> None:
        consumer = delivery.consumer
        if consumer is not None and consumer.open:
            consumer.unacked -= 1
            self._credit += 1
        delivery.send_back()

    async def stop(self) -> None:
        """Take nothing more; give back what was not handed out."""
        self._listening = False
        try:
            async with self._mode:
                await self._cancel_consumers()
        except Cut:
            self.session.fail()
        if self._asks:
            await asyncio.wait(self._asks, timeout=HOLD_S)
        while self._held:
            self._held.popleft().give_back()

    def _should_listen(self) -> bool:
        rotation, free = self._pool.rotation, self._pool.free
        if not len(rotation) or not free or self._consumers:
            return False
        return rotation.quiet or free >= max(PLENTY * len(rotation), self._pool.slots // 2)

    def _listen(self, listening: bool) -> None:
        self._listening = listening
        self._changed.set()

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
            Delivery(self, channel, queue, message).give_back()
        else:
            pool.hand_out(Delivery(self, channel, queue, message))
        self._askers.append(await self._replaced(channel))
        self.pump()

    async def _replaced(self, channel: Channel) -> Channel:
        """The channel, or one in its place where the broker closed it."""
        if not channel.is_open and not self.session.is_lost:
            try:
                return await self.session.channel(vital=False)
            except Cut:
                self.session.fail()
        return channel

    # -- listening

    def _delivered(self, message: Message) -> None:
        consumer = self._consumers.get(message.consumer_tag or "")
        if consumer is None:
            log.error("a message of no known consumer", tag=message.consumer_tag)
            return
        consumer.unacked += 1
        self._credit -= 1
        self._pool.rotation.served(consumer.queue)
        delivery = Delivery(self, self._ear, consumer.queue, message, consumer)
        if self._pool.stopping:
            delivery.give_back()
        elif self._pool.free:
            self._pool.free -= 1
            self._pool.hand_out(delivery)
            self.pump()
        else:
            self._held.append(delivery)
            asyncio.get_running_loop().call_later(HOLD_S, self._held_long_enough, delivery)

    def _held_long_enough(self, delivery: Delivery) -> None:
        if delivery in self._held:
            self._held.remove(delivery)
            delivery.give_back()

    async def _follow(self) -> None:
        """Bring the consumers in line with the mode, whenever it changes."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            async with self._mode:
                if not self._ear.is_open:
                    await self._deaf()
                if self._listening:
                    await self._cancel_consumers(gone=True)
                    await self._consume()
                else:
                    await self._cancel_consumers()
            self.pump()

    async def _consume(self) -> None:
        """A consumer on every queue that has none."""
        consumed = {consumer.queue for consumer in self._consumers.values()}
        queues = [queue for queue in self._pool.rotation if queue not in consumed]
        share = self._pool.free // (2 * max(1, len(self._pool.rotation)))
        prefetch = max(1, min(MAX_PREFETCH, share))
        try:
            if queues:
                await self._ear.qos(prefetch)
            for queue in queues:
                if not self._listening:
                    return
                tag = f"{queue}-{next(self._tags)}"
                self._consumers[tag] = Consumer(queue, prefetch)
                self._credit += prefetch
                await self._ear.consume(queue, self._delivered, tag)
        except Cut as cut:
            if isinstance(cut, Refused) and cut.not_found:
                self._gone(queue)
            await self._deaf()

    async def _cancel_consumers(self, gone: bool = False) -> None:
        """All, or those of queues that are not to be served any more."""
        for tag, consumer in list(self._consumers.items()):
            if gone and consumer.queue in self._pool.rotation:
                continue
            try:
                await self._ear.cancel(tag)
            except Cut:
                await self._deaf()
                return
            self._close(tag)
        deferred, self._deferred = self._deferred, []
        for delivery in deferred:
            self.ack(delivery)

    def _close(self, tag: str) -> None:
        consumer = self._consumers.pop(tag, None)
        if consumer is not None:
            consumer.open = False
            self._credit -= consumer.credit

    async def _deaf(self) -> None:
        """The listening channel is closed: the broker takes back what came by it."""
        for tag in list(self._consumers):
            self._close(tag)
        self._held.clear()
        self._deferred.clear()
        if not self._ear.is_open:
            self._ear = self._watched(await self._replaced(self._ear))
        self._changed.set()

    def _watched(self, ear: Channel) -> Channel:
        ear.when_closed(self._changed.set)
        ear.when_cancelled(self._cancelled_by_broker)
        return ear

    def _cancelled_by_broker(self, tag: str) -> None:
        """The queue was deleted, or moved."""
        consumer = self._consumers.get(tag)
        if consumer is not None:
            self._close(tag)
            self._gone(consumer.queue)

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
            channel = channel or await self.session.channel(vital=False)
            try:
                await channel.declare_queue(queue, passive=True)
            except Refused as refused:
                if not refused.not_found:
                    raise
                channel = None
                continue
            if queue in self._pool.missing:
                self._pool.rotation.add(queue)
                self._changed.set()
                self.pump()
        if channel is not None:
            await channel.close()
