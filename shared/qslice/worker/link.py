"""The connection to the broker: made again for ever, each time as a new session.

The cut is not hidden: a delivery can only be acknowledged on the channel it came by, an answer
only comes to the channel that asked, so whoever holds such a thing must know its session is over.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from prometheus_client import Counter, Gauge

from qslice.amqp import Channel, Connection, Cut
from qslice.backoff import Backoff

log = structlog.get_logger(__name__)

#: Seconds to make a session out of a connection.
SET_UP_TIMEOUT_S = 30.0
#: A connection that held for so long starts the back-off anew.
STEADY_S = 5.0

CONNECTED = Gauge("qslice_worker_connected", "Whether the broker is connected")
CONNECTIONS = Counter("qslice_worker_connections", "Connections made to the broker")


class Session:
    """One connection from its opening to its loss."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lost = asyncio.Event()
        self._when_lost: list[Callable[[], None]] = []
        connection.lost.add_done_callback(lambda _: self.fail())

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set()

    async def lost(self) -> None:
        """Return once it is."""
        await self._lost.wait()

    def when_lost(self, callback: Callable[[], None]) -> None:
        """Call this once, at the loss."""
        self._when_lost.append(callback)

    def fail(self) -> None:
        """Give it up: something that it cannot do without is broken."""
        if not self.is_lost:
            self._lost.set()
            for callback in self._when_lost:
                callback()

    async def channel(self, *, confirms: bool = False, vital: bool = True) -> Channel:
        """A new channel; when a vital one is closed, so is the session. Raises `Cut`."""
        channel = await self._connection.channel(confirms=confirms)
        if vital:
            channel.when_closed(self.fail)
        return channel

    async def close(self) -> None:
        self.fail()
        await self._connection.close()


Attach = Callable[[Session], Awaitable[None]]


class Link:
    """Keeps one session open. `attach` functions set up each new one before anybody gets it."""

    def __init__(self, url: str, name: str, backoff: Backoff | None = None) -> None:
        self._url = url
        self._name = name
        self._backoff = backoff or Backoff(base=0.2, cap=10.0)
        self._attach: list[Attach] = []
        self._session: Session | None = None
        self._changed = asyncio.Condition()

    def attach(self, function: Attach) -> None:
        self._attach.append(function)

    @property
    def is_up(self) -> bool:
        return self._session is not None and not self._session.is_lost

    async def session(self) -> Session:
        """The open session; waits until there is one."""
        while True:
            session = self._session
            if session is not None and not session.is_lost:
                return session
            async with self._changed:
                await self._changed.wait_for(lambda: self.is_up)

    async def run(self) -> None:
        """Connect, and again whenever the connection is lost, until cancelled."""
        failures = 0
        while True:
            begun = time.monotonic()
            try:
                await self._one_session()
                error = "the connection was lost"
            except (Cut, TimeoutError) as cut:
                error = str(cut) or "the broker did not answer in time"
            failures = failures + 1 if time.monotonic() < begun + STEADY_S else 1
            delay = self._backoff.delay(failures)
            log.warning(
                "no connection to the broker; trying again",
                error=error,
                seconds=round(delay, 1),
                failures=failures,
            )
            await asyncio.sleep(delay)

    async def _one_session(self) -> None:
        session = Session(await Connection.open(self._url, self._name))
        try:
            async with asyncio.timeout(SET_UP_TIMEOUT_S):
                for attach in self._attach:
                    await attach(session)
            CONNECTIONS.inc()
            log.info("connected to the broker")
            async with self._changed:
                self._session = session
                self._changed.notify_all()
            with CONNECTED.track_inprogress():
                await session.lost()
        finally:
            self._session = None
            await session.close()
