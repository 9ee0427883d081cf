"""The ledger's side of the publisher's queues: completions in, reports out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError
from qslice import names, topology
from qslice.messages.completion import (
    COMPLETION,
    REPORT,
    Completion,
    PublicationReport,
    PublicationState,
)

from tests.support.wait import wait_for


class Wire:
    """Publishes completions with confirms, and gathers the reports."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.reports: list[PublicationReport] = []
        self._connect()
        topology.declare_blocking(self._channel)
        #: A queue that outlives this connection: the broker may be restarted.
        self._queue = "test.reports"
        self._channel.queue_declare(self._queue, durable=True)
        self._channel.queue_bind(self._queue, names.EXCHANGE_EVENTS, f"*.{REPORT}.*")

    def _connect(self) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(self.url))
        self._channel: BlockingChannel = self._connection.channel()
        self._channel.confirm_delivery()

    def reconnect(self) -> None:
        """After the broker was away."""
        with contextlib.suppress(AMQPError):
            self._connection.process_data_events(0)  # It takes note of the loss.
        self._connect()

    def close(self) -> None:
        if self._connection.is_open:
            self._connection.close()

    def send(self, completions: Iterable[Completion]) -> None:
        for completion in completions:
            self.send_raw(
                completion.body(), names.event_key(completion.project, completion.what, COMPLETION)
            )

    def send_raw(self, body: bytes, key: str = "lab.server.completion") -> None:
        self._channel.basic_publish(
            names.EXCHANGE_EVENTS, key, body, pika.BasicProperties(delivery_mode=2), mandatory=True
        )

    def gather(self) -> list[PublicationReport]:
        """All reports so far."""
        while True:
            method, _, body = self._channel.basic_get(self._queue, auto_ack=True)
            if method is None:
                return self.reports
            self.reports.append(PublicationReport.read(body))

    def states(self) -> dict[str, PublicationState]:
        """The last state of each identifier."""
        return {report.identifier: report.state for report in self.gather()}

    def wait_for(
        self,
        completions: Iterable[Completion],
        state: PublicationState = PublicationState.PUBLISHED,
        timeout: float = 120,
    ) -> list[PublicationReport]:
        """Wait until all of them have come to a state; the reports of that state."""
        wanted = {completion.identifier for completion in completions}

        def missing() -> bool:
            there = {report.identifier for report in self.gather() if report.state is state}
            return wanted <= there

        wait_for(missing, timeout, f"{len(wanted)} completions {state}")
        return [report for report in self.reports if report.state is state]

    def depth(self, queue: str) -> int:
        """Messages that are ready on a queue."""
        declared = self._channel.queue_declare(queue, passive=True)
        return int(declared.method.message_count)

    def waiting(self) -> int:
        """Messages ready for the publisher."""
        return self.depth(names.QUEUE_MRS)

    def dead(self) -> tuple[dict[str, Any], bytes]:
        """The next message that was given up: its headers and body."""

        def taken() -> list[Any]:
            found = self._channel.basic_get(names.QUEUE_MRS_DEAD, auto_ack=True)
            return [] if found[0] is None else [dict(found[1].headers or {}), found[2]]

        headers, body = wait_for(taken, 60, "a message that was given up")
        return headers, body


@contextmanager
def open_wire(url: str) -> Iterator[Wire]:
    wire = Wire(url)
    try:
        yield wire
    finally:
        wire.close()
