"""From the words of a command line to a sweep's points. Pure."""

import csv
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from qslice import grids
from qslice.messages.base import Rejected

Value = int | float | str


def parameter(text: str) -> tuple[str, list[Value]]:
    """The name and values in `distance=0:200:10` or `distance=0,10,25.5`.

    A range holds its last value where a step meets it. Raises `ValueError`.

    >>> parameter("distance=0:20:10")
    ('distance', [0, 10, 20])
    """
    name, separator, values = text.partition("=")
    name = name.strip()
    if not separator or not name:
        raise ValueError(f"{text!r} must be NAME=FIRST:LAST:STEP or NAME=VALUE,VALUE,…")
    if values.count(":") == 2 and "," not in values and (numbers := _numbers(values.split(":"))):
        return name, list(_range(name, *numbers))
    if not values.strip():
        raise ValueError(f"{name}: give at least one value")
    return name, [_value(part.strip()) for part in values.split(",")]


def grid(texts: Sequence[str]) -> dict[str, list[Value]]:
    """The grid of several parameters; raises `ValueError`."""
    found: dict[str, list[Value]] = {}
    for text in texts:
        name, values = parameter(text)
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = values
    if grids.size(found) > grids.MAX_POINTS:
        raise ValueError(f"{grids.size(found)} points are more than {grids.MAX_POINTS}")
    return found


def points(name: str, text: str) -> list[dict[str, Any]]:
    """The points in a file: a JSON list of objects, or CSV with a line of names first.

    Raises `ValueError`.
    """
    if name.lower().endswith(".csv"):
        rows = csv.DictReader(text.splitlines())
        read: Any = [
            {key: _value((value or "").strip()) for key, value in row.items() if key is not None}
            for row in rows
        ]
    else:
        try:
            read = orjson.loads(text)
        except orjson.JSONDecodeError as wrong:
            raise ValueError(f"{name} is no JSON: {wrong}") from None
    if not isinstance(read, list):
        raise ValueError(f"{name} must hold a list of objects")
    try:
        return grids.check_list(read)
    except Rejected as wrong:
        raise ValueError(f"{name}: {wrong}") from None


def key_value(text: str) -> tuple[str, str]:
    """The parts of `NAME=VALUE`; raises `ValueError`."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError(f"{text!r} must be NAME=VALUE")
    return name, value


def _numbers(parts: Sequence[str]) -> tuple[Decimal, Decimal, Decimal] | None:
    try:
        first, last, step = (Decimal(part.strip()) for part in parts)
    except InvalidOperation:
        return None
    return (first, last, step) if all(n.is_finite() for n in (first, last, step)) else None


def _range(name: str, first: Decimal, last: Decimal, step: Decimal) -> list[Value]:
    """In decimals, so that 0:1:0.1 has the values that a person means."""
    if step == 0 or (last - first) * step < 0:
        raise ValueError(f"{name}: from {first} no step of {step} leads to {last}")
    count = int((last - first) / step) + 1
    if count > grids.MAX_POINTS:
        raise ValueError(f"{name}: {count} values are more than {grids.MAX_POINTS}")
    return [_number(first + step * index) for index in range(count)]


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _value(text: str) -> Value:
    """A number where the text is just how that number is written, else the text."""
    for kind in (int, float):
        try:
            if str(number := kind(text)) == text:
                return number
        except ValueError:
            continue
    return text
