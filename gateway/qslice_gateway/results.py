"""A batch's results: each job with its point, and all of them as a table. Pure, but for `pages`."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import orjson
import psycopg

from qslice_gateway.batches import Points
from qslice_gateway.store import batches

PAGE = 500
_COLUMNS = ("batch_index", "job_id", "id", "state", "attempt", "exit_code")
_TAIL = ("error_owner", "error_code", "error_message", "started_at", "finished_at", "duration_s")

Item = dict[str, Any]
#: Gives a connection for a short while.
Connect = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]


def pages(connect: Connect, batch: str, points: Points) -> Iterator[list[Item]]:
    """All results of a batch in the order of the grid; each page borrows a connection anew."""
    after = -1
    while True:
        with connect() as connection:
            rows = batches.results(connection, batch, after=after, limit=PAGE)
        if rows:
            yield [item(row, points) for row in rows]
        if len(rows) < PAGE:
            return
        after = rows[-1]["batch_index"]


def item(row: dict[str, Any], points: Points) -> Item:
    """A job of a batch as it is shown: its point, and its result's fields."""
    result = row["result"] or {}
    return {
        **{name: row[name] for name in row if name != "result"},
        "parameters": points.at(row["batch_index"]),
        "duration_s": result.get("duration_s"),
        "exit_code": result.get("exit_code"),
        "stdout": result.get("stdout", ""),
        "stderr": result.get("stderr", ""),
        "truncated": result.get("truncated", False),
        "result": result.get("result"),
        "error": result.get("error"),
        "commit": result.get("commit"),
        "image": result.get("image"),
        "image_digest": result.get("image_digest"),
    }


def table(
    columns: Sequence[str],
    points: Points,
    found: Iterable[list[Item]],
    *,
    only_finished: bool = False,
) -> Iterator[bytes]:
    """CSV: a line per job, with a column for each parameter and each key of the results."""
    named = [f"result.{name}" if name else "result" for name in columns]
    header = [*_COLUMNS, *points.names, *named, *_TAIL]
    yield _lines([[_cell(name) for name in header]])
    for items in found:
        yield _lines(
            _line(one, points.names, columns)
            for one in items
            if not only_finished or one["finished_at"] is not None
        )


def _lines(lines: Iterable[list[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(lines)
    return out.getvalue().encode()


def _line(one: Item, parameters: Sequence[str], columns: Sequence[str]) -> list[str]:
    error = one["error"] or {}
    result = one["result"]
    values = [result.get(name) if isinstance(result, dict) else None for name in columns]
    if "" in columns and result is not None and not isinstance(result, dict):
        values[columns.index("")] = result
    tail = {
        **{f"error_{name}": error.get(name) for name in ("owner", "code", "message")},
        **{name: one[name] for name in ("started_at", "finished_at", "duration_s")},
    }
    shown = [one[name] for name in _COLUMNS]
    point = [one["parameters"].get(name) for name in parameters]
    return [_cell(value) for value in (*shown, *point, *values, *(tail[name] for name in _TAIL))]


def _cell(value: Any) -> str:
    """A value in a table. A text that a spreadsheet would take for a formula is quoted: what a
    task wrote is not to be run by who opens its table.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int | float):
        return str(value)
    return orjson.dumps(value).decode()
