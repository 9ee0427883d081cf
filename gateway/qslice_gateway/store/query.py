"""Reading rows as dictionaries, whatever the connection's own row factory is."""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

from qslice_gateway.store.pool import Row

Parameters = Sequence[Any] | Mapping[str, Any]


def rows(conn: psycopg.Connection[Any], statement: str, parameters: Parameters = ()) -> list[Row]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement.encode(), parameters).fetchall()


def row(conn: psycopg.Connection[Any], statement: str, parameters: Parameters = ()) -> Row | None:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement.encode(), parameters).fetchone()


def one(conn: psycopg.Connection[Any], statement: str, parameters: Parameters = ()) -> Row:
    """The row of a statement that always has one."""
    found = row(conn, statement, parameters)
    if found is None:
        raise psycopg.DataError("a statement that always has a row had none")
    return found
