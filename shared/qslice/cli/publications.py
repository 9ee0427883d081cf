"""What is in the metadata registry, and what the project says of it."""

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from qslice.cli import output
from qslice.messages.completion import PublicationSettings
from qslice.sdk.models import Publication

app = typer.Typer(
    help="What is in the metadata registry (MRS), and what the project says of it.",
    no_args_is_help=True,
)
Ids = Annotated[
    list[str] | None,
    typer.Argument(help="Batches or resources, as `qslice publications list` shows them."),
]
State = Annotated[
    str | None, typer.Option(help="Only pending, published, delayed, failed or withheld ones.")
]


@app.command("list")
def list_(
    state: State = None, project: output.Project = None, as_json: output.Json = False
) -> None:
    """List publications: what the registry has, or what it answered."""
    with output.client(project) as client:
        found = list(client.publications(state=state))
    if as_json:
        output.json([one.document() for one in found])
        return
    output.table(
        ("publication", "what", "name", "state", "record", "page or answer"),
        ((one.id, one.what, one.name, one.state, one.internal_id, _last(one)) for one in found),
    )


def _last(one: Publication) -> str | None:
    return one.error.message.splitlines()[0] if one.error else one.portal_url


@app.command()
def replay(
    publications: Ids = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that were given up.")] = False,
    project: output.Project = None,
    as_json: output.Json = False,
) -> None:
    """Publish again, as the project's settings are now."""
    with output.client(project) as client:
        wanted = list(publications or [])
        if failed:
            wanted += [one.id for one in client.publications(state="failed")]
        if not wanted and not failed:
            raise typer.BadParameter("name publications, or give --failed")
        for one in dict.fromkeys(wanted):
            again = client.replay_publication(one)
            if as_json:
                output.json(again.document())
            else:
                output.line(f"{one} is published again, as revision {again.revision}")


@app.command()
def settings(
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE; a list or a person as JSON. Repeat it."),
    ] = None,
    project: output.Project = None,
    as_json: output.Json = False,
) -> None:
    """Show what the project says of all that is published, or change it."""
    with output.client(project) as client:
        found = client.publication_settings()
        if change:
            changed = found.model_dump(mode="json") | dict(_assignment(text) for text in change)
            found = client.change_publication_settings(PublicationSettings.of(changed))
    document = found.model_dump(mode="json")
    if as_json:
        output.json(document)
    else:
        output.pairs(document)


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not FIELD=VALUE")
    if value[:1] in ("[", "{") or value in ("true", "false", "null"):
        try:
            return name, orjson.loads(value)
        except orjson.JSONDecodeError as wrong:
            raise typer.BadParameter(f"{name}: {wrong}") from None
    return name, value


@app.command()
def crate(
    batch: Annotated[str, typer.Argument(help="A finished batch.")],
    to: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; default BATCH.crate.zip.")
    ] = None,
    project: output.Project = None,
    as_json: output.Json = False,
) -> None:
    """Download the provenance of a batch, an RO-Crate."""
    path = to or Path(f"{batch}.crate.zip")
    with output.client(project) as client:
        path.write_bytes(client.crate(batch))
    if as_json:
        output.json({"file": str(path), "bytes": path.stat().st_size})
    else:
        output.line(f"{path}: {path.stat().st_size} bytes")
