"""A job's log."""

import sys
from typing import Annotated

import typer

from qslice.cli import find, output


def logs(
    job: Annotated[str, typer.Argument(help="A job's identifier, or your own id of it.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="As it is written, until the job is over.")
    ] = False,
    project: output.Project = None,
    as_json: output.Json = False,
) -> None:
    """Show what a job wrote, its build and what the system did with it.

    What the command wrote to stderr goes to stderr.
    """
    with output.client(project) as client:
        for line in client.logs(find.job_id(client, job), follow=follow):
            if as_json:
                output.json(line.document())
                continue
            sink = sys.stderr if line.stream == "stderr" else sys.stdout
            # A file gets what was written; a terminal nothing that could steer it.
            sink.write(output.safe(line.text) if sink.isatty() else line.text)
            sink.flush()
