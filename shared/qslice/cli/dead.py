"""Messages that could not be read or done."""

from typing import Annotated

import typer

from qslice.cli import output

app = typer.Typer(help="Messages that could not be read or done.", no_args_is_help=True)
Messages = Annotated[list[str], typer.Argument(help="Numbers, as `qslice dead list` shows them.")]


@app.command("list")
def list_(project: output.Project = None, as_json: output.Json = False) -> None:
    """List dead messages, newest first, with the reason."""
    with output.client(project) as client:
        found = list(client.dead())
    if as_json:
        output.json([message.document() for message in found])
        return
    output.table(
        ("message", "at", "fault of", "field", "reason", "replayed as"),
        ((one.id, one.at, one.owner, one.field, one.reason, one.replayed_as) for one in found),
    )


@app.command()
def replay(
    messages: Messages, project: output.Project = None, as_json: output.Json = False
) -> None:
    """Try dead messages again: a job as a new job, else the message on its queue."""
    with output.client(project) as client:
        for message in messages:
            replayed = client.replay(message)
            if as_json:
                output.json(replayed.document())
            else:
                output.line(f"message {message} is tried again as {replayed.replayed_as}")


@app.command()
def delete(
    messages: Messages, project: output.Project = None, as_json: output.Json = False
) -> None:
    """Drop dead messages from the list."""
    with output.client(project) as client:
        for message in messages:
            client.delete_dead(message)
            if as_json:
                output.json({"deleted": message})
            else:
                output.line(f"deleted message {message}")
