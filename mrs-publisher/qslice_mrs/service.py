"""The publisher's life: connect, consume, and begin anew when the broker was away."""

import asyncio
import contextlib

import aio_pika
import structlog
from aio_pika.abc import AbstractConnection
from qslice import names, topology
from qslice.backoff import Backoff

from qslice_mrs.client import MrsClient
from qslice_mrs.finder import Finder
from qslice_mrs.publisher import Publisher
from qslice_mrs.registrar import Registrar
from qslice_mrs.settings import MrsSettings

log = structlog.get_logger()

#: Short: while a lost connection is not noticed, two publishers could be at work.
_HEARTBEAT_S = 15


class Service:
    """Runs until `stop` is called; every lost connection begins a new session."""

    def __init__(self, settings: MrsSettings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._reconnect = Backoff(base=0.5, cap=10.0)

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Publish until it is stopped."""
        client = MrsClient(self._settings)
        registrar = Registrar(client, Finder(client, self._settings.mrs_search_batch))
        failures = 0
        try:
            while not self._stopping.is_set():
                try:
                    await self._session(registrar)
                    failures = 0
                except (aio_pika.exceptions.AMQPError, OSError, TimeoutError) as away:
                    failures += 1
                    log.warning("the broker is away", why=str(away) or type(away).__name__)
                await self._rest(self._reconnect.delay(failures) if failures else 0.1)
        finally:
            await client.close()

    async def _session(self, registrar: Registrar) -> None:
        """From one connection to its end."""
        url = self._settings.amqp_url.get_secret_value()
        connection = await aio_pika.connect(url, heartbeat=_HEARTBEAT_S, timeout=15)
        try:
            await self._consume(connection, registrar)
        finally:
            with contextlib.suppress(aio_pika.exceptions.AMQPError, OSError, TimeoutError):
                await asyncio.wait_for(connection.close(), 10)

    async def _consume(self, connection: AbstractConnection, registrar: Registrar) -> None:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await topology.declare(channel)
        await channel.set_qos(prefetch_count=self._settings.mrs_in_flight)
        events = await channel.get_exchange(names.EXCHANGE_EVENTS, ensure=False)
        waits = await connection.channel(publisher_confirms=True, on_return_raises=True)
        publisher = Publisher(self._settings, registrar, events, waits)
        await publisher.declare()
        queue = await channel.get_queue(names.QUEUE_MRS, ensure=False)
        tag = await queue.consume(publisher.take)
        log.info("publishing", queue=names.QUEUE_MRS, registry=self._settings.mrs_url)
        closed = {asyncio.ensure_future(one.closed()) for one in (channel, waits)}
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({*closed, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set() and not any(one.done() for one in closed):
                await queue.cancel(tag)
                await publisher.finish(self._settings.grace_s)
        finally:
            publisher.abandon()
            for waiter in (*closed, stopping):
                waiter.cancel()

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
