"""Sends what jobs tell: events in their order, log lines in batches, and the end of an attempt."""

import asyncio

import structlog
from prometheus_client import Counter

from qslice import names
from qslice.messages.ledger import Event, EventType
from qslice.messages.result import Result
from qslice.worker.handler import Stream
from qslice.worker.link import Link
from qslice.worker.publisher import Publisher, Still, TooLarge
from qslice.worker.results import cut_down
from qslice.worker.trail import Trail

log = structlog.get_logger(__name__)

#: Seconds that a log line waits for others to share its event.
LINGER_S = 0.1
#: Characters of one job's events that wait to be confirmed; who writes more has to wait.
MAX_WAITING = 256 * 1024
#: Seconds between two looks whether the broker came back, while a writer waits for room.
_LOOK_AGAIN_S = 0.5

SENT = Counter("qslice_worker_events", "Events confirmed by the broker", ["type"])
DROPPED = Counter("qslice_worker_events_dropped", "Events that the broker did not take")


class EventStream:
    """The events of one attempt on their way out; at most one batch is under way, so that
    publishing again does not change their order."""

    def __init__(self, reports: "Reports", trail: Trail) -> None:
        self._reports = reports
        self._trail = trail
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._dropped = False

    def tell(self, type_: EventType, urgent: bool = True, **fields: object) -> None:
        """Queue an event; an urgent one is sent at once."""
        self._trail.add(type_, **fields)
        self._soon(urgent)

    async def log(self, stream: Stream, text: str) -> None:
        """Queue output, waiting for room; while the broker is away, what has no room is lost."""
        while self._trail.size >= MAX_WAITING and not self._dropped:
            if not self._reports.link.is_up:
                self._trail.lose(text)
                return
            self._send()
            if self._sending is not None:
                await asyncio.wait((self._sending,), timeout=_LOOK_AGAIN_S)
        self._trail.log(stream, text)
        self._soon(self._trail.batch_is_full)

    async def flush(self) -> None:
        """Return once all that was told so far is confirmed."""
        while not self._dropped and (not self._trail.empty or self._sending is not None):
            self._send()
            if self._sending is not None:
                await asyncio.wait((self._sending,))

    def drop(self) -> None:
        """Send nothing more: the attempt is somebody else's."""
        self._dropped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._sending is not None:
            self._sending.cancel()

    def _soon(self, now: bool) -> None:
        if self._dropped:
            self._trail.sent(self._trail.take())
        elif now:
            self._send()
        elif self._timer is None and self._sending is None:
            self._timer = asyncio.get_running_loop().call_later(LINGER_S, self._send)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sending is None and not self._trail.empty and not self._dropped:
            self._sending = asyncio.create_task(self._work())
            self._sending.add_done_callback(self._sent)

    async def _work(self) -> None:
        events = self._trail.take()
        try:
            if len(events) == 1:
                await self._reports.event(events[0])
            else:
                await asyncio.gather(*(self._reports.event(event) for event in events))
        finally:
            self._trail.sent(events)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending = None
        if task.cancelled():
            return
        if (failed := task.exception()) is not None:
            log.error("events were not sent", exc_info=failed)
        if not self._trail.empty:
            self._soon(self._trail.batch_is_full)


class Reports:
    """What leaves a worker beside its requests to the ledger."""

    def __init__(self, link: Link, publisher: Publisher) -> None:
        self.link = link
        self._publisher = publisher

    def stream(self, trail: Trail) -> EventStream:
        return EventStream(self, trail)

    async def event(self, event: Event, still: Still | None = None) -> bool:
        """Until it is confirmed; what the broker finds too large is dropped.

        False where it was not sent.
        """
        key = names.event_key(event.project, event.kind, event.type)
        try:
            sent = await self._publisher.deliver(
                names.EXCHANGE_EVENTS, key, event.body(), still=still
            )
        except TooLarge as error:
            DROPPED.inc()
            log.error("an event was dropped", job_id=event.job_id, key=key, error=str(error))
            return False
        if sent:
            SENT.labels(event.type).inc()
        return sent

    async def result(self, result: Result, still: Still) -> bool:
        """Until it is confirmed; what the broker finds too large is cut down.

        False where it was not sent, since the attempt is not ours any more.
        """
        key = names.done_key(result.project, result.kind, result.state)
        message_id = f"{result.job_id}:{result.attempt}"
        body = result.body()
        try:
            return await self._publisher.deliver(names.EXCHANGE_DONE, key, body, message_id, still)
        except TooLarge as error:
            log.warning("a result is cut down", job_id=result.job_id, error=str(error))
            body = cut_down(result).body()
            return await self._publisher.deliver(names.EXCHANGE_DONE, key, body, message_id, still)
