"""Heartbeats: one request for all jobs of a worker, and what the answer asks for."""

import asyncio
import time
from collections.abc import Callable, Iterable

import structlog
from prometheus_client import Counter

from qslice.messages.ledger import Heartbeat
from qslice.worker.job import ClaimedJob
from qslice.worker.link import Link
from qslice.worker.rpc import Ledger
from qslice.worker.settings import WorkerSettings

log = structlog.get_logger(__name__)

LOST = Counter("qslice_worker_jobs_lost", "Jobs that the ledger had given to somebody else")


class Heart:
    """Keeps the leases of all jobs alive."""

    def __init__(
        self,
        link: Link,
        ledger: Ledger,
        kind: str,
        settings: WorkerSettings,
        jobs: Callable[[], Iterable[ClaimedJob]],
    ) -> None:
        self._link = link
        self._ledger = ledger
        self._kind = kind
        self._settings = settings
        self._jobs = jobs
        self._one_at_a_time = asyncio.Lock()
        #: The worker takes nothing more.
        self.leaving = False

    async def run(self) -> None:
        """Beat four times in a lease, and at once after a reconnect, until cancelled."""
        while True:
            session = await self._link.session()
            await self.beat()
            try:
                async with asyncio.timeout(self._settings.lease_s / 4):
                    await session.lost()
            except TimeoutError:
                continue

    async def beat(self) -> None:
        """Tell the ledger what we have; stop what is lost or to be cancelled."""
        async with self._one_at_a_time:
            await self._beat()

    async def make_sure(self, job: ClaimedJob) -> bool:
        """Whether the job is still ours; asks where its lease may have run out by now."""
        while job.cancel_reason != "lost":
            if self._is_sure(job):
                return True
            async with self._one_at_a_time:
                if not self._is_sure(job):
                    await self._beat()
        return False

    def _is_sure(self, job: ClaimedJob) -> bool:
        return time.monotonic() < job.sure_at + self._settings.lease_s

    async def _beat(self) -> None:
        asked = {job.key: job for job in self._jobs()}
        asked_at = time.monotonic()
        answer = await self._ledger.heartbeat(
            Heartbeat(
                worker=self._settings.worker_name,
                kind=self._kind,
                slots=self._settings.slots,
                lease_s=self._settings.lease_s,
                jobs=[job.held for job in asked.values()],
                leaving=self.leaving,
            )
        )
        lost, cancel = set(answer.lost), set(answer.cancel)
        for job in asked.values():
            # A later attempt of the same job, claimed meanwhile, is not meant.
            if job.id in lost:
                # One that is told of may just have been noted as over.
                if job.is_running and job.cancel_reason != "lost":
                    LOST.inc()
                    log.warning("a job was lost to another attempt", job_id=job.id)
                job.stop("lost")
                continue
            job.sure_at = asked_at
            if job.id in cancel:
                job.stop("cancelled")
