"""Sweeps: a template with `{placeholders}` and the points at which it is filled in.

The gateway (batches) and the SDK (sweeps over the queue) both use it, so that a sweep gives the
same jobs by either way.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

from qslice.messages.base import Rejected

#: Jobs of one batch, at most.
MAX_POINTS = 1_000_000
#: The parts of a run that may hold placeholders.
FILLED = ("id", "command", "env", "labels")

#: `{{name}}` stands for the text `{name}`; braces around anything else are left as they are.
_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}", re.ASCII)
_NAME = re.compile(r"^[A-Za-z_]\w*$", re.ASCII)

Point = dict[str, Any]


def size(grid: Mapping[str, Sequence[Any]]) -> int:
    """How many points a grid has."""
    return prod(len(values) for values in grid.values()) if grid else 0


def points(grid: Mapping[str, Sequence[Any]]) -> Iterator[Point]:
    """Every combination of the parameters' values; the last parameter changes fastest.

    >>> list(points({"distance": [0, 10], "seed": [1, 2]}))[1]
    {'distance': 0, 'seed': 2}

    Raises `Rejected` that names the parameter.
    """
    for name, values in grid.items():
        _check_name(name)
        if isinstance(values, str | bytes) or not isinstance(values, Sequence):
            raise Rejected(f"grid.{name}", "must be a list of values")
        if not values:
            raise Rejected(f"grid.{name}", "must hold at least one value")
    if not grid:
        raise Rejected("grid", "must name at least one parameter")
    if size(grid) > MAX_POINTS:
        raise Rejected("grid", f"has {size(grid)} points, at most {MAX_POINTS} are allowed")
    return (dict(zip(grid, chosen, strict=True)) for chosen in product(*grid.values()))


def check_list(given: Sequence[Any]) -> list[Point]:
    """The points of a list, each an object of parameters; raises `Rejected`."""
    if not given:
        raise Rejected("list", "must hold at least one point")
    if len(given) > MAX_POINTS:
        raise Rejected("list", f"has {len(given)} points, at most {MAX_POINTS} are allowed")
    for index, point in enumerate(given):
        if not isinstance(point, Mapping):
            raise Rejected(f"list.{index}", "must be an object of parameters")
        for name in point:
            _check_name(name)
    return [dict(point) for point in given]


def fill(template: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """A run's fields with the placeholders replaced by the point's values, as text.

    >>> fill({"command": ["bb84", "--distance", "{distance}"]}, {"distance": 10})["command"]
    ['bb84', '--distance', '10']

    Each parameter also becomes a label, where the template has no label of that name: results
    then carry the point that they belong to. Raises `Rejected` that names an unknown placeholder.
    """
    texts = {name: text_of(value) for name, value in point.items()}
    filled = dict(template)
    for field in FILLED:
        if field in template:
            filled[field] = _filled(template[field], texts, field)
    labels = filled.get("labels")
    if labels is None or isinstance(labels, Mapping):
        short = {name: text[:200] for name, text in texts.items()}
        filled["labels"] = {**short, **(labels or {})}
    return filled


def placeholders(value: Any) -> set[str]:
    """The names of the placeholders in a value, at any depth."""
    if isinstance(value, str):
        return {found[2] for found in _PLACEHOLDER.finditer(value) if found[2]}
    if isinstance(value, Mapping):
        return set().union(*(placeholders(inner) for inner in value.values()))
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return set().union(*(placeholders(inner) for inner in value))
    return set()


def text_of(value: Any) -> str:
    """A parameter's value as it stands in a command: JSON's words for true, false and nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _filled(value: Any, texts: Mapping[str, str], path: str) -> Any:
    if isinstance(value, str):

        def replacement(found: re.Match[str]) -> str:
            if found[1]:
                return f"{{{found[1]}}}"
            if found[2] not in texts:
                known = ", ".join(texts) or "none"
                raise Rejected(path, f"unknown placeholder {{{found[2]}}}; parameters: {known}")
            return texts[found[2]]

        return _PLACEHOLDER.sub(replacement, value)
    if isinstance(value, Mapping):
        return {name: _filled(inner, texts, f"{path}.{name}") for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_filled(inner, texts, f"{path}.{index}") for index, inner in enumerate(value)]
    return value


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not _NAME.match(name):
        raise Rejected(
            "grid", f"{str(name)[:80]!r} is no name of a parameter: letters, digits and '_'"
        )
