"""What workers tell of their jobs: log lines, progress, faults; recorded, and acted upon."""

from collections.abc import Callable, Sequence
from typing import Any

import orjson
import structlog
from qslice.backoff import Backoff
from qslice.messages.completion import PublicationReport
from qslice.messages.ledger import Event, EventType

from qslice_gateway.ledger import failures, metrics, publications
from qslice_gateway.ledger.broker import Delivery
from qslice_gateway.ledger.reading import read_object
from qslice_gateway.store.pool import AsyncConnection, AsyncPool

_logger = structlog.get_logger(__name__)

#: Bytes of log that are kept of one job; then comes one line that says so.
MAX_LOG_BYTES = 4 * 1024 * 1024
CUT = "[the log is longer than 4 MiB; what follows was not kept]\n"

# The row of `job_log_sizes` is locked before the lines get their ids, so the ids of one job become
# visible in their order, whichever ledgers write.
_LOGS = f"""
WITH lines AS (
    SELECT * FROM json_to_recordset(%(items)s::json) AS l (
        n integer, job_id text, attempt integer, seq integer, stream text, at timestamptz,
        text text)
), known AS (
    SELECT l.*, octet_length(l.text) AS size FROM lines l
    WHERE EXISTS (SELECT 1 FROM jobs j WHERE j.id = l.job_id)
), sized AS (
    INSERT INTO job_log_sizes AS s (job_id, bytes)
    SELECT job_id, sum(size) FROM known GROUP BY job_id ORDER BY job_id
    ON CONFLICT (job_id) DO UPDATE SET bytes = s.bytes + excluded.bytes
    RETURNING s.job_id, s.bytes
), placed AS (
    SELECT k.*, s.bytes - sum(k.size) OVER (PARTITION BY k.job_id)
                + sum(k.size) OVER (PARTITION BY k.job_id ORDER BY k.n) AS ends
    FROM known k JOIN sized s USING (job_id)
)
INSERT INTO job_logs (job_id, attempt, seq, stream, at, text)
SELECT job_id, attempt, seq,
       CASE WHEN ends > {MAX_LOG_BYTES} THEN 'system' ELSE stream END, at,
       CASE WHEN ends > {MAX_LOG_BYTES} THEN %(cut)s ELSE text END
FROM placed WHERE ends - size <= {MAX_LOG_BYTES} AND size > 0
ORDER BY n
ON CONFLICT DO NOTHING"""

# The job's row is locked for the same reason, as it is by every change of its state. A message
# that comes a second time after a crash is known by its time.
_EVENTS = """
WITH items AS (
    SELECT * FROM json_to_recordset(%s::json) AS i (
        n integer, job_id text, attempt integer, type text, at timestamptz, data jsonb,
        redelivered boolean)
), held AS (
    SELECT j.id FROM jobs j WHERE j.id IN (SELECT job_id FROM items)
    ORDER BY j.id FOR NO KEY UPDATE
)
INSERT INTO job_events (job_id, attempt, at, type, data)
SELECT i.job_id, i.attempt, i.at, i.type, i.data FROM items i JOIN held ON held.id = i.job_id
WHERE NOT i.redelivered OR NOT EXISTS (
    SELECT 1 FROM job_events e
    WHERE e.job_id = i.job_id AND e.attempt = i.attempt AND e.type = i.type AND e.at = i.at)
ORDER BY i.n"""

_NOT_OF_WORKERS = frozenset({"batch", "completion", "publication"})
_FAULTS = (EventType.FAULT, EventType.RELEASED)


