"""A project's queues and its own RabbitMQ user, as a lab gets them, without a gateway."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import httpx
import pika
from qslice import names, topology

from tests.support.platform import Platform


@dataclass(frozen=True)
class Lab:
    """A project, its user's AMQP URL, and the administrator's for what the platform does."""

    project: str
    amqp_url: str
    admin_url: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a lab script reads."""
        return {"QSLICE_PROJECT": self.project, "QSLICE_AMQP_URL": self.amqp_url}


@contextmanager
def fresh_lab(platform: Platform, broker_url: str, project: str = "lab") -> Iterator[Lab]:
    """Declare a project's queues in the vhost of `broker_url`; the user goes at the end."""
    with pika.BlockingConnection(pika.URLParameters(broker_url)) as connection:
        channel = connection.channel()
        topology.declare_blocking(channel)
        topology.declare_blocking(channel, project)
    parts = urlsplit(broker_url)
    user, password, vhost = f"lab-{secrets.token_hex(6)}", secrets.token_hex(8), parts.path[1:]
    allowed = topology.lab_permissions(project)
    with httpx.Client(base_url=platform.management_url, timeout=60, trust_env=False) as api:

        def put(path: str, **body: str) -> None:
            api.put(f"/api/{path}", json=body).raise_for_status()

        put(f"users/{user}", password=password, tags="")
        try:
            place = f"{quote(vhost, safe='')}/{user}"
            put(
                f"permissions/{place}",
                configure=allowed.configure,
                write=allowed.write,
                read=allowed.read,
            )
            put(
                f"topic-permissions/{place}",
                exchange=names.EXCHANGE_TODO,
                write=allowed.topic_write,
                read="^$",
            )
            address = f"amqp://{user}:{password}@{parts.hostname}:{parts.port}/{vhost}"
            yield Lab(project, address, broker_url)
        finally:
            api.delete(f"/api/users/{user}").raise_for_status()
