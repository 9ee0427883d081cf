"""The worker: puts the parts together, and stops them in order."""

import asyncio

import structlog

from qslice.backoff import Backoff
from qslice.faults import SystemFault
from qslice.messages.ledger import Control
from qslice.worker.control import ControlListener
from qslice.worker.feeder import Feeder
from qslice.worker.handler import Handler
from qslice.worker.heart import Heart
from qslice.worker.jobs import CLEAN_UP_S, Held, Jobs
from qslice.worker.link import Link
from qslice.worker.publisher import Publisher
from qslice.worker.reports import Reports
from qslice.worker.rpc import PATIENCE_S, Ledger
from qslice.worker.settings import WorkerSettings

log = structlog.get_logger(__name__)

#: The lease for which the patience with the ledger is made; a shorter one shortens it.
_USUAL_LEASE_S = 20.0
#: Seconds for the broker to take the consumers away at a stop.
_QUIET_S = 5.0


class Worker:
    """Does one kind of job, up to `slots` at once, for every project, until `stop`."""

    def __init__(self, handler: Handler, settings: WorkerSettings) -> None:
        self._handler = handler
        self._settings = settings
        self._link = Link(settings.amqp_url.get_secret_value(), settings.worker_name)
        hasty = min(1.0, settings.lease_s / _USUAL_LEASE_S)
        self._ledger = Ledger(self._link, tuple(hasty * seconds for seconds in PATIENCE_S))
        publisher = Publisher(self._link)
        self._held = Held()
        self._heart = Heart(self._link, self._ledger, handler.kind, settings, self._held.all)
        self._jobs = Jobs(
            handler,
            settings,
            self._ledger,
            publisher,
            Reports(self._link, publisher),
            self._heart,
            self._held,
        )
        self._feeder = Feeder(self._link, handler.kind, settings.slots, self._jobs.serve)
        self._jobs.when_done = self._feeder.release
        ControlListener(self._link, self._hear)
        self._projects_changed = 0
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    @property
    def jobs(self) -> list[str]:
        """The ids of the jobs that it holds."""
        return [job.id for job in self._held.all()]

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._link.is_up

    def stop(self) -> None:
        """Take nothing more and end when all is done; called again, do not wait for the grace."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`. Whatever it raises is a mistake of ours: start it anew."""
        log.info("worker starts", worker=self._settings.worker_name, kind=self._handler.kind)
        if not await self._start_handler():
            return
        try:
            async with asyncio.TaskGroup() as group:
                parts = [
                    group.create_task(part)
                    for part in (
                        self._link.run(),
                        self._heart.run(),
                        self._feeder.run(),
                        self._follow_projects(),
                        self._sweep(),
                    )
                ]
                await self._stop.wait()
                await self._finish()
                for part in parts:
                    part.cancel()
        finally:
            await self._jobs.abandon()
            await self._handler.stop()
            log.info("worker ends", worker=self._settings.worker_name)

    async def _start_handler(self) -> bool:
        """False where it was stopped before its handler could start."""
        backoff = Backoff(base=1.0, cap=60.0)
        failures = 0
        while not self._stop.is_set():
            try:
                await self._handler.start()
                return True
            except SystemFault as fault:
                failures += 1
                delay = backoff.delay(failures)
                log.error("cannot start yet", code=fault.code, error=fault.message, seconds=delay)
                try:
                    async with asyncio.timeout(delay):
                        await self._stop.wait()
                except TimeoutError:
                    continue
        return False

    async def _finish(self) -> None:
        """Finish what runs within the grace, hand back the rest."""
        grace_s = self._settings.grace_s
        log.info("stopping: nothing more is taken", jobs=len(self._held), grace_s=grace_s)
        self._jobs.leaving = self._heart.leaving = True
        telling = asyncio.create_task(self._heart.beat())
        try:
            async with asyncio.timeout(_QUIET_S):
                await self._feeder.stop()
        except TimeoutError:
            log.warning("the broker does not answer; what was not claimed comes again elsewhere")
        await self._jobs.wait(grace_s, unless=self._hurry)
        if not self._jobs.idle:
            log.warning("the grace is over: jobs are handed back", jobs=len(self._held))
            for job in list(self._held.all()):
                job.stop("shutdown")
            await self._jobs.wait(CLEAN_UP_S)
        if not self._jobs.idle:
            log.error("left without a report; their leases run out", jobs=self.jobs)
        await asyncio.wait((telling,), timeout=1.0)
        telling.cancel()

    def _hear(self, control: Control) -> None:
        if control.op == "cancel":
            for job in self._held.of(control.job_id):
                log.info("cancelled on request", job_id=job.id)
                job.stop("cancelled")
        elif control.project is not None:
            self._projects_changed += 1
            if control.op == "project-created":
                self._feeder.add(control.project)
            else:
                self._feeder.discard(control.project)

    async def _follow_projects(self) -> None:
        """Ask which projects there are: with each connection, and now and then."""
        while True:
            session = await self._link.session()
            before = self._projects_changed
            projects = await self._ledger.projects()
            if before != self._projects_changed:
                continue  # The answer may be older than what was called out meanwhile.
            self._feeder.serve(set(projects))
            try:
                async with asyncio.timeout(self._settings.projects_s):
                    await session.lost()
            except TimeoutError:
                continue

    async def _sweep(self) -> None:
        while True:
            try:
                await self._handler.sweep(self._owned)
            except Exception:
                log.exception("a sweep failed; the next one tries again")
            await asyncio.sleep(self._settings.sweep_s)

    async def _owned(self, job_ids: list[str]) -> set[str]:
        mine = {job.id for job in self._held.all()} & set(job_ids)
        return mine | await self._ledger.owned([job for job in job_ids if job not in mine])
