"""What the views work with: one of each per process, safe to use from many threads."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from qslice_gateway.auth import dev_issuer
from qslice_gateway.auth.keys import Keys
from qslice_gateway.auth.tokens import Tokens
from qslice_gateway.broker import Broker
from qslice_gateway.management import Management, vhost_of
from qslice_gateway.settings import GatewaySettings
from qslice_gateway.store import projects
from qslice_gateway.store.doorbell import Doorbell
from qslice_gateway.store.pool import Pool, open_pool

#: Seconds for which a project's owner is not looked up again. Owners never change; that a project
#: is there still is asked again by whatever writes to it.
PROJECT_REMEMBERED_S = 2.0


@dataclass
class Services:
    settings: GatewaySettings
    tokens: Tokens
    pool: Pool
    broker: Broker
    management: Management | None
    doorbell: Doorbell
    #: Live streams that may still begin: each holds a thread.
    streams: threading.BoundedSemaphore
    _owners: dict[str, tuple[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: GatewaySettings) -> "Services":
        """Everything that the settings name; connections are made when they are needed."""
        issuers = [Keys(issuer, settings.jwks_refetch_s) for issuer in settings.issuers]
        own = dev_issuer.keys(settings)
        amqp_url = settings.amqp_url.get_secret_value()
        management = settings.rabbitmq_management_url
        database_url = settings.database_url.get_secret_value()
        pool = open_pool(database_url, size=settings.database_connections)
        return cls(
            settings=settings,
            tokens=Tokens([*issuers, *([own] if own else [])]),
            pool=pool,
            broker=Broker(amqp_url),
            management=(
                Management(management.get_secret_value(), vhost_of(amqp_url))
                if management
                else None
            ),
            doorbell=Doorbell(database_url),
            streams=threading.BoundedSemaphore(settings.max_streams),
        )

    def owner_of(self, project: str) -> str | None:
        """Who owns the project; None: there is none of this name."""
        known = self._owners.get(project)
        now = time.monotonic()
        if known is not None and now < known[1]:
            return known[0]
        with self.pool.connection() as connection:
            found = projects.get(connection, project)
        if found is None:
            self._owners.pop(project, None)
            return None
        owner: str = found["owner"]
        if len(self._owners) > 10_000:
            self._owners.clear()
        self._owners[project] = (owner, now + PROJECT_REMEMBERED_S)
        return owner

    def forget_owner(self, project: str) -> None:
        self._owners.pop(project, None)

    def close(self) -> None:
        self.doorbell.close()
        self.broker.close()
        if self.management is not None:
            self.management.close()
        self.pool.close()


Row = dict[str, Any]