class Recording:
    """Records batches of events."""

    def __init__(
        self,
        pool: AsyncPool,
        backoff: Backoff,
        wake: Callable[[], None],
        due: Callable[[], None] | None = None,
    ) -> None:
        """due: called when a resource is due to be published; None: none ever is."""
        self._pool = pool
        self._backoff = backoff
        self._wake = wake
        self._due = due

    async def handle(self, batch: list[Delivery]) -> None:
        """Record a batch; repeated after a crash, it adds nothing twice."""
        found = [(event, one.redelivered) for one in batch if (event := read_event(one.body))]
        logs = [event for event, _ in found if event.type is EventType.LOG]
        others = [(e, again) for e, again in found if e.type not in (EventType.LOG, *_FAULTS)]
        faults = [event for event, _ in found if event.type in _FAULTS]
        resources = [event for event, _ in found if event.type is EventType.RESOURCE]
        reports = [report for one in batch if (report := read_report(one.body))]
        async with self._pool.connection() as conn:
            if logs:
                await _write_logs(conn, logs)
            if others:
                await _write_events(conn, others)
            if resources and self._due and await publications.note_resources(conn, resources):
                self._due()
            if reports:
                await publications.note_reports(conn, reports)
            if faults:
                async with conn.transaction():
                    touched = await failures.settle(
                        conn, [failure(event) for event in faults], self._backoff
                    )
                if touched:
                    self._wake()
        for event, _ in found:
            metrics.EVENTS.labels(event.type).inc()

    async def give_up(self, delivery: Delivery, wrong: Exception) -> None:
        """An event is told once; the job goes on without it."""
        metrics.POISON.labels("events").inc()
        _logger.error(
            "an event cannot be recorded",
            error=str(wrong),
            key=delivery.routing_key,
            body=delivery.body[:1000],
        )


def read_event(body: bytes) -> Event | None:
    """The event of a worker; None for what the ledger or the publisher told. Raises `Rejected`."""
    value = read_object(body)
    return None if value.get("type") in _NOT_OF_WORKERS else Event.of(value)


def read_report(body: bytes) -> PublicationReport | None:
    """What the metadata publisher told; None for anything else. Raises `Rejected`."""
    if b'"publication"' not in body:
        return None
    value = read_object(body)
    return PublicationReport.of(value) if value.get("type") == "publication" else None


def failure(event: Event) -> failures.Failure:
    """A fault or a release as the end of an attempt; pure."""
    released = event.type is EventType.RELEASED
    error = (
        event.error.model_dump(mode="json")
        if event.error is not None
        else {
            "owner": "system",
            "code": "released" if released else "internal",
            "message": "Handed back by its worker." if released else "The worker gave no reason.",
        }
    )
    return failures.Failure(event.job_id, event.attempt, "released" if released else "fault", error)


async def _write_logs(conn: AsyncConnection, events: Sequence[Event]) -> None:
    items = [
        {
            "n": n,
            "job_id": event.job_id,
            "attempt": event.attempt,
            "seq": event.seq,
            "stream": event.stream,
            "at": event.at,
            "text": event.text or "",
        }
        for n, event in enumerate(events)
    ]
    await conn.execute(_LOGS, {"items": orjson.dumps(items).decode(), "cut": CUT}, prepare=True)


async def _write_events(conn: AsyncConnection, events: Sequence[tuple[Event, bool]]) -> None:
    last_progress = {
        event.job_id: n for n, (event, _) in enumerate(events) if event.type is EventType.PROGRESS
    }
    items = [
        {
            "n": n,
            "job_id": event.job_id,
            "attempt": event.attempt,
            "type": event.type,
            "at": event.at,
            "data": event_data(event),
            "redelivered": redelivered,
        }
        for n, (event, redelivered) in enumerate(events)
        # Of several of one moment the last one tells all.
        if event.type is not EventType.PROGRESS or last_progress[event.job_id] == n
    ]
    await conn.execute(_EVENTS, [orjson.dumps(items).decode()], prepare=True)


def event_data(event: Event) -> dict[str, Any] | None:
    """What is kept of an event beside its type and time; pure."""
    data: dict[str, Any] = dict(event.data or {})
    if event.fraction is not None:
        data["fraction"] = event.fraction
    if event.text is not None:
        data["text"] = event.text
    return data or None
