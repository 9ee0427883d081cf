"""Results: the first one of the attempt that runs ends the job."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from qslice.states import FINAL, State

from qslice_gateway.ledger import dead_letters, metrics
from qslice_gateway.ledger.broker import Delivery
from qslice_gateway.ledger.reading import Unreadable, read_object
from qslice_gateway.store import transitions
from qslice_gateway.store.pool import AsyncPool

_logger = structlog.get_logger(__name__)

_FINISH = {
    state: transitions.change(
        state,
        """SELECT * FROM json_to_recordset(%s::json) AS i (
               job_id text, project text, attempt integer, exit_code integer, error_owner text,
               error_code text, event jsonb, result jsonb)""",
        guard="j.state = 'running' AND j.attempt = i.attempt AND j.project = i.project",
        sets={
            "result": "i.result",
            "exit_code": "i.exit_code",
            "error_owner": "i.error_owner",
            "error_code": "i.error_code",
        },
        data="i.event",
        answer="SELECT m.batch_id FROM moved m",
    )
    for state in FINAL
}


@dataclass(frozen=True, slots=True)
class Finished:
    """What the database needs of a result."""

    state: State
    job_id: str
    row: dict[str, Any]


class Finishing:
    """Ends jobs by batches of results."""

    def __init__(self, pool: AsyncPool, batch_ended: Callable[[], None]) -> None:
        self._pool = pool
        self._batch_ended = batch_ended

    async def handle(self, batch: list[Delivery]) -> None:
        """End the jobs of a batch; what is not of a running attempt is ignored.

        What the ledger itself put on Done is among them, and is ignored likewise.
        """
        by_state: defaultdict[State, dict[str, Finished]] = defaultdict(dict)
        for delivery in batch:
            found = read_result(delivery.body)
            # The first of one attempt counts, within a batch as between batches.
            by_state[found.state].setdefault(f"{found.job_id}:{found.row['attempt']}", found)
        async with self._pool.connection() as conn:
            for state, items in by_state.items():
                cursor = await conn.execute(
                    _FINISH[state],
                    [orjson.dumps([item.row for item in items.values()]).decode()],
                    prepare=True,
                )
                ended = await cursor.fetchall()
                metrics.FINISHED.labels(state).inc(len(ended))
                metrics.IGNORED.inc(len(items) - len(ended))
                if any(row["batch_id"] is not None for row in ended):
                    self._batch_ended()

    async def give_up(self, delivery: Delivery, wrong: Exception) -> None:
        """Keep what cannot be stored as a dead letter, where its key names a project."""
        metrics.POISON.labels("done").inc()
        _logger.error(
            "a result cannot be stored",
            error=str(wrong),
            key=delivery.routing_key,
            body=delivery.body[:1000],
        )
        await dead_letters.keep(self._pool, delivery, f"The result cannot be stored: {wrong}")


def read_result(body: bytes) -> Finished:
    """A result's columns, checked by hand: it is the most frequent message. Raises `Unreadable`."""
    value = read_object(body)
    try:
        state = State(value.get("state", ""))
    except ValueError:
        raise Unreadable(f"state: {str(value.get('state'))[:80]!r} is no state") from None
    if state not in FINAL:
        raise Unreadable(f"state: {state} is not the end of a job")
    job_id, attempt, project = value.get("job_id"), value.get("attempt"), value.get("project")
    exit_code, error = value.get("exit_code"), value.get("error")
    if not isinstance(job_id, str) or not isinstance(project, str):
        raise Unreadable("job_id and project must be strings")
    if not _is_integer(attempt):
        raise Unreadable("attempt: must be an integer")
    if exit_code is not None and not _is_integer(exit_code):
        raise Unreadable("exit_code: must be an integer")
    if error is not None and not isinstance(error, dict):
        raise Unreadable("error: must be an object")
    event = {"exit_code": exit_code, "error": error, "worker": value.get("worker")}
    return Finished(
        state,
        job_id,
        {
            "job_id": job_id,
            "project": project,
            "attempt": attempt,
            "exit_code": exit_code,
            "error_owner": _short(error, "owner"),
            "error_code": _short(error, "code"),
            "event": {name: part for name, part in event.items() if part is not None},
            "result": value,
        },
    )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**31


def _short(error: dict[str, Any] | None, name: str) -> str | None:
    value = (error or {}).get(name)
    return value[:200] if isinstance(value, str) else None
