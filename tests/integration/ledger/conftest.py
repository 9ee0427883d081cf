"""A ledger on a database and a virtual host of the test's own, and a worker by hand."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.ledger import HandWorker, running_ledger
from tests.support.store import Store, open_store


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with open_store(database_url) as opened:
        yield opened


@pytest.fixture
async def ledger(
    store: Store, broker_url: str, database_url: str
) -> AsyncIterator[asyncio.Task[None]]:
    async with running_ledger(broker_url, database_url) as task:
        yield task


@pytest.fixture
async def worker(ledger: asyncio.Task[None], broker_url: str) -> AsyncIterator[HandWorker]:
    """A worker whose project has its queues."""
    worker = await HandWorker.connect(broker_url)
    # An answer comes once the system's part is there; the projects' follow.
    assert await worker.projects() == ["lab"]
    yield worker
    await worker.close()
