"""Sweeps, listed."""

from itertools import islice
from typing import Annotated

import typer

from qslice.cli import output


def batches(
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    project: output.Project = None,
    as_json: output.Json = False,
) -> None:
    """List the project's sweeps, newest first."""
    with output.client(project) as client:
        found = list(islice(client.batches(), limit))
    if as_json:
        output.json([batch.document() for batch in found])
        return
    output.table(
        ("sweep", "name", "jobs", "age", "finished"),
        (
            (
                batch.batch_id,
                batch.name,
                batch.total,
                output.age(batch.submitted_at),
                batch.finished_at,
            )
            for batch in found
        ),
    )
