"""Whether the database answers and a ledger lives; which workers were seen."""

from typing import Any

import psycopg

from qslice_gateway.store.pool import Row
from qslice_gateway.store.query import one, row, rows


def ledger_alive(conn: psycopg.Connection[Any], within_s: float = 15) -> bool:
    """Whether some ledger that hears the broker was there within so many seconds."""
    found = row(
        conn,
        "SELECT 1 AS alive FROM ledgers WHERE seen_at > now() - make_interval(secs => %s) LIMIT 1",
        [within_s],
    )
    return found is not None


def workers(conn: psycopg.Connection[Any], within_s: float = 60) -> list[Row]:
    """Workers that sent a heartbeat within so many seconds."""
    return rows(
        conn,
        """SELECT name, kind, slots, jobs, leaving, first_seen_at, seen_at FROM workers
           WHERE seen_at > now() - make_interval(secs => %s) ORDER BY name""",
        [within_s],
    )


def outbox(conn: psycopg.Connection[Any]) -> Row:
    """How many messages wait to be relayed (`depth`, counted to 100,000) and since when."""
    return one(
        conn,
        """SELECT (SELECT count(*) FROM (SELECT 1 FROM outbox LIMIT 100000) AS o) AS depth,
                  (SELECT extract(epoch FROM now() - min(not_before))::float
                   FROM outbox WHERE not_before < now()) AS age_s""",
    )
