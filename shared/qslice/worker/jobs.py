"""From a message to the end of its job: read, claim, do, tell."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, ValuesView

import structlog
from prometheus_client import Counter, Gauge, Histogram

from qslice.amqp import Cut
from qslice.faults import Fault, SystemFault
from qslice.messages.ledger import Claim, ClaimAnswer, Event, Reason
from qslice.messages.result import Result
from qslice.worker.delivery import Delivery
from qslice.worker.handler import Handler, Outcome, Task
from qslice.worker.heart import Heart
from qslice.worker.job import ClaimedJob, utc_now
from qslice.worker.publisher import Publisher
from qslice.worker.reports import Reports
from qslice.worker.results import About, verdict
from qslice.worker.rpc import Ledger
from qslice.worker.settings import WorkerSettings
from qslice.worker.todo import Poison, Todo, bury, read

log = structlog.get_logger(__name__)

#: Attempts that are over, remembered lest one be done again when its message comes once more.
REMEMBERED = 20_000
#: Seconds for a handler to clean up, and for its reports to leave, once the grace is over.
CLEAN_UP_S = 15.0

ENDED = Counter("qslice_worker_jobs", "Attempts ended, by what was told of them", ["kind", "end"])
RUNNING = Gauge("qslice_worker_jobs_running", "Attempts under way", ["kind"])
REFUSED = Counter("qslice_worker_claims_refused", "Claims that were not granted", ["reason"])
POISON = Counter("qslice_worker_messages_dead", "Messages put on a Dead queue", ["owner"])
DURATION = Histogram(
    "qslice_worker_job_seconds",
    "Time a handler took for an attempt",
    ["kind"],
    buckets=(0.01, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000),
)


class Held:
    """The attempts that a worker holds, and those that it held a while ago."""

    def __init__(self) -> None:
        self._now: dict[tuple[str, int], ClaimedJob] = {}
        self._before: OrderedDict[tuple[str, int], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._now)

    def all(self) -> ValuesView[ClaimedJob]:
        return self._now.values()

    def of(self, job_id: str | None) -> list[ClaimedJob]:
        """Its attempts: more than one only until the earlier is cleaned up."""
        return [job for job in self._now.values() if job.id == job_id]

    def knows(self, job: ClaimedJob) -> bool:
        return job.key in self._now or job.key in self._before

    def add(self, job: ClaimedJob) -> None:
        self._now[job.key] = job

    def over(self, job: ClaimedJob) -> None:
        del self._now[job.key]
        self._before[job.key] = None
        if len(self._before) > REMEMBERED:
            self._before.popitem(last=False)
        job.over.set()


class Jobs:
    """Serves messages, each in a slot of its own."""

    def __init__(
        self,
        handler: Handler,
        settings: WorkerSettings,
        ledger: Ledger,
        publisher: Publisher,
        reports: Reports,
        heart: Heart,
        held: Held,
    ) -> None:
        self._handler = handler
        self._settings = settings
        self._ledger = ledger
        self._publisher = publisher
        self._reports = reports
        self._heart = heart
        self._held = held
        self._serving: set[asyncio.Task[None]] = set()
        #: What is claimed from now on is handed back.
        self.leaving = False
        #: Called when a slot is free again.
        self.when_done: Callable[[], None] = lambda: None

    @property
    def idle(self) -> bool:
        return not self._serving

    def serve(self, delivery: Delivery) -> None:
        serving = asyncio.create_task(self._serve_safely(delivery))
        self._serving.add(serving)
        serving.add_done_callback(self._served)

    async def wait(self, seconds: float, unless: asyncio.Event | None = None) -> None:
        """Until nothing is served any more, the time is over, or the event comes."""
        hurry = asyncio.create_task((unless or asyncio.Event()).wait())
        end = time.monotonic() + seconds
        try:
            while self._serving and not hurry.done() and (left := end - time.monotonic()) > 0:
                await asyncio.wait(
                    {hurry, *self._serving}, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            hurry.cancel()

    async def abandon(self) -> None:
        """Cancel all that is still served, without reports."""
        for job in self._held.all():
            job.stop("shutdown")
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _served(self, serving: asyncio.Task[None]) -> None:
        self._serving.discard(serving)
        self.when_done()

    async def _serve_safely(self, delivery: Delivery) -> None:
        try:
            await self._serve(delivery)
        except Exception:
            log.exception("a message could not be served", queue=delivery.queue)
            delivery.give_back()

    async def _serve(self, delivery: Delivery) -> None:
        try:
            todo = read(delivery.message.headers, delivery.message.body, self._handler.read)
            asked_at = time.monotonic()
            answer = await self._ledger.claim(self._claim(delivery, todo), delivery.session)
            if answer.reason is Reason.UNKNOWN:
                raise Poison("", "there is no such project or job")
        except Poison as poison:
            await self._bury(delivery, poison)
        except Cut:
            log.debug("cut before the claim: the message comes again", queue=delivery.queue)
        else:
            if answer.granted and answer.job_id is not None:
                about = self._about(delivery, todo.task, answer, answer.job_id)
                job = ClaimedJob(about, todo.task, answer.credentials, self._reports, asked_at)
                await self._hold(job, delivery)
            else:
                REFUSED.labels(answer.reason).inc()
                log.debug("not granted", reason=answer.reason, job_id=todo.job_id)
                delivery.ack()

    async def _bury(self, delivery: Delivery, poison: Poison) -> None:
        log.warning("a message goes to Dead", queue=delivery.queue, reason=str(poison))
        try:
            await bury(self._publisher, delivery, poison)
        except Cut:
            log.debug("cut before Dead had it: the message comes again", queue=delivery.queue)
            return
        POISON.labels(poison.owner).inc()
        delivery.ack()

    def _claim(self, delivery: Delivery, todo: Todo) -> Claim:
        return Claim(
            job_id=todo.job_id,
            attempt=todo.attempt,
            project=delivery.project,
            kind=self._handler.kind,
            producer_id=todo.task.producer_id,
            payload=todo.task.payload if todo.job_id is None else None,
            labels=todo.task.labels,
            priority=todo.task.priority,
            worker=self._settings.worker_name,
            lease_s=self._settings.lease_s,
        )

    def _about(self, delivery: Delivery, task: Task, answer: ClaimAnswer, job_id: str) -> About:
        return About(
            job_id=job_id,
            project=delivery.project,
            kind=self._handler.kind,
            attempt=answer.attempt,
            worker=self._settings.worker_name,
            producer_id=task.producer_id,
            batch_id=answer.batch_id,
            labels=task.labels,
            extra=task.extra,
            submitted_at=answer.submitted_at,
            started_at=answer.started_at or utc_now(),
        )

    async def _hold(self, job: ClaimedJob, delivery: Delivery) -> None:
        if self._held.knows(job):
            # Its first delivery could not be acknowledged over a connection that broke.
            delivery.ack()
            return
        earlier = self._held.of(job.id)
        self._held.add(job)
        try:
            delivery.ack()
            for other in earlier:
                other.stop("lost")
                await other.over.wait()
            if self.leaving:
                job.stop("shutdown")
            with RUNNING.labels(job.kind).track_inprogress():
                told = await self._run(job)
            await self._tell(job, told)
        finally:
            self._held.over(job)

    async def _run(self, job: ClaimedJob) -> Result | Event | None:
        """What the attempt ends with; None where there is nothing to tell."""
        running = asyncio.create_task(self._do(job))
        job.runs_as(running)
        try:
            await asyncio.wait((running,))
        except asyncio.CancelledError:
            running.cancel()
            await asyncio.wait((running,), timeout=CLEAN_UP_S)
            raise
        DURATION.labels(job.kind).observe(job.duration_s)
        ended: Outcome | BaseException
        if running.cancelled():
            ended = asyncio.CancelledError()
        else:
            ended = running.exception() or running.result()
        try:
            return verdict(job.about, ended, job.cancel_reason, utc_now(), job.duration_s)
        except ValueError as wrong:
            log.exception("the handler's outcome is no result", job_id=job.id)
            return verdict(job.about, wrong, job.cancel_reason, utc_now(), job.duration_s)

    async def _do(self, job: ClaimedJob) -> Outcome:
        if not await self._heart.make_sure(job):
            raise asyncio.CancelledError
        with structlog.contextvars.bound_contextvars(job_id=job.id, attempt=job.attempt):
            try:
                return await self._handler.run(job)
            except SystemFault as fault:
                log.warning("system fault", code=fault.code, error=fault.message)
                raise
            except Fault:
                raise
            except Exception:
                log.exception("the handler failed")
                raise

    async def _tell(self, job: ClaimedJob, told: Result | Event | None) -> None:
        await job.flush()

        async def still_ours() -> bool:
            return await self._heart.make_sure(job)

        if isinstance(told, Result):
            end, sent = told.state.value, await self._reports.result(told, still_ours)
        elif told is not None:
            end, sent = told.type.value, await self._reports.event(told, still_ours)
        else:
            end, sent = "lost", True
        ENDED.labels(job.kind, end if sent else "lost").inc()
