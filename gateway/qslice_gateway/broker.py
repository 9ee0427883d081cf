"""The gateway's own AMQP connections: a small pool, each used by one thread at a time.

pika's connections must not be shared by threads, and one for each request costs a handshake and,
at every mistake, a leak. Submitting jobs does not come here: the ledger relays those.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pika
import structlog
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    ChannelWrongStateError,
    NackError,
    UnroutableError,
)
from qslice import topology

from qslice_gateway.problems import Problem

log = structlog.get_logger()

SIZE = 4
#: Seconds to wait for a free connection.
WAIT_S = 10.0
#: Nobody answers the broker's heartbeats on an idle connection: after this it is let go.
IDLE_S = 20.0
HEARTBEAT_S = 30
TIMEOUT_S = 10

NOT_FOUND = 404
PRECONDITION_FAILED = 406


class Broker:
    """Borrow a channel for one piece of work; safe to use from many threads."""

    def __init__(self, url: str, size: int = SIZE) -> None:
        self._parameters = pika.URLParameters(url)
        self._parameters.heartbeat = HEARTBEAT_S
        self._parameters.socket_timeout = TIMEOUT_S
        self._parameters.stack_timeout = TIMEOUT_S
        self._parameters.blocked_connection_timeout = TIMEOUT_S
        self._parameters.client_properties = {"connection_name": "qslice-gateway"}
        self._free = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[tuple[BlockingConnection, BlockingChannel, float]] = []

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """A channel with publisher confirms; raises `Problem` 503 where the broker is away.

        The broker's answers to a mistake (`ChannelClosedByBroker`) pass through.
        """
        if not self._free.acquire(timeout=WAIT_S):
            raise Problem("broker_unavailable", "all connections are in use; try again soon")
        try:
            connection, channel = self._borrow()
            try:
                yield channel
            except (ChannelClosedByBroker, ChannelWrongStateError):
                self._close(connection)
                raise
            except BaseException:
                if not channel.is_open:
                    self._close(connection)
                    raise
                self._give_back(connection, channel)
                raise
            else:
                self._give_back(connection, channel)
        except (ChannelClosedByBroker, NackError, UnroutableError):
            raise
        except (AMQPError, OSError) as wrong:
            log.warning("broker_unavailable", error=repr(wrong))
            raise Problem("broker_unavailable", "try again in a few seconds") from None
        finally:
            self._free.release()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _, _ in idle:
            self._close(connection)

    def _borrow(self) -> tuple[BlockingConnection, BlockingChannel]:
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            if kept is None:
                break
            connection, channel, since = kept
            if time.monotonic() - since < IDLE_S and self._answers(connection, channel):
                return connection, channel
            self._close(connection)
        connection = BlockingConnection(self._parameters)
        try:
            channel = connection.channel()
            channel.confirm_delivery()
        except BaseException:
            self._close(connection)
            raise
        return connection, channel

    def _give_back(self, connection: BlockingConnection, channel: BlockingChannel) -> None:
        with self._lock:
            self._idle.append((connection, channel, time.monotonic()))

    @staticmethod
    def _answers(connection: BlockingConnection, channel: BlockingChannel) -> bool:
        """Whether it was not closed by the other side meanwhile."""
        try:
            connection.process_data_events(time_limit=0)
        except (AMQPError, OSError):
            return False
        return bool(channel.is_open)

    @staticmethod
    def _close(connection: BlockingConnection) -> None:
        with suppress(AMQPError, OSError):
            connection.close()

    def declare_system(self) -> None:
        """The exchanges and the system's own queues."""
        with self.channel() as channel:
            topology.declare_blocking(channel)

    def declare_project(self, project: str) -> None:
        """The queues of a project; idempotent."""
        with self.channel() as channel:
            topology.declare_blocking(channel)
            topology.declare_blocking(channel, project)

    def declare_queue(self, name: str, arguments: dict[str, Any]) -> None:
        """A queue that a project asked for; raises `Problem` where it exists otherwise."""
        try:
            with self.channel() as channel:
                channel.queue_declare(name, durable=True, arguments=arguments)
        except ChannelClosedByBroker as refused:
            if refused.reply_code != PRECONDITION_FAILED:
                raise
            raise Problem("queue_differs", "choose the type that it has") from None

    def delete_queues(self, queues: list[str]) -> None:
        """Delete queues with all that is in them; those that are missing are passed over."""
        with self.channel() as channel:
            for queue in queues:
                channel.queue_delete(queue)

    def check(self) -> None:
        """Whether it answers; raises `Problem` 503."""
        with self.channel():
            pass
