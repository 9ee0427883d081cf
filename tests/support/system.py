"""The whole system as real processes: gateway, ledger and workers on one vhost and database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pika
from qslice import names
from qslice.sdk import Client

from tests.support.gateway import Tokens
from tests.support.processes import (
    LOOPBACK,
    ProcessStarter,
    ServiceProcess,
    answers,
    pick_free_port,
)
from tests.support.wait import wait_for

PROJECT = "alice"


class System:
    """Starts the parts one by one, so that a test can kill and start each."""

    def __init__(
        self,
        start: ProcessStarter,
        folder: Path,
        broker_url: str,
        database_url: str,
        management_url: str,
        **settings: str,
    ) -> None:
        self._start = start
        self._clients: list[Client] = []
        self.folder = folder
        self.tokens = Tokens(folder)
        self.port = pick_free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.environment = {
            "QSLICE_AMQP_URL": broker_url,
            "QSLICE_DATABASE_URL": database_url,
            "QSLICE_RABBITMQ_MANAGEMENT_URL": management_url,
            "QSLICE_DEV_ISSUER_KEY": str(self.tokens.key_file),
            "QSLICE_LISTEN": f"{LOOPBACK}:{self.port}",
            **settings,
        }

    def gateway(self) -> ServiceProcess:
        return self._start(
            "qslice-gateway", "serve", env=self.environment, ready=f"{self.url}/healthz"
        )

    def ledger(self, **settings: str) -> ServiceProcess:
        return self._start("qslice-gateway", "ledger", env={**self.environment, **settings})

    def noop_worker(self, slots: int = 8, lease_s: float = 20, **settings: str) -> ServiceProcess:
        """A worker without containers; see `tests.support.noop_handler` for its commands."""
        environment = {
            "QSLICE_SLOTS": str(slots),
            "QSLICE_LEASE_S": str(lease_s),
            "QSLICE_GRACE_S": "5",
            **settings,
        }
        return self._worker("python", "-m", "tests.support.noop_worker", env=environment)

    def runner(self, git_folder: Path, slots: int = 2, **settings: str) -> ServiceProcess:
        """The QKD runner on the machine's Docker engine; clones below one local folder."""
        environment = {
            "QSLICE_SLOTS": str(slots),
            "QSLICE_RUNNER_STATE_DIR": str(self.folder / "runner"),
            "QSLICE_ALLOW_FILE_REPOSITORIES": str(git_folder),
            "QSLICE_WORKER_HOST": self.folder.name,
            **settings,
        }
        return self._worker("qslice-runner", env=environment)

    def start(self, workers: int = 1, slots: int = 8) -> None:
        """Gateway, ledger and noop workers, and the project `alice`."""
        self.gateway()
        self.ledger()
        for _ in range(workers):
            self.noop_worker(slots)
        self.make_project()

    def make_project(self, name: str = PROJECT, subject: str = "alice") -> None:
        self.client(name, subject).create_project(name)

    def client(self, project: str = PROJECT, subject: str = "alice") -> Client:
        """Somebody's requests; closed with the system."""
        client = Client(self.url, self.tokens.make(subject, project), project)
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Close the clients; the processes belong to who started them."""
        for client in self._clients:
            client.close()

    def todo(self, project: str = PROJECT) -> tuple[int, int]:
        """Of the project's ToDo queue: messages that no worker holds, and its consumers."""
        parameters = pika.URLParameters(self.environment["QSLICE_AMQP_URL"])
        connection = pika.BlockingConnection(parameters)
        try:
            found = connection.channel().queue_declare(names.todo(project), passive=True).method
            return found.message_count, found.consumer_count
        finally:
            connection.close()

    def wait_until_ready(self) -> None:
        """Until database, broker and ledger answer."""
        wait_for(lambda: answers(f"{self.url}/readyz"), 120, "the system ready")

    def _worker(self, *command: str, env: Mapping[str, str]) -> ServiceProcess:
        amqp = {"QSLICE_AMQP_URL": self.environment["QSLICE_AMQP_URL"]}
        process = self._start(*command, env={**amqp, **env})
        process.wait_for_log("connected to the broker", 120)
        return process
