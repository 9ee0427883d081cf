"""Listening: consumers on the queues, which bring no more than there are slots for."""

import asyncio
import itertools
from collections.abc import Callable, Collection

import structlog

from qslice.amqp import Channel, Cut, Message, Refused
from qslice.worker.delivery import Consumer, Delivery
from qslice.worker.link import Session

log = structlog.get_logger(__name__)

#: The most that one consumer gets ahead.
MAX_PREFETCH = 16
#: Seconds until another channel is opened where the broker closed one.
_REST_S = 0.1


class Ear:
    """Consumers on one channel. `follow` brings them in line with `listening`."""

    def __init__(
        self,
        session: Session,
        channel: Channel,
        free: Callable[[], int],
        heard: Callable[[Delivery], None],
        gone: Callable[[str], None],
    ) -> None:
        self._session = session
        self._free = free
        self._heard = heard
        self._gone = gone
        self._consumers: dict[str, Consumer] = {}
        self._tags = itertools.count(1)
        #: Sum of the consumers' credit.
        self._credit = 0
        #: Acknowledged, but told to the broker only when their consumers are cancelled.
        self._deferred: list[Delivery] = []
        self._one_at_a_time = asyncio.Lock()
        #: Whether consumers are wanted.
        self.listening = False
        #: Set when there is something to follow.
        self.changed = asyncio.Event()
        self._channel = self._watched(channel)

    @property
    def has_consumers(self) -> bool:
        return bool(self._consumers)

    def listen(self, listening: bool) -> None:
        """Want consumers, or none."""
        self.listening = listening
        self.changed.set()

    async def follow(self, queues: Collection[str]) -> None:
        """Consume these queues and no others, or none. Raises `Cut` where the session ends."""
        async with self._one_at_a_time:
            if not self._channel.is_open:
                await self._deaf()
            try:
                await self._cancel(keep=queues if self.listening else ())
                if self.listening:
                    await self._consume(queues)
            except Cut as cut:
                if self._session.is_lost:
                    raise
                log.warning("the broker closed a listening channel", error=str(cut))
                await asyncio.sleep(_REST_S)
                await self._deaf()

    def _settle(self, delivery: Delivery, done: bool) -> None:
        """Acknowledge, unless that would bring a message for which there is no slot."""
        consumer = delivery.consumer
        if consumer is not None and consumer.open:
            # One for each queue may come at any time; more than that needs slots.
            if done and self._credit >= max(self._free(), len(self._consumers)):
                self.listen(False)
            if done and not self.listening:
                self._deferred.append(delivery)
                return
            consumer.unacked -= 1
            self._credit += 1
        delivery.send(done)

    def _delivered(self, message: Message) -> None:
        consumer = self._consumers.get(message.consumer_tag or "")
        if consumer is None:
            log.error("a message of no known consumer", tag=message.consumer_tag)
            return
        consumer.unacked += 1
        self._credit -= 1
        self._heard(
            Delivery(self._session, self._channel, consumer.queue, message, consumer, self._settle)
        )

    async def _consume(self, queues: Collection[str]) -> None:
        """A consumer on every queue that has none."""
        consumed = {consumer.queue for consumer in self._consumers.values()}
        wanted = [queue for queue in queues if queue not in consumed]
        if not wanted:
            return
        prefetch = max(1, min(MAX_PREFETCH, self._free() // (2 * len(queues))))
        await self._channel.qos(prefetch)
        for queue in wanted:
            if not self.listening:
                return
            tag = f"{queue}-{next(self._tags)}"
            self._consumers[tag] = Consumer(queue, prefetch)
            self._credit += prefetch
            try:
                await self._channel.consume(queue, self._delivered, tag)
            except Refused as refused:
                if refused.not_found:
                    self._gone(queue)
                raise

    async def _cancel(self, keep: Collection[str]) -> None:
        """Cancel the consumers of all queues but some; then acknowledge what waited for that."""
        for tag, consumer in list(self._consumers.items()):
            if consumer.queue not in keep:
                await self._channel.cancel(tag)
                self._close(tag)
        deferred, self._deferred = self._deferred, []
        for delivery in deferred:
            self._settle(delivery, True)

    def _close(self, tag: str) -> None:
        consumer = self._consumers.pop(tag, None)
        if consumer is not None:
            consumer.open = False
            self._credit -= consumer.credit

    async def _deaf(self) -> None:
        """The channel is closed: the broker takes back what came by it and was not settled."""
        for tag in list(self._consumers):
            self._close(tag)
        self._deferred.clear()
        if not self._channel.is_open:
            self._channel = self._watched(await self._session.channel(vital=False))
        self.changed.set()

    def _watched(self, channel: Channel) -> Channel:
        channel.when_closed(self.changed.set)
        channel.when_cancelled(self._cancelled_by_broker)
        return channel

    def _cancelled_by_broker(self, tag: str) -> None:
        """The queue was deleted, or moved."""
        consumer = self._consumers.get(tag)
        if consumer is not None:
            self._close(tag)
            self._gone(consumer.queue)
