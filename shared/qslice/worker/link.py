"""The connection to the broker: made again for ever, each time as a new session.

Not aio-pika's robust connection: that hides the cut by re-using channel and queue objects, but
here the cut matters. A delivery can only be acknowledged on the channel it came by, an answer
only comes to the channel that asked, so whoever holds such a thing must know its session is over.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from prometheus_client import Counter, Gauge

from qslice.backoff import Backoff

log = structlog.get_logger(__name__)

#: What a broker that is gone, restarting or overloaded looks like to its callers.
CUT = (*CONNECTION_EXCEPTIONS, EOFError, TimeoutError)

#: Seconds without a frame after which the broker or the network counts as gone.
HEARTBEAT_S = 10
CONNECT_TIMEOUT_S = 15.0
#: A connection that held for so long starts the back-off anew.
STEADY_S = 5.0

CONNECTED = Gauge("qslice_worker_connected", "Whether the broker is connected")
CONNECTIONS = Counter("qslice_worker_connections", "Connections made to the broker")


class SessionLost(Exception):
    """The connection broke while something of it was in use."""


@contextmanager
def over_the_wire() -> Iterator[None]:
    """Around calls of the library: whatever it raises for a cut becomes `SessionLost`.

    It rejects what waits with the reason of the closing, which may be a bare `Exception` or a
    `CancelledError` of its own; only the latter's absence from the task tells it from a real one.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise SessionLost("the channel was closed") from None
    except CUT as error:
        raise SessionLost(f"{type(error).__name__}: {error}") from error
    except Exception as error:
        if type(error) is Exception:
            raise SessionLost("the channel was closed") from error
        raise


class Session:
    """One connection from its opening to its loss."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._lost = asyncio.Event()
        self._when_lost: list[Callable[[], None]] = []
        connection.close_callbacks.add(self.fail)

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set()

    async def lost(self) -> None:
        """Return once it is."""
        await self._lost.wait()

    def when_lost(self, callback: Callable[[], None]) -> None:
        """Call this once, at the loss."""
        self._when_lost.append(callback)

    def fail(self, *_: object) -> None:
        """Give it up: something that it cannot do without is broken."""
        if not self.is_lost:
            self._lost.set()
            for callback in self._when_lost:
                callback()

    async def channel(self, *, confirms: bool = False, vital: bool = True) -> AbstractChannel:
        """A new channel; when a vital one is closed, so is the session."""
        with over_the_wire():
            channel = self._connection.channel(
                publisher_confirms=confirms, on_return_raises=confirms
            )
            await channel.initialize(timeout=CONNECT_TIMEOUT_S)
        if vital:
            channel.close_callbacks.add(self.fail)
        return channel

    async def close(self) -> None:
        self.fail()
        try:
            with over_the_wire():
                async with asyncio.timeout(5):
                    await self._connection.close()
        except SessionLost:
            log.debug("the old connection did not close in order")


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
            except (SessionLost, *CUT) as cut:
                error = f"{type(cut).__name__}: {cut}"
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
        session = await self._open()
        try:
            CONNECTIONS.inc()
            log.info("connected to the broker")
            await self._publish(session)
            with CONNECTED.track_inprogress():
                await session.lost()
        finally:
            self._session = None
            await session.close()

    async def _publish(self, session: Session) -> None:
        async with self._changed:
            self._session = session
            self._changed.notify_all()

    async def _open(self) -> Session:
        connection = await aio_pika.connect(
            self._url,
            timeout=CONNECT_TIMEOUT_S,
            heartbeat=HEARTBEAT_S,
            client_properties={"connection_name": self._name},
        )
        session = Session(connection)
        try:
            with over_the_wire():
                for attach in self._attach:
                    await attach(session)
        except BaseException:
            await session.close()
            raise
        return session
