"""Reading a queue by hand: deliveries are acknowledged when the caller is done with them."""

import queue
import time
from dataclasses import dataclass
from typing import Any

from pika import exceptions

from qslice.sdk.errors import BrokerError
from qslice.sdk.link import Link, reason

#: Deliveries that one consumer may have under way.
PREFETCH = 200
#: How long a message for somebody else is kept from another reader of the queue.
_KEEP_S = 1.0


@dataclass(frozen=True)
class Delivery:
    body: bytes
    headers: dict[str, Any]
    generation: int
    tag: int


class Reader:
    """A queue's messages, across reconnections: what was not acknowledged comes again.

    A message that is for somebody else is left: it stays unacknowledged, and more consumers make
    room so that it blocks nothing. It goes back to the queue when the reader is closed, or, where
    somebody else reads the same queue, a moment later.
    """

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._name = name
        self._arrived: queue.Queue[Delivery | BrokerError] = queue.Queue()
        self._channel: Any = None
        self._connection: Any = None
        self._generation = 0
        self._consumers = 0
        self._room = 0
        self._left: list[int] = []
        self._looked = time.monotonic()
        self._closed = False
        link.add(self)

    def get(self, timeout_s: float) -> Delivery | None:
        """The next delivery, or None after the timeout; raises `BrokerError`."""
        try:
            arrived = self._arrived.get(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            return None
        if isinstance(arrived, BrokerError):
            raise arrived
        return arrived

    def ack(self, delivery: Delivery) -> None:
        """Done with it. After a reconnection it is void: the message comes again."""

        def ack() -> None:
            if self._current(delivery):
                self._channel.basic_ack(delivery.tag)

        self._link.call(ack)

    def leave(self, delivery: Delivery) -> None:
        """For somebody else."""

        def leave() -> None:
            if self._current(delivery):
                self._left.append(delivery.tag)
                if 2 * len(self._left) >= self._room:
                    self._consume(2 * self._room)

        self._link.call(leave)

    def pass_on(self) -> None:
        """Give what was left to other readers, where there are any; cheap, call it often."""
        now = time.monotonic()
        if now - self._looked < _KEEP_S:
            return
        self._looked = now

        def look() -> None:
            if self._left and self._channel is not None and self._channel.is_open:
                self._channel.queue_declare(self._name, passive=True, callback=self._on_counted)

        self._link.call(look)

    def close(self) -> None:
        """Whatever was not acknowledged goes back to the queue."""

        self._closed = True
        self._link.remove(self)

        def close() -> None:
            if self._channel is not None and self._channel.is_open:
                self._channel.close()

        self._link.call(close)

    # In the link's thread.

    def connected(self, connection: Any) -> None:
        self._connection = connection
        if not self._closed:
            connection.channel(on_open_callback=self._on_channel)

    def disconnected(self) -> None:
        self._connection = None
        self._forget_channel()

    def failed(self, error: BrokerError) -> None:
        self._arrived.put(error)

    def _on_channel(self, channel: Any) -> None:
        if self._closed:
            channel.close()
            return
        self._generation += 1
        self._channel = channel
        channel.add_on_close_callback(self._on_closed)
        channel.add_on_cancel_callback(self._on_cancelled)
        self._consume(PREFETCH)

    def _consume(self, prefetch: int) -> None:
        """One more consumer: a prefetch counts for the consumers that are started after it."""
        prefetch = min(prefetch, 65_535)
        self._consumers += 1
        self._room += prefetch
        generation = self._generation

        def on_message(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            del channel
            self._arrived.put(
                Delivery(body, properties.headers or {}, generation, method.delivery_tag)
            )

        self._channel.basic_qos(prefetch_count=prefetch)
        self._channel.basic_consume(self._name, on_message)

    def _current(self, delivery: Delivery) -> bool:
        return (
            delivery.generation == self._generation
            and self._channel is not None
            and self._channel.is_open
        )

    def _on_counted(self, frame: Any) -> None:
        if frame.method.consumer_count > self._consumers:
            left, self._left = self._left, []
            for tag in left:
                self._channel.basic_nack(tag, requeue=True)

    def _on_cancelled(self, frame: Any) -> None:
        del frame
        self._arrived.put(BrokerError(f"the queue {self._name} was deleted"))

    def _on_closed(self, channel: Any, error: BaseException) -> None:
        del channel
        self._forget_channel()
        if self._closed:
            return
        if isinstance(error, exceptions.ChannelClosedByBroker) and error.reply_code in (403, 404):
            self._arrived.put(BrokerError(f"cannot read {self._name}: {reason(error)}"))
        elif self._connection is not None and self._connection.is_open:
            # Such as the broker's consumer timeout: what was under way comes again.
            self._connection.channel(on_open_callback=self._on_channel)

    def _forget_channel(self) -> None:
        self._channel = None
        self._generation += 1
        self._consumers = 0
        self._room = 0
        self._left = []
