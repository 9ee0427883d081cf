"""What a command prints: tables for people, JSON for programs.

Whatever a task or another person wrote is shown as text: no markup, and none of the control
sequences that could move a terminal's cursor or rewrite what stands on it.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qslice.sdk.client import Client

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Project = Annotated[
    str | None,
    typer.Option("--project", "-p", help="The project; else QSLICE_PROJECT or the login's."),
]

#: Seconds for which a command tries to reach the gateway.
PATIENCE_S = 15.0

_COLOURS = {
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "timed_out": "red",
    "dead": "red",
    "cancelled": "yellow",
}
#: All of the control characters but tab and new line.
_CONTROL = dict.fromkeys((*range(32), *range(127, 160)), "�")
del _CONTROL[9], _CONTROL[10]


@contextmanager
def client(project: str | None = None, patience_s: float = PATIENCE_S) -> Iterator[Client]:
    """The gateway, as the environment or the login says."""
    with Client(project=project, patience_s=patience_s) as found:
        yield found


def safe(text: str) -> str:
    """The text with control characters made visible; carriage returns before new lines go."""
    return text.replace("\r\n", "\n").translate(_CONTROL)


def line(text: str = "") -> None:
    """A line for people."""
    print(safe(text))


def json(document: Any) -> None:
    """A JSON document in a line of its own."""
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_UTC_Z).decode() + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table, coloured on a terminal; elsewhere nothing is cut off."""
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column.upper(), overflow="fold")
    for row in rows:
        shown.add_row(*(_cell(value) for value in row))
    if not console.is_terminal:
        console.width = 100_000
    with console.capture() as captured:
        console.print(shown)
    # The table pads its last column.
    for text in captured.get().splitlines():
        print(text.rstrip())


def pairs(values: Mapping[str, Any]) -> None:
    """Names and values, a line each; what has no value is left out."""
    known = {name: value for name, value in values.items() if value not in (None, "", {}, [])}
    width = max((len(name) for name in known), default=0)
    for name, value in known.items():
        first, *more = safe(text_of(value)).split("\n")
        print(f"{name:<{width}}  {first}")
        for rest in more:
            print(f"{'':<{width}}  {rest}")


def text_of(value: Any) -> str:
    """A value in a table: times to the second in local time, objects as JSON."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return orjson.dumps(value).decode()


def age(moment: datetime | None) -> str:
    """How long ago, in its largest unit."""
    if moment is None:
        return ""
    seconds = max((datetime.now(UTC) - moment).total_seconds(), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def _cell(value: Any) -> Text:
    text = safe(text_of(value)).replace("\n", " ")
    return Text(text, style=_COLOURS.get(text, ""))
