"""A connection to the broker."""

import asyncio
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError

from qslice.amqp.channel import Channel
from qslice.amqp.corked import CorkedConnection
from qslice.amqp.errors import Cut, text_of

#: Seconds without a sign of life after which the other side counts as gone.
HEARTBEAT_S = 10
CONNECT_TIMEOUT_S = 15.0
CLOSE_TIMEOUT_S = 5.0


class Connection:
    """One connection, from its opening to its end."""

    def __init__(self, raw: AsyncioConnection) -> None:
        self._raw = raw
        #: Ends, with `Cut`, when the connection does.
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        raw.add_on_close_callback(lambda _, reason: self._end(reason))

    @classmethod
    async def open(cls, url: str, name: str) -> "Connection":
        """Connect; raises `Cut` where that fails. The broker's pages show `name`."""
        opened: asyncio.Future[AsyncioConnection] = asyncio.get_running_loop().create_future()

        def failed(_: Any, reason: BaseException) -> None:
            if not opened.done():
                opened.set_exception(Cut(text_of(reason)))

        def done(connection: AsyncioConnection) -> None:
            if opened.done():
                connection.close()
            else:
                opened.set_result(connection)

        parameters = pika.URLParameters(url)
        parameters.heartbeat = HEARTBEAT_S
        parameters.client_properties = {"connection_name": name}
        raw = CorkedConnection(parameters, on_open_callback=done, on_open_error_callback=failed)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return cls(await opened)
        except BaseException as failure:
            if not raw.is_closed and not raw.is_closing:
                raw.close()
            if isinstance(failure, TimeoutError):
                raise Cut("the broker did not answer in time") from None
            raise

    async def channel(self, *, confirms: bool = False, prefetch: int = 0) -> Channel:
        """A new channel; with confirms, one to `publish` on."""
        if self.lost.done():
            raise Cut("the connection is closed")
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(raw: Any) -> None:
            if not opened.done():
                opened.set_result(raw)

        try:
            self._raw.channel(on_open_callback=done)
        except AMQPError as error:
            raise Cut(text_of(error)) from None
        await asyncio.wait((opened, self.lost), return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            opened.cancel()
            raise Cut("the connection was lost")
        channel = Channel(opened.result())
        if confirms:
            await channel.confirm()
        if prefetch:
            await channel.qos(prefetch)
        return channel

    async def close(self) -> None:
        """Close it in order where that goes; what was not acknowledged goes back to its queue."""
        if self._raw.is_open:
            self._raw.close()
            await asyncio.wait((self.lost,), timeout=CLOSE_TIMEOUT_S)
        self._end(Cut("closed"))

    def _end(self, reason: BaseException) -> None:
        if not self.lost.done():
            self.lost.set_exception(Cut(text_of(reason)))
            self.lost.exception()  # Who waits for it sees it; that nobody does is no error.
