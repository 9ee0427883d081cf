"""Publishing with confirms: a future per message, kept until the broker has it."""

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Any

import pika
from pika import exceptions

from qslice.sdk.errors import BrokerError
from qslice.sdk.link import Link, reason

#: Messages under way that the broker did not confirm yet.
WINDOW = 200


@dataclass
class _Publication:
    exchange: str
    key: str
    body: bytes
    properties: Any
    future: "Future[None]" = field(default_factory=Future)


class Publisher:
    """Every message is persistent, mandatory and confirmed; after a cut it is published again.

    So a message may reach its queue twice: the key in it makes the second harmless.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: deque[_Publication] = deque()
        self._unconfirmed: dict[int, _Publication] = {}
        self._returned: dict[str, BrokerError] = {}
        self._window = BoundedSemaphore(WINDOW)
        self._channel: Any = None
        self._connection: Any = None
        self._tag = 0
        self._error: BrokerError | None = None
        link.add(self)

    def publish(
        self,
        exchange: str,
        key: str,
        body: bytes,
        message_id: str,
        priority: int = 0,
        timeout_s: float = 120.0,
    ) -> "Future[None]":
        """Give a message to the broker; waits only where `WINDOW` are under way already.

        The future ends when the broker has the message, or with `BrokerError`; `TimeoutError`
        where there was no room within the timeout.
        """
        if not self._window.acquire(timeout=max(timeout_s, 0.0)):
            raise TimeoutError
        properties = pika.BasicProperties(
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent,
            message_id=message_id,
            priority=priority,
        )
        publication = _Publication(exchange, key, body, properties)
        publication.future.add_done_callback(lambda _: self._window.release())
        self._waiting.append(publication)
        if not self._link.call(self._flush) and self._error is not None:
            self.failed(self._error)
        return publication.future

    # In the link's thread.

    def connected(self, connection: Any) -> None:
        self._connection = connection
        connection.channel(on_open_callback=self._on_channel)

    def disconnected(self) -> None:
        self._connection = None
        self._forget_channel()

    def failed(self, error: BrokerError) -> None:
        self._error = error
        self._forget_channel()
        while self._waiting:
            _fail(self._waiting.popleft(), error)

    def _on_channel(self, channel: Any) -> None:
        channel.add_on_close_callback(self._on_closed)
        channel.add_on_return_callback(self._on_return)

        def ready(_: Any) -> None:
            self._channel = channel
            self._flush()

        channel.confirm_delivery(self._on_confirm, callback=ready)

    def _flush(self) -> None:
        if self._error is not None:
            self.failed(self._error)
        while self._waiting and self._channel is not None and self._channel.is_open:
            publication = self._waiting.popleft()
            self._tag += 1
            self._unconfirmed[self._tag] = publication
            self._channel.basic_publish(
                publication.exchange,
                publication.key,
                publication.body,
                publication.properties,
                mandatory=True,
            )

    def _on_return(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        del channel, body
        # The broker returns a message before it confirms it.
        self._returned[properties.message_id] = BrokerError(
            f"no queue takes {method.routing_key!r} ({method.reply_text}): does the project exist?"
        )

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        tags = (
            [tag for tag in self._unconfirmed if tag <= method.delivery_tag]
            if method.multiple
            else [method.delivery_tag]
        )
        for tag in tags:
            publication = self._unconfirmed.pop(tag, None)
            if publication is None:
                continue
            returned = self._returned.pop(publication.properties.message_id, None)
            if returned is not None:
                _fail(publication, returned)
            elif method.NAME == "Basic.Nack":
                _fail(publication, BrokerError(f"the broker refused a message: {_FULL}"))
            elif not publication.future.done():
                publication.future.set_result(None)

    def _on_closed(self, channel: Any, error: BaseException) -> None:
        if isinstance(error, exceptions.ChannelClosedByBroker):
            refused = BrokerError(f"the broker refuses to publish: {reason(error)}")
            for publication in self._unconfirmed.values():
                _fail(publication, refused)
            self._unconfirmed.clear()
        self._forget_channel()
        if self._connection is not None and self._connection.is_open:
            self._connection.channel(on_open_callback=self._on_channel)

    def _forget_channel(self) -> None:
        """What was not confirmed goes first when there is a channel again."""
        self._channel = None
        self._tag = 0
        self._waiting.extendleft(reversed(self._unconfirmed.values()))
        self._unconfirmed.clear()
        self._returned.clear()


_FULL = "its queue is full, or has no node that may take it; try again later"


def _fail(publication: _Publication, error: BrokerError) -> None:
    if not publication.future.done():
        publication.future.set_exception(error)
