"""`qslice-gateway`: serve, ledger, migrate, setup, token, openapi, settings.

What a command needs is imported when it runs: some of it is slow, and the metrics' mode is chosen
when they are first imported.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import orjson
import typer
from qslice import logs
from qslice.settings import load

from qslice_gateway.settings import (
    DEFAULT_AUDIENCE,
    DatabaseSettings,
    GatewaySettings,
    SetupSettings,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The gateway of qslice; its settings are environment variables, see `settings`.",
)


@app.command()
def serve() -> None:
    """Answer REST requests."""
    settings = load(GatewaySettings)
    logs.set_up(settings.log_level, settings.log_format)
    # The processes sum their counters up in files.
    with tempfile.TemporaryDirectory(prefix="qslice-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        from qslice_gateway.auth import dev_issuer
        from qslice_gateway.server import Server

        try:
            dev_issuer.keys(settings)
        except (OSError, ValueError) as wrong:
            raise _end(f"QSLICE_DEV_ISSUER_KEY: {wrong}") from None
        Server(settings).run()


@app.command()
def ledger() -> None:
    """Relay jobs to the broker, answer claims, record events and results, watch workers."""
    import asyncio

    from qslice_gateway.ledger.service import run
    from qslice_gateway.ledger.settings import LedgerSettings

    settings = load(LedgerSettings)
    logs.set_up(settings.log_level, settings.log_format)
    asyncio.run(run(settings))


@app.command()
def migrate() -> None:
    """Bring the database to this version's schema."""
    from qslice_gateway.store.migrate import upgrade

    upgrade(load(DatabaseSettings).database_url.get_secret_value())
    typer.echo("The database is up to date.")


@app.command()
def setup() -> None:
    """Make the database, the virtual host and their users that the settings name; again is fine."""
    from qslice_gateway.setup import set_up

    given = load(SetupSettings)
    logs.set_up(given.log_level, given.log_format)
    for line in set_up(given):
        typer.echo(line)


@app.command()
def token(
    subject: Annotated[str, typer.Option(help="who it is for")] = "developer",
    project: Annotated[
        list[str] | None, typer.Option(help="a project that it names; may be repeated")
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="an administrator's")] = False,
    life: Annotated[float, typer.Option(help="seconds until it expires", min=1)] = 3600.0,
    audience: Annotated[str, typer.Option(envvar="QSLICE_AUDIENCE")] = DEFAULT_AUDIENCE,
    key: Annotated[
        Path | None, typer.Option(envvar="QSLICE_DEV_ISSUER_KEY", help="the issuer's key file")
    ] = None,
    make_key: Annotated[
        bool, typer.Option("--make-key", help="make the key file where it is missing")
    ] = False,
) -> None:
    """Print a token of the development issuer, where that is switched on."""
    from qslice_gateway.auth import dev_issuer

    if key is None:
        raise _end("the development issuer is off: set QSLICE_DEV_ISSUER_KEY to its key file")
    if make_key and not key.exists():
        dev_issuer.make_key(key)
    try:
        loaded = dev_issuer.load_key(key)
    except FileNotFoundError:
        raise _end(f"{key} is missing; --make-key makes it") from None
    except (OSError, ValueError) as wrong:
        raise _end(f"{key} cannot be used: {wrong}") from None
    typer.echo(
        dev_issuer.make_token(
            loaded,
            subject,
            audience=audience,
            projects=project or (),
            admin=admin,
            life_s=life,
        )
    )


@app.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from qslice_gateway import openapi as document
    from qslice_gateway.app import all_routes

    text = orjson.dumps(document.document(all_routes()), option=orjson.OPT_INDENT_2)
    typer.echo(text.decode())


@app.command()
def settings() -> None:
    """Print every setting with its default."""
    from qslice_gateway.ledger.settings import LedgerSettings

    shown: set[str] = set()
    for title, model in (
        ("serve", GatewaySettings),
        ("ledger", LedgerSettings),
        ("setup", SetupSettings),
    ):
        typer.echo(f"# {title}")
        for name, field in model.model_fields.items():
            if name not in shown:
                default = "required" if field.is_required() else f"default {field.default!r}"
                typer.echo(f"QSLICE_{name.upper()}: {field.description} ({default})")
                shown.add(name)


def _end(message: str) -> SystemExit:
    typer.echo(message, err=True)
    return SystemExit(2)


def main() -> None:
    """The program's entry."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
