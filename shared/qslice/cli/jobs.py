"""Jobs: listed, shown, cancelled, tried again."""

from itertools import islice
from typing import Annotated

import typer

from qslice.cli import find, output, parameters
from qslice.sdk.models import Job
from qslice.states import State

Which = Annotated[list[str], typer.Argument(help="A job's identifier, or your own id of it.")]


def jobs(
    state: Annotated[
        str | None, typer.Option(help="Only in these states, separated by commas.")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Only of this sweep.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", help="Only with NAME=VALUE; repeat it.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    project: output.Project = None,
    as_json: output.Json = False,
) -> None:
    """List the project's jobs, newest first."""
    for one in state.split(",") if state else ():
        if one not in list(State):
            raise typer.BadParameter(f"--state: {one!r} is none of {', '.join(State)}")
    try:
        labels = dict(parameters.key_value(text) for text in label or ())
    except ValueError as wrong:
        raise typer.BadParameter(f"--label: {wrong}") from None
    with output.client(project) as client:
        found = list(islice(client.jobs(state=state, batch=batch, labels=labels), limit))
    if as_json:
        output.json([job.document() for job in found])
        return
    output.table(
        ("job", "id", "state", "attempt", "age", "worker", "error", "labels"),
        (
            (
                job.job_id,
                job.id,
                str(job.state),
                job.attempt,
                output.age(job.submitted_at),
                job.worker,
                (job.model_extra or {}).get("error_code"),
                " ".join(f"{name}={value}" for name, value in job.labels.items()),
            )
            for job in found
        ),
    )


def show(job: Which, project: output.Project = None, as_json: output.Json = False) -> None:
    """Show all of a job, once it is over with its result."""
    with output.client(project) as client:
        found = [client.job(find.job_id(client, text)) for text in job]
    for number, one in enumerate(found):
        if as_json:
            output.json(one.document())
            continue
        if number:
            output.line()
        output.pairs(_shown(one))


def cancel(
    which: Annotated[
        list[str],
        typer.Argument(help="Jobs, or sweeps, by identifier; jobs also by your own id."),
    ],
    project: output.Project = None,
    as_json: output.Json = False,
) -> None:
    """End jobs, or all of a sweep's jobs, that are not over."""
    with output.client(project) as client:
        for text in which:
            if find.is_batch(text):
                summary = client.batch(text).cancel()
                if as_json:
                    output.json(summary.document())
                else:
                    output.line(f"{text}: {summary.finished} of {summary.total} jobs are over")
                continue
            ended = client.cancel(find.job_id(client, text))
            if as_json:
                output.json(ended.document())
            elif ended.is_final:
                output.line(f"{ended.job_id} is {ended.state}")
            else:
                output.line(f"{ended.job_id} is {ended.state}; its worker was told to stop it")


def retry(job: Which, project: output.Project = None, as_json: output.Json = False) -> None:
    """Run jobs once more that did not succeed, each as a new job."""
    with output.client(project) as client:
        for text in job:
            made = client.retry(find.job_id(client, text))
            if as_json:
                output.json(made.document())
            else:
                output.line(made.job_id)


def _shown(job: Job) -> dict[str, object]:
    more = job.model_extra or {}
    payload = more.get("payload") or {}
    return {
        "job": job.job_id,
        "id": job.id,
        "project": job.project,
        "batch": job.batch_id,
        "state": str(job.state),
        "attempt": job.attempt,
        "retry of": more.get("retry_of"),
        "repository": payload.get("repository") or payload.get("URL_git"),
        "command": payload.get("command") or payload.get("CMD"),
        "labels": job.labels,
        "submitted": job.submitted_at,
        "started": job.started_at,
        "finished": job.finished_at,
        "seconds": job.duration_s,
        "worker": job.worker,
        "commit": job.commit,
        "image": job.image,
        "exit code": job.exit_code,
        "error": f"{job.error.code} ({job.error.owner}): {job.error.message}"
        if job.error
        else None,
        "result": job.result,
        "stdout": (job.stdout or "").rstrip("\n"),
        "stderr": (job.stderr or "").rstrip("\n"),
    }
