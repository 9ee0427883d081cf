"""Projects."""

from typing import Annotated

import typer

from qslice.cli import output

app = typer.Typer(help="Projects.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The project's name.")]


@app.command()
def create(name: Name, as_json: output.Json = False) -> None:
    """Make a project with its queues."""
    with output.client() as client:
        made = client.create_project(name)
    if as_json:
        output.json(made.document())
    else:
        output.line(f"project {made.name} of {made.owner}")


@app.command("list")
def list_(as_json: output.Json = False) -> None:
    """List the projects that you may use."""
    with output.client() as client:
        found = list(client.projects())
    if as_json:
        output.json([project.document() for project in found])
        return
    output.table(
        ("project", "owner", "made"),
        ((project.name, project.owner, project.created_at) for project in found),
    )


@app.command()
def delete(
    name: Name,
    force: Annotated[
        bool, typer.Option("--force", help="Cancel the jobs that are still to do.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: output.Json = False,
) -> None:
    """Delete a project and its queues."""
    if not yes:
        typer.confirm(f"Delete the project {name} and its queues?", abort=True, err=True)
    with output.client() as client:
        client.delete_project(name, force=force)
    if as_json:
        output.json({"deleted": name})
    else:
        output.line(f"deleted {name}")


@app.command("broker-user")
def broker_user(name: Name, as_json: output.Json = False) -> None:
    """Give the project's RabbitMQ user a new password, and show it this once.

    The password before it ends.
    """
    with output.client() as client:
        user = client.broker_user(name)
    if as_json:
        output.json(user.document())
    else:
        output.pairs({"user": user.username, "password": user.password, "url": user.amqp_url})
