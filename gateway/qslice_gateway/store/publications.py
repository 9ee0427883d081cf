"""Publications: what is, or is to be, in the metadata registry; and what a project says of it."""

from typing import Any

import orjson
import psycopg
from qslice.messages.completion import PublicationSettings

from qslice_gateway.store.pool import Row
from qslice_gateway.store.query import row, rows
from qslice_gateway.store.reads import AFTER_ALL

_COLUMNS = """id, project, what, name, job_id, revision, state, internal_id, portal_url, action,
    error, attempts, created_at, told_at, published_at"""


def listed(
    conn: psycopg.Connection[Any],
    project: str,
    *,
    states: list[str] | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[Row]:
    """Publications of a project, in the reverse order of their ids."""
    return rows(
        conn,
        f"""SELECT {_COLUMNS} FROM publications
            WHERE project = %(project)s AND id < %(before)s
              AND (%(states)s::text[] IS NULL OR state = ANY(%(states)s))
            ORDER BY id DESC LIMIT %(limit)s""",
        {
            "project": project,
            "states": states or None,
            "before": before or AFTER_ALL,
            "limit": limit,
        },
    )


def get(conn: psycopg.Connection[Any], project: str, publication: str) -> Row | None:
    """One publication of a project."""
    return row(
        conn,
        f"SELECT {_COLUMNS} FROM publications WHERE project = %s AND id = %s",
        [project, publication],
    )


def of_job(conn: psycopg.Connection[Any], job_id: str) -> list[Row]:
    """Publications of what a job made."""
    return rows(
        conn,
        f"SELECT {_COLUMNS} FROM publications WHERE job_id = %s ORDER BY id LIMIT 100",
        [job_id],
    )


def replay(conn: psycopg.Connection[Any], project: str, publication: str) -> Row | None:
    """Have a publication told to the publisher once more; None where there is none."""
    return row(
        conn,
        f"""UPDATE publications
            SET revision = revision + 1, due = true, state = 'pending', error = NULL,
                attempts = 0, asked_at = clock_timestamp()
            WHERE project = %s AND id = %s RETURNING {_COLUMNS}""",
        [project, publication],
    )


def settings(conn: psycopg.Connection[Any], project: str) -> PublicationSettings | None:
    """What the project says of its publications; None where there is no such project."""
    found = row(
        conn,
        "SELECT settings->'publication' AS publication FROM projects "
        "WHERE name = %s AND deleted_at IS NULL",
        [project],
    )
    return None if found is None else of_settings(found["publication"])


def of_settings(value: Any) -> PublicationSettings:
    """The settings in a project's row; what an older version left out has its default."""
    return PublicationSettings.of(value or {})


def change_settings(
    conn: psycopg.Connection[Any], project: str, wanted: PublicationSettings
) -> bool:
    """Keep new settings, for what is published from now on; False where there is no project."""
    return (
        row(
            conn,
            """UPDATE projects
               SET settings = settings || jsonb_build_object('publication', %s::jsonb)
               WHERE name = %s AND deleted_at IS NULL RETURNING name""",
            [orjson.dumps(wanted.model_dump(mode="json")).decode(), project],
        )
        is not None
    )
