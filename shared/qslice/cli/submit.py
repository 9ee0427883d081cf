"""Handing runs in: one, or a sweep."""

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from qslice.cli import output, parameters, watch
from qslice.states import State

_USAGE = (
    "Put `--` before the command: qslice submit REPOSITORY -- python /app/bb84.py --distance 10"
)


def _run_options(
    repository: Annotated[str | None, typer.Argument(help="The git repository's address.")] = None,
    command: Annotated[
        list[str] | None, typer.Argument(help="The command; put `--` before it.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="The run as JSON, '-' for standard input."),
    ] = None,
    ref: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    dockerfile: Annotated[str | None, typer.Option(help="Its path in the repository.")] = None,
    id_: Annotated[
        str | None, typer.Option("--id", help="Your own key: the same twice is the same job.")
    ] = None,
    walltime: Annotated[
        float | None, typer.Option(help="Seconds that the command may take.")
    ] = None,
    cpus: Annotated[float | None, typer.Option(help="Processors.")] = None,
    memory: Annotated[int | None, typer.Option(help="Memory in MiB.")] = None,
    pids: Annotated[int | None, typer.Option(help="Processes and threads.")] = None,
    disk: Annotated[int | None, typer.Option(help="MiB in /output and in /tmp, each.")] = None,
    network: Annotated[
        bool, typer.Option("--network", help="Ask for access to the network.")
    ] = False,
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE, as often as needed.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", help="NAME=VALUE, as often as needed.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="0 to 9.")] = None,
    isolation: Annotated[
        str | None, typer.Option(help="task, or batch: runs of a sweep may share a container.")
    ] = None,
) -> dict[str, Any]:
    """The run's fields that were given, over those of the file."""
    fields = _from_file(file) if file is not None else {}
    limits = {
        **fields.get("limits", {}),
        **_given(cpus=cpus, memory_mb=memory, pids=pids, disk_mb=disk, network=network or None),
    }
    given = _given(
        repository=repository,
        command=command or None,
        ref=ref,
        dockerfile=dockerfile,
        id=id_,
        walltime_s=walltime,
        priority=priority,
        isolation=isolation,
        limits=limits or None,
    )
    for name, texts in (("env", env), ("labels", label)):
        if texts:
            given[name] = {**fields.get(name, {}), **_pairs(name, texts)}
    fields = {**fields, **given}
    if "URL_git" not in fields:
        for name in ("repository", "command"):
            if not fields.get(name):
                raise typer.BadParameter(f"{name} is missing. {_USAGE}")
    return fields


def _with_run_options(function: Callable[..., None]) -> Callable[..., None]:
    """Let a command have a run's options: it gets their outcome as its first argument."""
    taken = inspect.signature(_run_options).parameters
    own = list(inspect.signature(function).parameters.values())[1:]

    @functools.wraps(function)
    def command(**given: Any) -> None:
        run = _run_options(**{name: given.pop(name) for name in taken})
        function(run, **given)

    signature = inspect.Signature([*taken.values(), *own])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {
        name: parameter.annotation for name, parameter in signature.parameters.items()
    }
    return command


@_with_run_options
def submit(
    run: dict[str, Any],
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait for its end and show what it wrote.")
    ] = False,
    project: output.Project = None,
    as_json: output.Json = False,
) -> None:
    """Hand in one run; it is stored when this returns.

    Example: qslice submit https://git.example/qkd/bb84.git -- python /app/bb84.py --distance 10
    """
    with output.client(project) as client:
        job = client.submit(run)
        if not wait:
            output.json(job.document()) if as_json else output.line(job.job_id)
            return
        if not as_json:
            print(job.job_id, file=sys.stderr)
        ended = client.wait(job)
    if as_json:
        output.json(ended.document())
    else:
        print(output.safe(ended.stdout or ""), end="")
        print(output.safe(ended.stderr or ""), end="", file=sys.stderr)
    if ended.state is not State.SUCCEEDED:
        why = f": {ended.error.message}" if ended.error else ""
        print(f"qslice: the job is {ended.state}{output.safe(why)}", file=sys.stderr)
        raise typer.Exit(1)


@_with_run_options
def sweep(
    run: dict[str, Any],
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-P", help="NAME=FIRST:LAST:STEP or NAME=A,B,C; repeat it."),
    ] = None,
    points: Annotated[
        Path | None, typer.Option(help="The points in a file: a JSON list, or CSV with names.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The sweep's name.")] = None,
    request_id: Annotated[
        str | None, typer.Option(help="The same twice in one project is the same sweep.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow it until its last job is over.")
    ] = False,
    project: output.Project = None,
    as_json: output.Json = False,
) -> None:
    """Hand in a run for every combination of parameters, written {like_this} in the command.

    Example: qslice sweep URL --param distance=0:200:10 -- python /app/bb84.py -d {distance}
    """
    if (not param) == (points is None):
        raise typer.BadParameter("give either --param, once or more, or --points")
    where: dict[str, Any] = {}
    try:
        if points is not None:
            where["points"] = parameters.points(points.name, _text(points))
        else:
            where["grid"] = parameters.grid(param or [])
    except ValueError as wrong:
        raise typer.BadParameter(f"{'--points' if points else '--param'}: {wrong}") from None
    with output.client(project) as client:
        batch = client.sweep(run, **where, name=name, request_id=request_id)
        if as_json:
            output.json({"batch_id": batch.batch_id, "total": batch.total})
        else:
            output.line(batch.batch_id)
        if follow:
            watch.batch(batch, as_json)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _pairs(name: str, texts: list[str]) -> dict[str, str]:
    try:
        return dict(parameters.key_value(text) for text in texts)
    except ValueError as wrong:
        raise typer.BadParameter(f"--{name.removesuffix('s')}: {wrong}") from None


def _from_file(file: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(_text(file))
    except orjson.JSONDecodeError as wrong:
        raise typer.BadParameter(f"--file: {file} is no JSON: {wrong}") from None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"--file: {file} must hold one JSON object")
    return found


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as wrong:
        raise typer.BadParameter(f"{file} cannot be read: {wrong}") from None
