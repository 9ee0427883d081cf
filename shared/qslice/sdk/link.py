"""A connection to RabbitMQ that lives in its own thread.

Heartbeats go on while the caller computes, and a connection that broke is made again, for ever.
What uses it (`Publisher`, `Reader`) is a `Part`: all of a part's callbacks run in the thread.
"""

import logging
import random
import re
import threading
from collections.abc import Callable
from typing import Any, Protocol

import pika
from pika import exceptions
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorPhaseErrorBase,
)

from qslice.backoff import Backoff
from qslice.logs import redact
from qslice.sdk.errors import BrokerError

log = logging.getLogger("qslice.sdk")

_RECONNECT = Backoff(base=0.2, cap=10.0)
#: Pika guesses why a login failed, and quotes what it saw: the broker's own word, or only a cut.
_REFUSED = re.compile(r"ConnectionClosedByBroker: \((?P<code>403|530)\)")


class Part(Protocol):
    def connected(self, connection: Any) -> None: ...
    def disconnected(self) -> None: ...
    def failed(self, error: BrokerError) -> None: ...


class Link:
    """One connection and the parts that use it."""

    def __init__(self, url: str, name: str, heartbeat_s: int = 30) -> None:
        try:
            self._parameters = pika.URLParameters(url)
        except (ValueError, TypeError) as wrong:
            raise BrokerError(
                f"{redact(url)!r} is no address of a broker: {redact(str(wrong))}"
            ) from None
        self._parameters.heartbeat = heartbeat_s
        self._parameters.client_properties = {"connection_name": name}
        self._where = f"{self._parameters.host}:{self._parameters.port}"
        self._lock = threading.Lock()
        self._loop: Any = None
        self._connection: Any = None
        self._parts: list[Part] = []
        self._closing = threading.Event()
        self._opened = threading.Event()
        #: Why there will be no other attempt, and why the thread is over.
        self._failure: BrokerError | None = None
        self._ended: BrokerError | None = None
        self._greeted: list[Part] = []
        self._faults = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        # Pika writes a traceback for each failed attempt; what a person needs is said below.
        pika_log = logging.getLogger("pika")
        if pika_log.level == logging.NOTSET:
            pika_log.setLevel(logging.CRITICAL)

    def open(self, timeout_s: float) -> None:
        """Connect; raises `BrokerError` where that fails for good or takes too long."""
        self._thread.start()
        if not self._opened.wait(timeout_s):
            self.close()
            raise BrokerError(f"no broker answers at {self._where} (waited {timeout_s:g} s)")
        self.check()

    def close(self) -> None:
        self._closing.set()
        self.call(self._close)
        if self._thread.ident is not None and threading.current_thread() is not self._thread:
            self._thread.join(10)

    def check(self) -> None:
        """Raises the `BrokerError` for which this link gave up."""
        if self._failure is not None:
            raise self._failure

    def add(self, part: Part) -> None:
        """Let a part use the link, now and after each reconnection."""
        with self._lock:
            self._parts.append(part)
            ended = self._ended
        if ended is not None:
            part.failed(ended)
        else:
            self.call(self._greet)

    def remove(self, part: Part) -> None:
        with self._lock:
            if part in self._parts:
                self._parts.remove(part)

    def call(self, function: Callable[[], None]) -> bool:
        """Run it in the thread, soon; it is dropped where the connection breaks before.

        False where there is no connection, nor one being made.
        """
        with self._lock:
            if self._loop is None:
                return False
            self._loop.add_callback_threadsafe(function)
            return True

    def _run(self) -> None:
        try:
            while not self._closing.is_set() and self._failure is None:
                self._connect_once()
                if self._closing.is_set() or self._failure is not None:
                    break
                self._faults += 1
                self._closing.wait(_RECONNECT.delay(self._faults, random.Random()))
        except Exception as broken:
            log.exception("the thread of the broker's connection ended")
            self._failure = BrokerError(f"internal error of the connection: {broken!r}")
        finally:
            with self._lock:
                self._ended = self._failure or BrokerError("the connection was closed")
                parts = list(self._parts)
            self._opened.set()
            for part in parts:
                part.failed(self._ended)

    def _connect_once(self) -> None:
        connection = pika.SelectConnection(
            self._parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_lost,
            on_close_callback=self._on_lost,
        )
        with self._lock:
            self._connection = connection
            self._loop = connection.ioloop
        if self._closing.is_set():
            self._close()
        try:
            connection.ioloop.start()
        finally:
            with self._lock:
                self._loop = None
                self._connection = None
            connection.ioloop.close()

    def _close(self) -> None:
        connection = self._connection
        if connection is not None and not (connection.is_closing or connection.is_closed):
            connection.close()

    def _on_open(self, connection: Any) -> None:
        del connection
        if self._faults and self._opened.is_set():
            log.warning("connected to the broker at %s again", self._where)
        self._faults = 0
        self._greeted.clear()
        self._greet()
        self._opened.set()

    def _greet(self) -> None:
        connection = self._connection
        with self._lock:
            parts = [part for part in self._parts if part not in self._greeted]
        for part in parts if connection is not None and connection.is_open else ():
            self._greeted.append(part)
            part.connected(connection)

    def _on_lost(self, connection: Any, error: BaseException) -> None:
        cause = _cause(error)
        refused = _REFUSED.search(repr(cause))
        # A virtual host that was there may be starting with its broker (530).
        if refused and (refused["code"] == "403" or not self._opened.is_set()):
            self._failure = BrokerError(
                f"the broker at {self._where} refuses the login: is the user, the password or the "
                "virtual host wrong?"
            )
        elif self._opened.is_set() and not self._closing.is_set() and not self._faults:
            log.warning("lost the broker at %s (%s): trying again", self._where, _text(cause))
        with self._lock:
            parts = list(self._parts)
        for part in parts:
            part.disconnected()
        connection.ioloop.stop()


def _cause(error: BaseException) -> BaseException:
    """What lies at the bottom of pika's nested connection errors."""
    while True:
        inner: Any = None
        if isinstance(error, AMQPConnectionWorkflowFailed):
            inner = error.exceptions[-1]
        elif isinstance(error, AMQPConnectorPhaseErrorBase):
            inner = error.exception
        elif type(error) is exceptions.AMQPConnectionError and error.args:
            inner = error.args[0]
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _text(error: BaseException) -> str:
    return redact(str(error) or type(error).__name__)


def reason(error: BaseException) -> str:
    """What the broker said when it closed a channel."""
    return redact(str(getattr(error, "reply_text", "") or error or type(error).__name__))
