"""The demonstration that `make demo` runs once everything is up: from git to results and back.

Two experiments go into git repositories; one sweep is submitted by REST, a second one by a lab
script over RabbitMQ, and the course's N queens in its own message form. Every result is gathered,
held against theory, and written to `.run/demo/`. Any disagreement ends it with exit code 1.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

# An experiment and the lab scripts are folders to use as they are, not installed packages.
sys.path.insert(0, str(Path(__file__).resolve().parent / "bb84"))
sys.path.insert(0, str(Path(__file__).resolve().parent / "lab"))

from broker import LabError, ProjectQueues, Result, setting
from n_queens import KNOWN_TOTALS, total
from plot import draw
from publish import publish
from sweep import describe, read_distances
from verdict import Point, check, write_csv

EXAMPLES = Path(__file__).resolve().parent
OUTPUT = EXAMPLES.parent / ".run" / "demo"
BY_REST = "0:150:6"
BY_LAB_SCRIPT = "3:147:6"
QUEENS = 8

console = Console(highlight=False, markup=False, emoji=False)


def main() -> int:
    """Run the demonstration; 0 when all of it worked and agrees with theory."""
    try:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        put_into_git()
        points = [
            *sweep("rest", "sweep_rest.py", BY_REST, "--isolation", "batch"),
            *sweep("amqp", "sweep_amqp.py", BY_LAB_SCRIPT),
        ]
        count_queens()
        write_csv(points, OUTPUT / "results.csv")
        draw(points, OUTPUT / "key-rate.png")
    except LabError as error:
        say(f"make demo failed: {error}", style="red")
        return 1
    show_where_to_look(points)
    return 0


def put_into_git() -> None:
    """Publish both experiments where the runner may clone from."""
    heading("Two experiments into git repositories")
    for name in ("bb84", "n-queens"):
        repository = Path(setting("QSLICE_GIT_DIR")) / f"{name}.git"
        commit = publish(EXAMPLES / name, repository)
        say(f"  file://{repository}  commit {commit[:12]}")


def sweep(way: str, script: str, distances: str, *options: str) -> list[Point]:
    """Run a sweep script, follow it, and return its points once they agree with theory."""
    asked = read_distances(distances)
    how = {"rest": "by REST", "amqp": "by a lab script over RabbitMQ"}[way]
    heading(f"A sweep of decoy-state BB84 over {len(asked)} distances, submitted {how}")
    results = follow(len(asked), describe, script, "--distances", distances, *options)
    if way == "rest":
        compare_with_done(results)
    points = [Point.of(way, result) for result in results]
    check(points, asked)
    furthest = max(abs(point.sigmas) for point in points)
    say(
        f"  all {len(points)} points agree with the closed form; the furthest lies "
        f"{furthest:.1f} standard errors from it"
    )
    return points


def compare_with_done(results: list[Result]) -> None:
    """Read the same jobs from the project's Done queue: it must say what REST said, once each."""
    by_rest = {result["id"]: result for result in results}
    with ProjectQueues.from_environment() as queues:
        for told in queues.results(by_rest.keys(), silence_s=120):
            known = by_rest[told["id"]]
            if (told["job_id"], told["result"]) != (known["job_id"], known["result"]):
                raise LabError(f"Done and REST tell different results of job {known['job_id']}")
    say(f"  the queue {queues.project}.Done tells the same {len(results)} results")


def count_queens() -> None:
    """Run the course's example: one task per first-row column, summed to the known total."""
    heading(f"{QUEENS} queens, one task per first-row column, in the course's message form")

    def column(result: Result) -> str:
        return f"column {result['ID_tache']}: {result.get('Resultat', result['state'])}"

    results = follow(QUEENS, column, "n_queens.py", str(QUEENS))
    found, known = total(results), KNOWN_TOTALS[QUEENS]
    if found != known:
        raise LabError(f"{QUEENS} queens have {known} solutions, not {found}")
    say(f"  {QUEENS} queens: {found} solutions, as is known")


def follow(
    expected: int, one_line: Callable[[Result], str], script: str, *options: str
) -> list[Result]:
    """Run a lab script as a person would, showing each result that it prints; return them all."""
    command = [sys.executable, str(EXAMPLES / "lab" / script), *options, "--json"]
    shown = " ".join(["python", f"examples/lab/{script}", *options])
    say(f"  $ {shown}")
    results: list[Result] = []
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as complaints,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, encoding="utf-8"
        ) as process,
    ):
        try:
            with progress_of(expected, one_line) as show:
                for line in process.stdout or ():
                    results.append(json.loads(line))
                    show(results[-1])
        except BaseException:
            process.terminate()
            raise
        if process.wait() != 0:
            complaints.seek(0)
            raise LabError(f"{shown} ended with {process.returncode}:\n{complaints.read().strip()}")
    return results


@contextmanager
def progress_of(
    expected: int, one_line: Callable[[Result], str]
) -> Iterator[Callable[[Result], None]]:
    """Show results as a progress bar on a terminal, and as plain lines elsewhere."""
    if not console.is_terminal:
        count = 0

        def print_line(result: Result) -> None:
            nonlocal count
            count += 1
            print(f"  {count:3d}/{expected}  {one_line(result)}", flush=True)

        yield print_line
        return
    rest_of_the_line = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    columns = (
        TextColumn("  "),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False, table_column=rest_of_the_line),
    )
    with Progress(*columns, console=console, expand=True) as bar:
        task = bar.add_task("waiting for the first result", total=expected)
        yield lambda result: bar.update(task, advance=1, description=one_line(result))


def show_where_to_look(points: list[Point]) -> None:
    """Print what there is to see now, and how to go on."""
    url = setting("QSLICE_URL").rstrip("/")
    page = urlsplit(setting("QSLICE_RABBITMQ_CONSOLE"))
    login = page if page.username else urlsplit(setting("QSLICE_AMQP_URL"))
    address = page._replace(netloc=page.netloc.rpartition("@")[2]).geturl()
    heading("It works. Where to look next")
    for what, where in (
        ("results", str(OUTPUT / "results.csv")),
        ("plot", str(OUTPUT / "key-rate.png")),
        ("API", f"{url}/docs"),
        ("RabbitMQ", address),
        ("  its login", f"{unquote(login.username or '')} / {unquote(login.password or '')}"),
        ("stop it all", "make down"),
    ):
        say(f"  {what:<13}{where}")
    say("From a shell:")
    for command in (". .run/env", *map(shlex.join, commands_to_try(points))):
        say(f"  {command}")


def commands_to_try(points: list[Point]) -> list[list[str]]:
    """Return command lines of qslice that work now."""
    qslice = ".venv/bin/qslice"
    experiment = f"file://{setting('QSLICE_GIT_DIR')}/bb84.git"
    return [
        [qslice, "batches"],
        [qslice, "logs", points[-1].job_id],
        [
            *(qslice, "sweep", experiment, "--param", "distance=0:100:25", "--watch", "--"),
            *("python", "/app/bb84.py", "--distance", "{distance}"),
        ],
    ]


def heading(text: str) -> None:
    """Say what comes now."""
    say(f"== {text}", style="bold")


def say(text: str, style: str | None = None) -> None:
    """Print a line; the terminal wraps it, so that paths and commands can be copied whole."""
    console.print(text, style=style, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
