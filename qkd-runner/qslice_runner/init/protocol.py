"""What is said to the first process of a container and what it answers; init.c is the other side.

A task goes in on standard input. The task's own output comes out on standard output and error; the
report follows it on the same streams, after a mark that only the two sides know.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

MARK = 16
_HEADER = struct.Struct("<BBiq")


class Kind(IntEnum):
    ENDED = 0
    #: `status` is the errno that exec gave.
    NOT_STARTED = 1
    #: The image's user has the uid 0: nothing was started.
    IS_ROOT = 2
    #: /output or /tmp got the mode that the image's folder of that name has: nothing was started.
    NOT_WRITABLE = 3


class Flag(IntFlag):
    OUT_OF_MEMORY = 1
    #: Something of the task is left: the container must not be used again.
    NOT_CLEAN = 2
    RESULT_TOO_LARGE = 4
    RESULT_UNREADABLE = 8


@dataclass(frozen=True)
class Report:
    """How a task ended."""

    kind: Kind
    flags: Flag
    #: The exit code (128 + n after signal n), or an errno.
    status: int
    #: What stood in /output/result.json.
    result: bytes | None


def encode(
    mark: bytes,
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    once: bool,
    max_result: int,
) -> bytes:
    """A task as it goes in; after the last one (`once`) the first process ends."""
    body = mark + struct.pack("<BI", once, max_result)
    body += _strings(command) + _strings([f"{name}={value}" for name, value in env.items()])
    return struct.pack("<I", len(body)) + body


def _strings(texts: Sequence[str]) -> bytes:
    encoded = [text.encode("utf-8", "surrogatepass") + b"\0" for text in texts]
    return struct.pack("<I", len(encoded)) + b"".join(
        struct.pack("<I", len(text)) + text for text in encoded
    )


class _Marked:
    """One stream: what comes before the mark, and what comes after it."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._held = b""
        self.after: bytearray | None = None

    def feed(self, data: bytes) -> bytes:
        """What of it is the task's output. The beginning of a mark is held back."""
        if self.after is not None:
            self.after += data
            return b""
        data = self._held + data
        found = data.find(self._mark)
        if found >= 0:
            self._held = b""
            self.after = bytearray(data[found + len(self._mark) :])
            return data[:found]
        keep = next(
            (
                n
                for n in range(min(len(self._mark) - 1, len(data)), 0, -1)
                if data.endswith(self._mark[:n])
            ),
            0,
        )
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]


class Reader:
    """Takes both streams apart, in any portions, until the report is whole."""

    def __init__(self, mark: bytes) -> None:
        self._stdout = _Marked(mark)
        self._stderr = _Marked(mark)
        self._report: Report | None = None

    def stdout(self, data: bytes) -> bytes:
        shown = self._stdout.feed(data)
        if self._report is None and self._stdout.after is not None:
            self._report = _parse(self._stdout.after)
        return shown

    def stderr(self, data: bytes) -> bytes:
        return self._stderr.feed(data)

    @property
    def report(self) -> Report | None:
        """The report, once both streams are at their end."""
        return self._report if self._stderr.after is not None else None


def _parse(data: bytearray) -> Report | None:
    if len(data) < _HEADER.size:
        return None
    kind, flags, status, size = _HEADER.unpack_from(data)
    if size >= 0 and len(data) < _HEADER.size + size:
        return None
    result = bytes(data[_HEADER.size : _HEADER.size + size]) if size >= 0 else None
    return Report(Kind(kind), Flag(flags), status, result)
