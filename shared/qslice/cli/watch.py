"""Following a sweep or a job until it is over."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from qslice.cli import find, output
from qslice.sdk.batch import Batch
from qslice.sdk.client import Client
from qslice.sdk.models import BatchSummary, JobEvent
from qslice.states import State


def watch(
    which: Annotated[
        str, typer.Argument(help="A sweep's or a job's identifier, or your own id of a job.")
    ],
    project: output.Project = None,
    as_json: output.Json = False,
) -> None:
    """Follow a sweep or a job until it is over.

    Exit code 1 where something did not succeed.
    """
    # A watch outlives a restart of the gateway.
    with output.client(project, patience_s=120.0) as client:
        if find.is_batch(which):
            batch(client.batch(which), as_json)
        else:
            _job(client, find.job_id(client, which), as_json)


def batch(followed: Batch, as_json: bool) -> None:
    """Show a sweep's progress: a bar on a terminal, elsewhere a line for each change."""
    console = Console(file=sys.stderr if as_json else sys.stdout, highlight=False, markup=False)
    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=as_json or not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=followed.total)
        for summary in followed.summaries():
            bar.update(task, completed=summary.finished, description=counted(summary))
            if as_json:
                output.json(summary.document())
            elif not console.is_terminal:
                print(f"{summary.finished}/{summary.total}  {counted(summary)}", flush=True)
    if summary.counts.get(State.SUCCEEDED, 0) < summary.total:
        raise typer.Exit(1)


def counted(summary: BatchSummary) -> str:
    """How many jobs are in which state, in words."""
    parts = [f"{summary.counts[state]} {state}" for state in State if summary.counts.get(state)]
    return ", ".join(parts)


def _job(client: Client, job_id: str, as_json: bool) -> None:
    for event in client.events(job_id, follow=True):
        if as_json:
            output.json(event.document())
        else:
            output.line(f"{output.text_of(event.at)}  {_told(event)}")
            sys.stdout.flush()
    ended = client.job(job_id)
    if as_json:
        output.json(ended.document())
    elif ended.error is not None:
        output.line(f"{ended.error.code}: {ended.error.message}")
    if ended.state is not State.SUCCEEDED:
        raise typer.Exit(1)


def _told(event: JobEvent) -> str:
    data = event.data or {}
    words = [event.type]
    if event.attempt and event.attempt > 1:
        words.append(f"(attempt {event.attempt})")
    if isinstance(fraction := data.get("fraction"), int | float):
        words.append(f"{fraction:.0%}")
    words += [str(data[name]) for name in ("text", "worker", "code", "message") if data.get(name)]
    return " ".join(words)
