"""Wakes the ledger's relay after a commit: one NOTIFY for however many submits there were.

In the submitting transaction a NOTIFY would take a lock until the commit, and commits would queue
up behind each other. A ring that is lost costs no more than the relay's own look every 0.25 s.
"""

import threading
import time
from typing import Any

import psycopg
import structlog

CHANNEL = "qslice_outbox"
#: Between two rings; the first after a silence is not delayed.
_PAUSE_S = 0.005
_logger = structlog.get_logger(__name__)


class Doorbell:
    """A thread with a connection of its own; `ring()` returns at once, from any thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._called = threading.Event()
        self._rung = False
        self._closed = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ring(self) -> None:
        """Something was committed to the outbox."""
        if self._thread is None:
            # Not earlier: a thread does not survive the fork into gunicorn's workers.
            self._start()
        self._rung = True
        self._called.set()

    def close(self) -> None:
        """Send what was rung, and end the thread."""
        self._closed = True
        self._called.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closed:
            try:
                with psycopg.connect(
                    self._url,
                    autocommit=True,
                    application_name="qslice-doorbell",
                    connect_timeout=10,
                ) as conn:
                    self._send(conn)
            except psycopg.Error as lost:
                _logger.warning("doorbell cut off", error=str(lost).strip())
                # The relay looks by itself meanwhile.
                time.sleep(1)

    def _send(self, conn: psycopg.Connection[Any]) -> None:
        while self._rung or not self._closed:
            self._called.wait()
            self._called.clear()
            if self._rung:
                self._rung = False
                conn.execute(f"NOTIFY {CHANNEL}")
                # A stream of submits one after the other would otherwise ring for each.
                time.sleep(_PAUSE_S)
