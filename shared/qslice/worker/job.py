"""A job that was claimed, as the worker keeps it and as the handler sees it."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

from qslice.messages.ledger import EventType, Held
from qslice.worker.handler import CancelReason, Outcome, Stream, Task
from qslice.worker.reports import EventStream, Reports
from qslice.worker.results import About
from qslice.worker.trail import Trail


def utc_now() -> datetime:
    return datetime.now(UTC)


class ClaimedJob:
    """One attempt; see `qslice.worker.handler.Job` for what its public part promises."""

    def __init__(
        self,
        about: About,
        task: Task,
        credentials: dict[str, Any] | None,
        reports: Reports,
        asked_at: float,
    ) -> None:
        self.about = about
        self._task = task
        self._credentials = credentials
        self._events: EventStream = reports.stream(Trail(about, utc_now))
        self._running: asyncio.Task[Outcome] | None = None
        self._stopped: CancelReason | None = None
        self._begun = time.monotonic()
        #: When (monotonic) the ledger was last asked about it and said that it is ours.
        self.sure_at = asked_at
        #: Set when nothing of this attempt is left to do.
        self.over = asyncio.Event()

    @property
    def id(self) -> str:
        return self.about.job_id

    @property
    def project(self) -> str:
        return self.about.project

    @property
    def kind(self) -> str:
        return self.about.kind

    @property
    def attempt(self) -> int:
        return self.about.attempt

    @property
    def producer_id(self) -> str | None:
        return self.about.producer_id

    @property
    def batch_id(self) -> str | None:
        return self.about.batch_id

    @property
    def submitted_at(self) -> datetime | None:
        return self.about.submitted_at

    @property
    def request(self) -> Any:
        return self._task.request

    @property
    def credentials(self) -> dict[str, Any] | None:
        return self._credentials

    @property
    def cancel_reason(self) -> CancelReason | None:
        return self._stopped

    async def started(self, **data: Any) -> None:
        self._events.tell(EventType.STARTED, data=data)

    async def log(self, stream: Stream, text: str) -> None:
        await self._events.log(stream, text)

    async def progress(self, fraction: float, text: str = "") -> None:
        bounded = min(1.0, max(0.0, fraction))
        self._events.tell(EventType.PROGRESS, urgent=False, fraction=bounded, text=text[:1000])

    async def resource(self, **data: Any) -> None:
        self._events.tell(EventType.RESOURCE, data=data)

    @property
    def key(self) -> tuple[str, int]:
        return self.about.job_id, self.about.attempt

    @property
    def held(self) -> Held:
        return Held(job_id=self.about.job_id, attempt=self.about.attempt)

    @property
    def duration_s(self) -> float:
        return time.monotonic() - self._begun

    @property
    def is_running(self) -> bool:
        """Whether the handler is at it."""
        return self._running is not None and not self._running.done()

    def runs_as(self, running: asyncio.Task[Outcome]) -> None:
        """The handler's task; it is cancelled at once where the job was stopped before."""
        self._running = running
        if self._stopped is not None:
            running.cancel()

    def stop(self, reason: CancelReason) -> None:
        """Cancel the handler, for the first reason that was given; "lost" outranks the others."""
        if self._stopped is None:
            self._stopped = reason
            if self._running is not None:
                self._running.cancel()
        elif reason == "lost":
            self._stopped = reason
        if reason == "lost":
            self._events.drop()

    async def flush(self) -> None:
        """Return once all events are confirmed."""
        await self._events.flush()
