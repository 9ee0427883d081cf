"""Projects: made, listed, deleted. A name is used once: its jobs stay its first owner's."""

from typing import Any

import orjson
import psycopg
from qslice import ids, names
from qslice.messages.ledger import Control

from qslice_gateway.store import cancel
from qslice_gateway.store.pool import Row
from qslice_gateway.store.query import row, rows

_COLUMNS = "name, id, owner, created_at, deleted_at, broker_user_at, settings"

#: To every worker, and to the relay, which declares or deletes the project's queues.
_TELL = f"""
    INSERT INTO outbox (lane, exchange, routing_key, headers, body)
    SELECT 0, '{names.EXCHANGE_CONTROL}', '',
           jsonb_build_object('op', %(op)s::text, 'project', name), %(body)s::bytea
    FROM changed"""


def _control(op: str, project: str) -> dict[str, Any]:
    return {"op": op, "body": Control.of({"op": op, "project": project}).body()}


def create(
    conn: psycopg.Connection[Any], name: str, owner: str, authority: str = ids.DEFAULT_AUTHORITY
) -> Row | None:
    """Make a project and announce it; None where the name is taken, also by a deleted project."""
    return row(
        conn,
        f"""WITH changed AS (
                INSERT INTO projects (name, id, owner) VALUES (%(name)s, %(id)s, %(owner)s)
                ON CONFLICT (name) DO NOTHING RETURNING {_COLUMNS}
            ), told AS ({_TELL})
            SELECT {_COLUMNS} FROM changed""",
        {
            "name": names.check_project(name),
            "id": ids.new(ids.PROJECT, authority),
            "owner": owner,
            **_control("project-created", name),
        },
    )


def get(conn: psycopg.Connection[Any], name: str) -> Row | None:
    """A project that is not deleted."""
    return row(
        conn,
        f"SELECT {_COLUMNS} FROM projects WHERE name = %s AND deleted_at IS NULL",
        [name],
    )


def listed(
    conn: psycopg.Connection[Any],
    *,
    owner: str | None = None,
    members: list[str] | None = None,
    after: str = "",
    limit: int = 100,
) -> list[Row]:
    """Projects by name: those that somebody owns or is a member of; all, where both are None."""
    return rows(
        conn,
        f"""SELECT {_COLUMNS} FROM projects
            WHERE deleted_at IS NULL AND name > %(after)s
              AND ((%(owner)s::text IS NULL AND %(members)s::text[] IS NULL)
                   OR owner = %(owner)s OR name = ANY(%(members)s))
            ORDER BY name LIMIT %(limit)s""",
        {"owner": owner, "members": members, "after": after, "limit": limit},
    )


def delete(conn: psycopg.Connection[Any], name: str) -> bool:
    """End a project: its jobs are cancelled, its queues go, its name stays taken.

    False where there is no such project.
    """
    with conn.transaction():
        changed = row(
            conn,
            f"""WITH changed AS (
                    UPDATE projects SET deleted_at = now()
                    WHERE name = %(name)s AND deleted_at IS NULL RETURNING name
                ), told AS ({_TELL})
                SELECT name FROM changed""",
            {"name": name, **_control("project-deleted", name)},
        )
        if changed is None:
            return False
        cancel.project(conn, name, "The project was deleted.")
    return True


def lab_user_made(conn: psycopg.Connection[Any], name: str) -> None:
    """Remember that the project's RabbitMQ user was made, or got a new password, now."""
    row(conn, "UPDATE projects SET broker_user_at = now() WHERE name = %s RETURNING name", [name])


def set_settings(conn: psycopg.Connection[Any], name: str, settings: dict[str, Any]) -> None:
    """Replace a project's own settings."""
    row(
        conn,
        "UPDATE projects SET settings = %s::jsonb WHERE name = %s RETURNING name",
        [orjson.dumps(settings).decode(), name],
    )


def add_queue(
    conn: psycopg.Connection[Any], name: str, queue: str, type_: str, most: int
) -> str | None:
    """Remember a queue that the project makes beside its own; the type that it has.

    None where the project has as many as it may.
    """
    found = row(
        conn,
        """UPDATE projects SET settings = jsonb_set(settings, '{queues}',
               jsonb_build_object(%(queue)s::text, %(type)s::text)
               || coalesce(settings->'queues', '{}'))
           WHERE name = %(name)s AND deleted_at IS NULL AND (
               coalesce(settings->'queues', '{}') ? %(queue)s
               OR (SELECT count(*) FROM jsonb_object_keys(coalesce(settings->'queues', '{}')))
                  < %(most)s)
           RETURNING settings->'queues'->>%(queue)s AS type""",
        {"name": name, "queue": queue, "type": type_, "most": most},
    )
    return None if found is None else str(found["type"])
