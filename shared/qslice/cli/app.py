"""All commands together, and how a failure of any of them ends."""

import sys

import typer

from qslice.cli import (
    batches,
    dead,
    jobs,
    login,
    logs,
    projects,
    publications,
    results,
    submit,
    watch,
)
from qslice.messages.base import Rejected
from qslice.sdk.errors import ApiError, QsliceError

app = typer.Typer(
    name="qslice",
    help="Experiments on qslice: hand them in, follow them, get their results.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("login")(login.login)
app.command("logout")(login.logout)
app.command("token")(login.token)
app.add_typer(projects.app, name="project")
app.command("submit")(submit.submit)
app.command("sweep")(submit.sweep)
app.command("jobs")(jobs.jobs)
app.command("show")(jobs.show)
app.command("batches")(batches.batches)
app.command("watch")(watch.watch)
app.command("logs")(logs.logs)
app.command("results")(results.results)
app.command("cancel")(jobs.cancel)
app.command("retry")(jobs.retry)
app.add_typer(dead.app, name="dead")
app.add_typer(publications.app, name="publications")


def main() -> None:
    """Run the command line. Exit code 0: done; 1: it failed; 2: it was not understood."""
    try:
        app()
    except (QsliceError, Rejected, TimeoutError) as error:
        _end(str(error), _hint(error))
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        sys.stderr.close()
        sys.exit(1)


def _end(message: str, hint: str) -> None:
    print(f"qslice: {message}{hint}", file=sys.stderr)
    sys.exit(1)


def _hint(error: Exception) -> str:
    if isinstance(error, ApiError) and error.status == 401:
        return " (get a token and run `qslice login`)"
    return ""
