"""Server-sent events: their text form, read (WHATWG HTML, 9.2.6)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerEvent:
    name: str
    data: str
    #: The last id that the stream told: where to go on after a cut.
    id: str | None


def parse(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """The events in a stream's lines; one that the stream's end cut short is left out.

    >>> [event.data for event in parse(["id: 7", "data: a", "data: b", ""])]
    ['a\\nb']
    """
    id_: str | None = None
    name, data = "message", list[str]()
    for line in lines:
        if not line:
            if data:
                yield ServerEvent(name, "\n".join(data), id_)
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            id_ = value
