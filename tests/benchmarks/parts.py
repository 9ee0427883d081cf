"""What a measure runs on: a fresh vhost and database, our system, and Celery beside it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tests.support.platform import Platform, fresh_database, fresh_vhost
from tests.support.processes import (
    LOOPBACK,
    ProcessStarter,
    ServiceProcess,
    answers,
    pick_free_port,
)
from tests.support.system import System

GATEWAY_WORKERS = "2"
GATEWAY_THREADS = "4"
#: The same for us and for the peer.
WORKER_PROCESSES = 2


@dataclass
class Parts:
    """Everything of one measure; all of it is gone at its end."""

    platform: Platform
    start: ProcessStarter
    system: System
    broker_url: str
    database_url: str
    #: Celery's own vhost and database on the same servers.
    peer_environment: dict[str, str]

    def celery_worker(self, concurrency: int = WORKER_PROCESSES) -> ServiceProcess:
        process = self.start(
            *("python", "-m", "celery", "-A", "tests.benchmarks.peers.celery_app"),
            *("worker", "-P", "prefork", "-c", str(concurrency), "-l", "INFO"),
            *("--without-gossip", "--without-mingle", "-Q", "peer"),
            env=self.peer_environment,
        )
        process.wait_for_log("ready.", 120)
        return process

    def celery_app(self) -> ModuleType:
        """The peer's tasks, to be sent from this process: read anew, for each measure's parts."""
        os.environ.update(self.peer_environment)
        return importlib.reload(importlib.import_module("tests.benchmarks.peers.celery_app"))

    def celery_gateway(self) -> int:
        """The peer's view under the same gunicorn; its port."""
        port = pick_free_port()
        self.start(
            *("python", "-m", "gunicorn", "-k", "gthread", "-w", GATEWAY_WORKERS),
            *("--threads", GATEWAY_THREADS, "-b", f"{LOOPBACK}:{port}", "--keep-alive", "75"),
            *("--no-control-socket", "tests.benchmarks.peers.celery_view:app"),
            env=self.peer_environment,
            ready=lambda: answers(f"http://{LOOPBACK}:{port}/ready"),
        )
        return port


@contextmanager
def parts(platform: Platform, template: str, folder: Path) -> Iterator[Parts]:
    with ExitStack() as stack:
        broker_url = stack.enter_context(fresh_vhost(platform))
        database = stack.enter_context(fresh_database(platform, template))
        peer_broker = stack.enter_context(fresh_vhost(platform))
        peer_database = stack.enter_context(fresh_database(platform))
        start = ProcessStarter(folder)
        stack.callback(_end, start)
        system = System(
            start,
            folder,
            broker_url,
            database,
            platform.management_url,
            QSLICE_WORKERS=GATEWAY_WORKERS,
            QSLICE_THREADS=GATEWAY_THREADS,
            QSLICE_LOG_LEVEL="WARNING",
        )
        peer = {"PEER_AMQP_URL": peer_broker, "PEER_DATABASE_URL": peer_database}
        stack.callback(system.close)
        yield Parts(platform, start, system, broker_url, database, peer)


def _end(start: ProcessStarter) -> None:
    for process in reversed(start.started):
        process.kill_all()
