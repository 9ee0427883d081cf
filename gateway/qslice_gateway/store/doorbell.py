"""Wakes the ledger's relay after a commit: one NOTIFY for however many submits there were.

In the submitting transaction a NOTIFY would take a lock until the commit, and commits would queue
up behind each other. A ring that is lost costs no more than the relay's own look every 0.25 s.
"""

import threading

import psycopg
import structlog

CHANNEL = "qslice_outbox"
_logger = structlog.get_logger(__name__)


class Doorbell:
    """A thread with a connection of its own; `ring()` returns at once, from any thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._rung = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ring(self) -> None:
        """Something was committed to the outbox."""
        if self._thread is None:
            # Not earlier: a thread does not survive the fork into gunicorn's workers.
            self._start()
        self._rung.set()

    def close(self) -> None:
        """Send what was rung, and end the thread."""
        self._closed = True
        self._rung.set()
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
                    while not self._closed:
                        self._rung.wait()
                        self._rung.clear()
                        conn.execute(f"NOTIFY {CHANNEL}")
            except psycopg.Error as lost:
                _logger.warning("doorbell cut off", error=str(lost).strip())
                # The relay looks by itself meanwhile.
                threading.Event().wait(1)
