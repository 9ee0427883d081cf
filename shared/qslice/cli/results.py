"""A sweep's results."""

import sys
from typing import Annotated, Any

import typer

from qslice.cli import output
from qslice.messages.result import Result


def results(
    batch: Annotated[str, typer.Argument(help="The sweep's identifier.")],
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line per job.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="As they come, until the last job is over.")
    ] = False,
    project: output.Project = None,
    as_json: output.Json = False,
) -> None:
    """Show a sweep's results: a table, CSV, or a JSON line each.

    Without --follow these are the results that there are now.
    """
    if csv and (follow or as_json):
        raise typer.BadParameter("--csv goes neither with --follow nor with --json")
    with output.client(project) as client:
        found = client.batch(batch)
        if csv:
            sys.stdout.write(found.csv())
            return
        if follow:
            for result in found.results():
                _show(result, as_json)
            return
        known = list(found.results_now())
    if as_json:
        for result in known:
            output.json(result.model_dump(mode="json"))
        return
    parameters = list(dict.fromkeys(name for result in known for name in result.labels))
    output.table(
        (*parameters, "state", "seconds", "result", "error"),
        (
            (
                *(result.labels.get(name) for name in parameters),
                str(result.state),
                result.duration_s,
                _outcome(result),
                result.error.message if result.error else None,
            )
            for result in known
        ),
    )


def _show(result: Result, as_json: bool) -> None:
    if as_json:
        output.json(result.model_dump(mode="json"))
        return
    point = " ".join(f"{name}={value}" for name, value in result.labels.items())
    outcome = result.error.message if result.error else output.text_of(_outcome(result))
    output.line(f"{point or result.id or result.job_id}  {result.state}  {outcome}".rstrip())


def _outcome(result: Result) -> Any:
    if result.result is not None:
        return result.result
    return result.stdout.strip().rpartition("\n")[2] or None
