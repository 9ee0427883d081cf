"""Publications: what the publisher is told, and what it reports.

A finished batch, or a resource's event, makes a row that is due in the transaction that records
it. Composing its completion means reading all results of a batch, so a thread does that
afterwards, and writes the completion and its outbox row in one transaction.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import UTC
from typing import Any

import orjson
import psycopg
import structlog
from qslice import ids, names
from qslice.messages.base import Rejected
from qslice.messages.completion import (
    COMPLETION,
    Completion,
    PublicationReport,
    PublicationState,
    ResourceFacts,
)
from qslice.messages.ledger import Event

from qslice_gateway import results
from qslice_gateway.batches import Points
from qslice_gateway.ledger import completions
from qslice_gateway.store import batches, publications
from qslice_gateway.store.pool import AsyncConnection, AsyncPool, Pool, open_pool
from qslice_gateway.store.query import one, row, rows

_logger = structlog.get_logger(__name__)

#: Seconds between two looks at the most; a finished batch calls earlier.
LOOK_S = 2.0
_PACE_S = 0.05

#: A common table expression over `finished (id, project, name)`: batches that have results of
#: worth are due to be published; a batch that was opened again and is finished again, once more.
OF_FINISHED = """
    INSERT INTO publications (id, project, what, name)
    SELECT f.id, f.project, 'batch', coalesce(f.name, f.id) FROM finished f
    WHERE EXISTS (SELECT 1 FROM jobs j WHERE j.batch_id = f.id AND j.state = 'succeeded')
    ON CONFLICT (id) DO UPDATE
    SET revision = publications.revision + 1, due = true, state = 'pending', error = NULL,
        asked_at = clock_timestamp()"""

# Facts of one moment may overtake those of an earlier one: the later ones stay on top.
_OF_RESOURCES = """
WITH told AS (
    SELECT * FROM json_to_recordset(%s::json) AS t (
        id text, project text, what text, name text, job_id text, facts jsonb)
)
INSERT INTO publications AS p (id, project, what, name, job_id, facts)
SELECT id, project, what, name, job_id, facts FROM told
ON CONFLICT (id) DO UPDATE
SET facts = CASE WHEN excluded.facts->>'at' > p.facts->>'at' THEN p.facts || excluded.facts
                 ELSE excluded.facts || p.facts END,
    revision = p.revision + 1, due = true, state = 'pending', error = NULL,
    asked_at = clock_timestamp()
WHERE p.project = excluded.project
  AND p.facts IS DISTINCT FROM CASE
      WHEN excluded.facts->>'at' > p.facts->>'at' THEN p.facts || excluded.facts
      ELSE excluded.facts || p.facts END"""

# The object's id is kept whatever revision it was told for; the state is that of the revision
# asked for last. What is published stays so: a delay that was reported before may come later.
_REPORT = """
UPDATE publications p
SET internal_id = coalesce(r.internal_id, p.internal_id),
    portal_url = coalesce(r.portal_url, p.portal_url),
    published_at = CASE WHEN r.state = 'published' THEN r.at ELSE p.published_at END,
    state = CASE WHEN fits THEN r.state ELSE p.state END,
    action = CASE WHEN fits THEN r.action ELSE p.action END,
    error = CASE WHEN fits THEN r.error ELSE p.error END,
    attempts = CASE WHEN fits THEN r.attempts ELSE p.attempts END
FROM (
    SELECT t.*, t.revision = q.revision AND (t.state = 'published' OR q.state = 'pending'
                OR q.state = 'delayed' AND t.attempts >= q.attempts) AS fits
    FROM json_to_record(%s::json) AS t (
        id text, project text, revision integer, state text, internal_id bigint, portal_url text,
        action text, error jsonb, attempts integer, at timestamptz)
    JOIN publications q ON q.id = t.id
) r
WHERE p.id = r.id AND p.project = r.project"""

_DUE = """
SELECT id, project, what, job_id, facts, revision FROM publications
WHERE due ORDER BY asked_at LIMIT 1 FOR UPDATE SKIP LOCKED"""

_TOLD = f"""
WITH told AS (
    UPDATE publications SET due = false, told_at = %(at)s WHERE id = %(id)s RETURNING id
)
INSERT INTO outbox (lane, exchange, routing_key, body, message_id)
SELECT 2, '{names.EXCHANGE_EVENTS}', %(key)s, %(body)s, %(message_id)s FROM told"""

_ENDED_UNTOLD = """
UPDATE publications
SET due = false, told_at = clock_timestamp(), state = %(state)s, error = %(error)s::jsonb
WHERE id = %(id)s"""

_SOFTWARE = """
SELECT DISTINCT payload->>'repository' AS repository, result->>'commit' AS commit,
       coalesce(result->>'image_digest', result->>'image') AS image
