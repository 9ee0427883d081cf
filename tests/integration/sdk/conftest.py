"""A project on a real broker, with the RabbitMQ user that its lab scripts have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import pika
import pytest
from qslice import ids, names
from qslice.messages.result import Result
from qslice.sdk import Client
from qslice.states import State

from tests.support.lab import fresh_lab
from tests.support.platform import Platform
from tests.support.processes import LOOPBACK
from tests.support.proxy import TcpProxy
from tests.support.system import System


@dataclass
class Project:
    """What the system's side does with a project's queues, done by hand."""

    name: str
    #: The lab's own user, with no more than a lab's permissions.
    lab_url: str
    channel: Any

    def take(self, queue: str | None = None) -> tuple[Any, bytes] | None:
        """The next message of a queue (ToDo), acknowledged: its properties and body."""
        method, properties, body = self.channel.basic_get(
            queue or names.todo(self.name), auto_ack=True
        )
        return None if method is None else (properties, body)

    def todo(self) -> list[dict[str, Any]]:
        """All that waits on ToDo."""
        found = []
        while (message := self.take()) is not None:
            found.append(orjson.loads(message[1]))
        return found

    def post(self, id_: str | None, job_id: str | None = None, **fields: Any) -> Result:
        """A result on Done, as a worker posts it."""
        result = Result.model_validate(
            {
                "job_id": job_id or ids.new(ids.JOB),
                "id": id_,
                "project": self.name,
                "kind": names.RUN,
                "state": State.SUCCEEDED,
                "attempt": 1,
                "finished_at": datetime.now(UTC),
                **fields,
            }
        )
        self.channel.basic_publish(
            names.EXCHANGE_DONE,
            names.done_key(self.name, names.RUN, result.state),
            result.body(),
            pika.BasicProperties(delivery_mode=2),
            mandatory=True,
        )
        return result

    def waiting(self, queue: str) -> int:
        """Messages that are ready on a queue; those under way to a reader do not count."""
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)


@pytest.fixture
def project(platform: Platform, broker_url: str) -> Iterator[Project]:
    """A project of this test's own, with its queues and its lab's user."""
    with (
        fresh_lab(platform, broker_url, "bb84") as lab,
        pika.BlockingConnection(pika.URLParameters(broker_url)) as connection,
    ):
        channel = connection.channel()
        channel.confirm_delivery()
        yield Project(lab.project, lab.amqp_url, channel)


@pytest.fixture
def client(system: System) -> Iterator[Client]:
    """Alice's."""
    with system.client("lab") as client:
        yield client


@pytest.fixture
def proxied(system: System) -> Iterator[tuple[Client, TcpProxy]]:
    """Alice's client, through a proxy that a test cuts."""
    token = system.tokens.make("alice")
    with (
        TcpProxy(LOOPBACK, system.port) as proxy,
        Client(f"http://{proxy.host}:{proxy.port}", token, "lab") as client,
    ):
        yield client, proxy
