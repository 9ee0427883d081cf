"""A project on a real broker, with the RabbitMQ user that its lab scripts have."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
import orjson
import pika
import pytest
from qslice import ids, names, topology
from qslice.messages.result import Result
from qslice.states import State


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
def project(broker_url: str, management_url: str) -> Iterator[Project]:
    """A project of this test's own, with its queues and its lab's user."""
    name, user, password = "bb84", f"lab-{secrets.token_hex(6)}", secrets.token_urlsafe(12)
    vhost = quote(urlsplit(broker_url).path.removeprefix("/"), safe="")
    may = topology.lab_permissions(name)
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    channel = connection.channel()
    channel.confirm_delivery()
    topology.declare_blocking(channel)
    topology.declare_blocking(channel, name)
    with httpx.Client(base_url=management_url, timeout=60, trust_env=False) as api:
        api.put(f"/api/users/{user}", json={"password": password, "tags": ""}).raise_for_status()
        api.put(
            f"/api/permissions/{vhost}/{user}",
            json={"configure": may.configure, "write": may.write, "read": may.read},
        ).raise_for_status()
        api.put(
            f"/api/topic-permissions/{vhost}/{user}",
            json={"exchange": names.EXCHANGE_TODO, "write": may.topic_write, "read": "^$"},
        ).raise_for_status()
        parts = urlsplit(broker_url)
        where = f"{user}:{password}@{parts.hostname}:{parts.port}"
        yield Project(name, urlunsplit(parts._replace(netloc=where)), channel)
        api.delete(f"/api/users/{user}").raise_for_status()
    connection.close()