FROM jobs WHERE batch_id = %s AND result->>'commit' IS NOT NULL
ORDER BY repository, commit, image LIMIT %s"""

_RESOURCES = """
SELECT id FROM publications
WHERE project = %s AND what <> 'batch' AND facts->>'experiment' = %s ORDER BY id LIMIT 20"""


class Publications:
    """Tells the publisher what is due, when it is called and every few seconds."""

    def __init__(
        self, pool: AsyncPool, database_url: str, public_url: str, wake: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._database_url = database_url
        self._public_url = public_url
        self._wake = wake
        self._called = asyncio.Event()
        self._threads: Pool | None = None

    def call(self) -> None:
        """Something may be due."""
        self._called.set()

    async def run(self) -> None:
        """Look for ever; `tasks.steadily` handles the database's absence."""
        try:
            while True:
                self._called.clear()
                await self.look()
                await asyncio.sleep(_PACE_S)
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._called.wait()
                except TimeoutError:
                    pass
        finally:
            if self._threads is not None:
                self._threads.close(timeout=0)
                self._threads = None

    async def look(self) -> int:
        """Tell all that is due; how many."""
        told = 0
        while await self._is_due():
            if self._threads is None:
                self._threads = open_pool(self._database_url, size=1, name="qslice-publications")
            if not await asyncio.to_thread(tell_one, self._threads, self._public_url):
                break
            told += 1
            self._wake()
        return told

    async def _is_due(self) -> bool:
        async with self._pool.connection() as conn:
            found = await conn.execute(
                "SELECT 1 FROM publications WHERE due ORDER BY asked_at LIMIT 1"
            )
            return await found.fetchone() is not None


def tell_one(pool: Pool, public_url: str) -> bool:
    """Compose the completion that is due longest and put it into the outbox; False: none was."""
    with pool.connection() as conn, conn.transaction():
        due = row(conn, _DUE)
        if due is None:
            return False
        try:
            with conn.transaction():
                completion = _compose(conn, due, public_url)
        except psycopg.OperationalError:
            raise
        except Exception as wrong:
            _logger.exception("a completion cannot be composed", publication=due["id"])
            error = {"owner": "system", "code": "not_composed", "message": str(wrong)[:2000]}
            _end_untold(conn, due["id"], PublicationState.FAILED, error)
            return True
        if completion is None or not completion.publish:
            _end_untold(conn, due["id"], PublicationState.WITHHELD, None)
            return True
        conn.execute(
            _TOLD,
            {
                "id": due["id"],
                "at": completion.at,
                "key": names.event_key(completion.project, completion.what, COMPLETION),
                "body": completion.body(),
                "message_id": f"{due['id']}:{due['revision']}",
            },
        )
    return True


def _end_untold(
    conn: psycopg.Connection[Any], publication: str, state: PublicationState, error: Any
) -> None:
    given = {
        "id": publication,
        "state": state.value,
        "error": orjson.dumps(error).decode() if error else None,
    }
    conn.execute(_ENDED_UNTOLD, given)


def _compose(
    conn: psycopg.Connection[Any], due: dict[str, Any], public_url: str
) -> Completion | None:
    project = row(
        conn,
        "SELECT owner, settings->'publication' AS publication FROM projects WHERE name = %s",
        [due["project"]],
    )
    if project is None:
        return None
    settings = publications.of_settings(project["publication"])
    at = one(conn, "SELECT clock_timestamp() AS at")["at"]
    if due["what"] != "batch":
        owner = row(conn, "SELECT owner FROM jobs WHERE id = %s", [due["job_id"]]) or project
        return completions.of_resource(due, owner["owner"], settings, at=at)
    batch = batches.get(conn, due["id"])
    if batch is None:
        return None
    points = Points.of(batch["template"])
    columns = batches.result_columns(conn, due["id"])
    digest, size = hashlib.sha256(), 0
    found = results.pages(lambda: nullcontext(conn), due["id"], points)
    for lines in results.table(columns, points, found):
        digest.update(lines)
        size += len(lines)
    return completions.of_batch(
        batch,
        _runs(conn, batch),
        completions.Table(size, digest.hexdigest()),
        settings,
        public_url,
        revision=due["revision"],
        at=at,
    )


def _runs(conn: psycopg.Connection[Any], batch: dict[str, Any]) -> completions.Runs:
    times = one(
        conn,
        "SELECT min(started_at) AS first, max(finished_at) AS last FROM jobs WHERE batch_id = %s",
        [batch["batch_id"]],
    )
    experiment = (batch["created_by"] or {}).get("experiment")
    resources = rows(conn, _RESOURCES, [batch["project"], experiment]) if experiment else []
    return completions.Runs(
        counts=batch["counts"],
        first_start=times["first"],
        last_end=times["last"],
        software=rows(conn, _SOFTWARE, [batch["batch_id"], completions.MAX_SOFTWARE]),
        resources=[found["id"] for found in resources],
    )


def facts_of(event: Event) -> dict[str, Any] | None:
    """A resource's publication as an event tells it; None where the event tells none. Pure."""
    data = event.data or {}
    if "identifier" not in data or "what" not in data:
        return None
    try:
        facts = ResourceFacts.of(data)
        ids.parse(facts.identifier)
    except (Rejected, ValueError) as wrong:
        _logger.warning("a resource cannot be published", job_id=event.job_id, why=str(wrong))
        return None
    kept = facts.model_dump(mode="json", exclude_none=True)
    return {
        "id": facts.identifier,
        "project": event.project,
        "what": facts.what,
        "name": facts.name,
        "job_id": event.job_id,
        # One notation, so that texts compare as times do.
        "facts": kept | {"at": event.at.astimezone(UTC).isoformat(timespec="microseconds")},
    }


async def note_resources(conn: AsyncConnection, events: Sequence[Event]) -> int:
    """Make due what resource events tell; how many tell something."""
    told = [found for event in events if (found := facts_of(event))]
    for found in told:
        await conn.execute(_OF_RESOURCES, [orjson.dumps([found]).decode()])
    return len(told)


async def note_reports(conn: AsyncConnection, reports: Sequence[PublicationReport]) -> None:
    """Keep what the registry said, in the order in which it was told."""
    for report in reports:
        told = report.model_dump(mode="json") | {"id": report.identifier}
        await conn.execute(_REPORT, [orjson.dumps(told).decode()])
