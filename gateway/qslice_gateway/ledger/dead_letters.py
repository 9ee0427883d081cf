"""Dead letters: what stands on a Dead queue is kept with its reason, and ends its job."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import structlog
from qslice import names
from qslice.faults import Owner
from qslice.states import State

from qslice_gateway.ledger import metrics
from qslice_gateway.ledger.broker import Delivery
from qslice_gateway.ledger.reading import clean
from qslice_gateway.store import transitions
from qslice_gateway.store.pool import AsyncPool

_logger = structlog.get_logger(__name__)

_MAX_REASON = 2000


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it is stored."""

    project: str
    queue: str | None
    job_id: str | None
    attempt: int | None
    reason: str
    field: str | None
    owner: str
    redelivered: bool


# A message that comes again after a crash of the ledger is known by what it is.
_KEEP = """
WITH items AS (
    SELECT i.*, b.body FROM json_to_recordset(%(items)s::json) AS i (
        n integer, project text, queue text, job_id text, reason text, field text, owner text,
        redelivered boolean)
    JOIN unnest(%(bodies)s::bytea[]) WITH ORDINALITY AS b (body, n) USING (n)
)
INSERT INTO dead_letters (project, queue, job_id, body, reason, field, owner)
SELECT i.project, i.queue, i.job_id, i.body, i.reason, i.field, i.owner
FROM items i JOIN projects p ON p.name = i.project
WHERE NOT i.redelivered OR NOT EXISTS (
    SELECT 1 FROM dead_letters d
    WHERE d.project = i.project AND d.body = i.body AND d.reason = i.reason
      AND d.at > now() - interval '1 hour' AND d.deleted_at IS NULL)
ORDER BY i.n"""

_ERROR = """jsonb_build_object('owner', i.owner, 'code', i.code, 'message', i.message)"""


def _end(state: State) -> str:
    """A running job is its worker's: what is dead then is a copy of its message."""
    return transitions.change(
        state,
        """SELECT * FROM json_to_recordset(%s::json) AS i (
               job_id text, project text, attempt integer, owner text, code text, message text)""",
        guard="""j.state <> 'running' AND j.project = i.project
                 AND (i.attempt IS NULL OR j.attempt = i.attempt)""",
        through=State.QUEUED,
        sets=transitions.ended_by_ledger(state, _ERROR),
        data="j.result->'error'",
        steps={"done": transitions.TELL_DONE, "taken_back": transitions.TAKE_BACK},
    )


#: By whose fault the message is dead.
_ENDS = {
    Owner.USER: _end(State.FAILED),
    Owner.SYSTEM: _end(State.DEAD),
}


class Burying:
    """Keeps batches of dead letters."""

    def __init__(self, pool: AsyncPool, wake: Callable[[], None]) -> None:
        self._pool = pool
        self._wake = wake

    async def handle(self, batch: list[Delivery]) -> None:
        """Keep a batch and end the jobs that it names, in one transaction."""
        found = [(letter, one.body) for one in batch if (letter := read_letter(one)) is not None]
        if not found:
            return
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute(_KEEP, _parameters(found))
            for owner, statement in _ENDS.items():
                items = [letter for letter, _ in found if letter.owner == owner and letter.job_id]
                if items:
                    await conn.execute(statement, [_ended(items)])
        self._wake()
        for letter, _ in found:
            metrics.DEAD_LETTERS.labels(letter.owner).inc()

    async def give_up(self, delivery: Delivery, wrong: Exception) -> None:
        """Log it; it stands on the project's own Dead queue too."""
        metrics.POISON.labels("dead").inc()
        _logger.error(
            "a dead letter cannot be kept",
            error=str(wrong),
            key=delivery.routing_key,
            body=delivery.body[:1000],
        )


async def keep(pool: AsyncPool, delivery: Delivery, reason: str) -> None:
    """Keep a message of the ledger's own queues whose routing key begins with a project."""
    project = delivery.routing_key.partition(".")[0]
    letter = Letter(
        project, None, None, None, reason[:_MAX_REASON], None, Owner.SYSTEM, delivery.redelivered
    )
    async with pool.connection() as conn:
        await conn.execute(_KEEP, _parameters([(letter, delivery.body)]))


def read_letter(delivery: Delivery) -> Letter | None:
    """What the headers say; None where the key names no project's Dead queue. Pure."""
    project = delivery.routing_key.partition(".")[0]
    if delivery.routing_key != names.dead(project):
        _logger.error("no dead letter of a project", key=delivery.routing_key)
        return None
    headers = delivery.properties.headers or {}
    queue = _string(headers.get(names.HEADER_QUEUE))
    reason = _string(headers.get(names.HEADER_REASON))
    owner = Owner.SYSTEM if headers.get(names.HEADER_OWNER) == Owner.SYSTEM else Owner.USER
    if reason is None:
        reason, queue, owner = _by_broker(headers, queue)
    attempt = headers.get(names.HEADER_ATTEMPT)
    return Letter(
        project=project,
        queue=queue,
        job_id=_string(headers.get(names.HEADER_JOB)),
        attempt=attempt if isinstance(attempt, int) and 0 < attempt < 2**31 else None,
        reason=reason[:_MAX_REASON],
        field=_string(headers.get(names.HEADER_FIELD)),
        owner=owner,
        redelivered=delivery.redelivered,
    )


def _by_broker(headers: dict[str, Any], queue: str | None) -> tuple[str, str | None, Owner]:
    """Reason, queue and owner of what the broker itself gave up (its header `x-death`)."""
    deaths = headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths else None
    if not isinstance(death, dict):
        return "No reason was given.", queue, Owner.SYSTEM
    why = _string(death.get("reason")) or "unknown"
    words = {
        "delivery_limit": (
            "Delivered as often as a message may be, and never acknowledged: each worker that "
            "took it ended, or gave it back."
        ),
        "expired": "It waited for longer than its time to live.",
        "rejected": "A consumer rejected it.",
        "maxlen": "The queue was full.",
    }
    return (
        words.get(why, f"The broker gave it up: {why}"),
        _string(death.get("queue")),
        Owner.SYSTEM,
    )


def _string(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return clean(value)[:_MAX_REASON] if isinstance(value, str) else None


def _parameters(found: Sequence[tuple[Letter, bytes]]) -> dict[str, Any]:
    items = [{"n": n, **asdict(letter)} for n, (letter, _) in enumerate(found, start=1)]
    return {"items": orjson.dumps(items).decode(), "bodies": [body for _, body in found]}


def _ended(letters: Sequence[Letter]) -> str:
    items = {
        letter.job_id: {
            "job_id": letter.job_id,
            "project": letter.project,
            "attempt": letter.attempt,
            "owner": letter.owner,
            "code": "rejected" if letter.owner == Owner.USER else "undeliverable",
            "message": f"{letter.field}: {letter.reason}" if letter.field else letter.reason,
        }
        for letter in letters
    }
    return orjson.dumps(list(items.values())).decode()
