"""A channel: declare, take messages, publish."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import pika
from pika.exceptions import ChannelClosedByBroker

from qslice.amqp.errors import Cut, Nacked, Refused, text_of
from qslice.amqp.message import Message, message_of

_PERSISTENT = 2


class Channel:
    """One channel. Calls raise `Refused` where the broker closes it over them, else `Cut`."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._calls: set[asyncio.Future[Any]] = set()
        self._published = 0
        self._unconfirmed: OrderedDict[int, asyncio.Future[None]] = OrderedDict()
        self._got: asyncio.Future[Message | None] | None = None
        #: Tags of messages that are not settled, in order; True: to be acknowledged this turn.
        self._unsettled: dict[int, bool] = {}
        self._acks = 0
        self._ended: Cut | None = None
        self._when_closed: list[Callable[[], None]] = []
        raw.add_on_close_callback(self._closed)
        raw.add_callback(self._get_found_nothing, [pika.spec.Basic.GetEmpty], one_shot=False)

    @property
    def is_open(self) -> bool:
        return self._ended is None

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call this once, at the channel's end."""
        self._when_closed.append(callback)

    def when_cancelled(self, callback: Callable[[str], None]) -> None:
        """Call this with the tag of each consumer that the broker cancels: its queue is gone."""
        self._raw.add_on_cancel_callback(lambda frame: callback(frame.method.consumer_tag))

    async def close(self) -> None:
        if self._ended is None:
            self._send_acks()
            closed = self._future()
            self.when_closed(lambda: None if closed.done() else closed.set_result(None))
            self._raw.close()
            await asyncio.wait((closed,))

    # -- queues

    async def declare_exchange(self, name: str, type_: str, *, durable: bool = True) -> None:
        await self._call(
            self._raw.exchange_declare, exchange=name, exchange_type=type_, durable=durable
        )

    async def declare_queue(
        self,
        name: str = "",
        *,
        durable: bool = False,
        passive: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: dict[str, Any] | None = None,
    ) -> "Declared":
        answer = await self._call(
            self._raw.queue_declare,
            queue=name,
            durable=durable,
            passive=passive,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=arguments,
        )
        method = answer.method
        return Declared(self, method.queue, method.message_count, method.consumer_count)

    async def bind(self, queue: str, exchange: str, key: str = "") -> None:
        await self._call(self._raw.queue_bind, queue=queue, exchange=exchange, routing_key=key)

    async def delete_queue(self, name: str) -> None:
        """Also where it is not there."""
        await self._call(self._raw.queue_delete, queue=name)

    # -- taking messages

    async def qos(self, prefetch: int) -> None:
        """Of each consumer that is made from now on."""
        await self._call(self._raw.basic_qos, prefetch_count=prefetch)

    async def consume(
        self, queue: str, take: Callable[[Message], None], tag: str = "", no_ack: bool = False
    ) -> str:
        """Call `take` for each message, until `cancel` with the tag that this returns."""

        def delivered(_: Any, method: Any, properties: Any, body: bytes) -> None:
            if not no_ack:
                self._unsettled[method.delivery_tag] = False
            take(message_of(method, properties, body, method.consumer_tag))

        answer = await self._call(
            self._raw.basic_consume, queue, delivered, auto_ack=no_ack, consumer_tag=tag or None
        )
        return str(answer.method.consumer_tag)

    async def cancel(self, consumer_tag: str) -> None:
        """What is delivered before the broker agrees goes back to the queue."""
        if consumer_tag in self._raw.consumer_tags:
            await self._call(self._raw.basic_cancel, consumer_tag)

    async def get(self, queue: str) -> Message | None:
        """One message, or None where the queue is empty. One at a time on a channel."""
        got = self._got = self._future()

        def found(_: Any, method: Any, properties: Any, body: bytes) -> None:
            self._unsettled[method.delivery_tag] = False
            if not got.done():
                got.set_result(message_of(method, properties, body, None))

        self._raw.basic_get(queue, found)
        message: Message | None = await got
        return message

    def ack(self, message: Message) -> None:
        """Done with it. Those of one turn of the event loop go together: the broker writes less."""
        self._check()
        self._unsettled[message.tag] = True
        self._acks += 1
        if self._acks == 1:
            asyncio.get_running_loop().call_soon(self._send_acks)

    def give_back(self, message: Message) -> None:
        """Put it back; the broker counts that against the queue's delivery limit."""
        self._check()
        self._unsettled.pop(message.tag, None)
        self._raw.basic_nack(message.tag, requeue=True)

    def _send_acks(self) -> None:
        """One ack for all up to the first that is not done, and one for each beyond it."""
        self._acks = 0
        if not self._raw.is_open:
            return
        first = [tag for tag, _ in takewhile(lambda item: item[1], self._unsettled.items())]
        for tag in first:
            del self._unsettled[tag]
        if first:
            self._raw.basic_ack(first[-1], multiple=len(first) > 1)
        rest = [tag for tag, done in self._unsettled.items() if done]
        for tag in rest:
            del self._unsettled[tag]
            self._raw.basic_ack(tag)

    # -- publishing

    async def confirm(self) -> None:
        """Have the broker confirm what is published on this channel."""
        await self._call(self._raw.confirm_delivery, self._settled)

    def publish(
        self,
        exchange: str,
        key: str,
        body: bytes,
        *,
        message_id: str | None = None,
        headers: dict[str, Any] | None = None,
    ) -> "asyncio.Future[None]":
        """Send a persistent message at once; the future is done when the broker has it.

        It ends with `Nacked`, `Refused` or `Cut` where the broker has it not, or may not.
        """
        self._check()
        self._raw.basic_publish(
            exchange,
            key,
            body,
            pika.BasicProperties(
                content_type="application/json",
                delivery_mode=_PERSISTENT,
                message_id=message_id,
                headers=headers,
            ),
        )
        self._published += 1
        future = self._unconfirmed[self._published] = self._future()
        return future

    def send(
        self,
        key: str,
        body: bytes,
        *,
        exchange: str = "",
        correlation_id: str | None = None,
        reply_to: str | None = None,
        expires_s: float | None = None,
    ) -> None:
        """Send a message that may be lost: whoever misses it asks again."""
        self._check()
        self._raw.basic_publish(
            exchange,
            key,
            body,
            pika.BasicProperties(
                content_type="application/json",
                correlation_id=correlation_id,
                reply_to=reply_to,
                expiration=None if expires_s is None else str(int(expires_s * 1000)),
            ),
        )

    def _check(self) -> None:
        if self._ended is not None:
            raise self._ended
        if not self._raw.is_open:
            raise Cut("the channel is closed")

    def _future(self) -> "asyncio.Future[Any]":
        """It ends with the channel, if not before."""
        self._check()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.add(future)
        future.add_done_callback(self._calls.discard)
        return future

    async def _call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a method of pika's channel, and wait for the broker's answer to it."""
        answer = self._future()

        def then(value: Any) -> None:
            if not answer.done():
                answer.set_result(value)

        method(*args, callback=then, **kwargs)
        return await answer

    def _settled(self, frame: Any) -> None:
        """The broker's ack or nack of one message, or of all up to it."""
        method = frame.method
        if method.multiple:
            settled = list(takewhile(lambda tag: tag <= method.delivery_tag, self._unconfirmed))
        else:
            settled = [method.delivery_tag]
        for tag in settled:
            future = self._unconfirmed.pop(tag, None)
            if future is None or future.done():
                continue
            if isinstance(method, pika.spec.Basic.Ack):
                future.set_result(None)
            else:
                future.set_exception(Nacked("the broker did not take the message"))

    def _get_found_nothing(self, frame: Any) -> None:
        del frame
        if self._got is not None and not self._got.done():
            self._got.set_result(None)

    def _closed(self, _: Any, reason: BaseException) -> None:
        if isinstance(reason, ChannelClosedByBroker):
            self._ended = Refused(reason.reply_code, reason.reply_text)
        else:
            self._ended = Cut(text_of(reason))
        for future in list(self._calls):
            if not future.done():
                future.set_exception(self._ended)
                future.exception()  # It may not be awaited yet, and that is no error.
        self._unconfirmed.clear()
        for callback in self._when_closed:
            callback()


@dataclass(frozen=True, slots=True)
class Declared:
    """A queue that is there."""

    channel: Channel
    name: str
    #: Messages that are ready to be delivered.
    ready: int
    consumers: int

    async def bind(self, exchange: str, key: str = "") -> None:
        await self.channel.bind(self.name, exchange, key)
