"""Workers over the real broker, with a scripted ledger for a peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from pydantic import SecretStr
from qslice.worker.loop import Worker
from qslice.worker.settings import WorkerSettings

from tests.support.fake_ledger import FakeLedger
from tests.support.noop_handler import NoopHandler
from tests.support.proxy import TcpProxy


@dataclass
class Running:
    """A worker in the test's own process, and its handler."""

    worker: Worker
    handler: NoopHandler
    task: asyncio.Task[None]
    name: str

    async def stop(self) -> None:
        """As SIGTERM does it; returns when it is over."""
        self.worker.stop()
        await self.task


class Workers:
    """Starts workers, which end with the test."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.started: list[Running] = []

    def __call__(
        self, handler: NoopHandler | None = None, url: str | None = None, **settings: Any
    ) -> Running:
        handler = handler or NoopHandler()
        given = {"slots": 4, "grace_s": 60.0, "projects_s": 0.5, **settings}
        name = given.setdefault("worker_name", f"w{len(self.started) + 1}")
        worker = Worker(handler, WorkerSettings(amqp_url=SecretStr(url or self._url), **given))
        running = Running(worker, handler, asyncio.create_task(worker.run()), name)
        self.started.append(running)
        return running

    async def stop_all(self) -> None:
        for running in self.started:
            running.worker.stop()
            running.worker.stop()
        ends = await asyncio.gather(*(one.task for one in self.started), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end


@pytest.fixture
async def ledger(broker_url: str) -> AsyncIterator[FakeLedger]:
    """A ledger with one project, `alpha`."""
    async with FakeLedger(broker_url) as ledger:
        await ledger.create_project("alpha")
        yield ledger


@pytest.fixture
async def start_worker(broker_url: str, ledger: FakeLedger) -> AsyncIterator[Workers]:
    workers = Workers(broker_url)
    yield workers
    await workers.stop_all()


@dataclass
class Wire:
    """A worker's way to the broker, which a test can cut."""

    proxy: TcpProxy
    url: str

    def cut(self) -> None:
        """Break the connection; the next one gets through."""
        self.proxy.cut()

    def down(self) -> None:
        """Break the connection and let no other through."""
        self.proxy.refusing = True
        self.proxy.cut()

    def up(self) -> None:
        self.proxy.refusing = False


@pytest.fixture
def wire(broker_url: str) -> Iterator[Wire]:
    parts = urlsplit(broker_url)
    with TcpProxy(parts.hostname or "", parts.port or 0) as proxy:
        user = parts.netloc.rpartition("@")[0]
        netloc = f"{user}@{proxy.host}:{proxy.port}"
        yield Wire(proxy, urlunsplit(parts._replace(netloc=netloc)))
