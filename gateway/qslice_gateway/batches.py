"""From a template and its grid or list to a batch's jobs, and back to each one's point. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, FiniteFloat, StringConstraints
from qslice import grids
from qslice.messages.base import Message, Rejected
from qslice.messages.run import Run

from qslice_gateway.problems import Problem, invalid
from qslice_gateway.submission import JobItem, Read, RequestId, of_run, run_of

#: A parameter's value; it becomes text where its placeholder stands.
Value = Annotated[str, StringConstraints(max_length=10_000)] | int | FiniteFloat | bool | None
Point = dict[str, Value]


class BatchRequest(Message):
    """A run with `{placeholders}` in `id`, `command`, `env` and `labels`, and their values: every
    combination of a `grid`, or the points of a `list`. Each parameter also becomes a label.
    """

    template: dict[str, Any]
    grid: Annotated[dict[str, list[Value]] | None, Field(max_length=64)] = None
    #: `list` in JSON: as an attribute it would hide the type.
    points: Annotated[list[Point] | None, Field(alias="list")] = None
    name: Annotated[
        str | None, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
    ] = None
    request_id: RequestId | None = None

    def document(self) -> dict[str, Any]:
        """What is kept of it, to know each job's point again."""
        kept: dict[str, Any] = {"template": self.template}
        if self.grid is not None:
            # As pairs: a JSON object in the database keeps no order of its keys.
            kept["grid"] = list(self.grid.items())
        else:
            kept["list"] = self.points
        return kept


class NewBatch(BatchRequest):
    """As the OpenAPI document shows it; a template is checked once its placeholders are filled."""

    template: JobItem  # type: ignore[assignment]


@dataclass(frozen=True)
class Points:
    """The points of a batch, by their index."""

    grid: tuple[tuple[str, tuple[Any, ...]], ...]
    listed: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Points":
        """Of what `BatchRequest.document` gave."""
        grid = tuple((name, tuple(values)) for name, values in document.get("grid", ()))
        return cls(grid, tuple(document.get("list", ())))

    @property
    def names(self) -> list[str]:
        """The parameters, in the order in which they were given first."""
        if self.grid:
            return [name for name, _ in self.grid]
        return list(dict.fromkeys(name for point in self.listed for name in point))

    def at(self, index: int) -> dict[str, Any]:
        """The point of the job with this `batch_index`; the last parameter changes fastest."""
        if not self.grid:
            return dict(self.listed[index])
        found = {}
        for name, values in reversed(self.grid):
            index, place = divmod(index, len(values))
            found[name] = values[place]
        return dict(reversed(found.items()))


def expand(request: BatchRequest, most: int) -> tuple[int, Iterator[Read]]:
    """How many jobs a batch has, and each of them in the order of the points.

    Raises `Problem` that names the field, while it begins and while it goes on.
    """
    points, total = _points(request, most)
    unknown = set(request.template) - set(JobItem.model_fields)
    if unknown:
        raise invalid([(f"template.{name}", "unknown field") for name in sorted(unknown)])
    return total, (_filled(request, point, index) for index, point in enumerate(points))


def _points(request: BatchRequest, most: int) -> tuple[Iterator[grids.Point], int]:
    if (request.grid is None) == (request.points is None):
        raise invalid([("grid", "give either a grid or a list")])
    try:
        if request.grid is not None:
            points, total = grids.points(request.grid), grids.size(request.grid)
        else:
            listed = grids.check_list(request.points or [])
            points, total = iter(listed), len(listed)
    except Rejected as wrong:
        raise invalid([(wrong.field, wrong.reason)]) from None
    if total > most:
        name = "list" if request.grid is None else "grid"
        raise Problem(
            "too_many_jobs",
            f"{total} jobs in one batch, at most {most}; split it",
            [(name, f"gives {total} jobs, at most {most}")],
        )
    return points, total


def _filled(request: BatchRequest, point: grids.Point, index: int) -> Read:
    try:
        filled = grids.fill(request.template, point)
    except Rejected as wrong:
        raise invalid([(f"template.{wrong.field}", wrong.reason)]) from None
    try:
        run: Run = run_of(filled, path="template")
    except Problem as wrong:
        if index == 0:
            raise
        # The template is sound: it is this point that breaks it.
        shown = ", ".join(f"{name}={value}" for name, value in point.items())
        wrong.detail = f"at the point {shown[:200]}: {wrong.detail}"
        raise
    return of_run(run)
