"""What a command wrote: the ends of its streams, and the JSON that is its result."""

import codecs
import json
from collections import deque
from typing import Any

import orjson
from qslice.messages.result import MAX_OUTPUT
from qslice.worker.handler import Job, Stream

#: Characters of a log's end in an error message.
_LAST = 2000


class Tail:
    """Text from bytes in any portions, of which the last `limit` characters are kept."""

    def __init__(self, limit: int = MAX_OUTPUT) -> None:
        self._limit = limit
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._parts: deque[str] = deque()
        self._size = 0
        self._total = 0

    def feed(self, data: bytes, final: bool = False) -> str:
        """The text of these bytes; half a character waits for its other half."""
        text = self._decoder.decode(data, final)
        if text:
            self._parts.append(text)
            self._size += len(text)
            self._total += len(text)
            while self._size - len(self._parts[0]) >= self._limit:
                self._size -= len(self._parts.popleft())
        return text

    @property
    def text(self) -> str:
        return "".join(self._parts)[-self._limit :]

    @property
    def truncated(self) -> bool:
        return self._total > self._limit


def last_lines(*streams: str) -> str:
    """The end of the last stream that has any text, for an error message."""
    for text in reversed(streams):
        if text.strip():
            end = text.rstrip()[-_LAST:]
            # Whole lines, unless one line is all there is.
            return end.partition("\n")[2] or end if len(text.rstrip()) > _LAST else end
    return ""


def parse(raw: bytes) -> Any:
    """A JSON document; raises `ValueError`. NaN and infinities, which Python writes, are null."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as wrong:
        try:
            return json.loads(raw, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            raise ValueError(str(wrong)) from None


def read_result(raw: bytes | None, stdout: str, truncated: bool) -> tuple[Any, str | None]:
    """The result: the file's, else the last line of standard output where that is JSON.

    Also a note for the log, where the file is there but cannot be used.
    """
    note = None
    if raw is not None:
        try:
            return parse(raw), None
        except ValueError as wrong:
            note = f"/output/result.json is not JSON ({wrong}) and was passed over"
    _, newline, line = stdout.rstrip().rpartition("\n")
    if truncated and not newline:
        return None, note  # the end of a line, which may look like a number
    try:
        return parse(line.encode()), note
    except (ValueError, UnicodeEncodeError):
        return None, note


class Output:
    """What a run writes: to the job's log as it comes, and the ends of it for the result."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._tails: dict[Stream, Tail] = {"stdout": Tail(), "stderr": Tail()}

    async def take(self, stream: Stream, data: bytes) -> None:
        """Waits where the log is taken more slowly than it comes."""
        if text := self._tails[stream].feed(data):
            await self._job.log(stream, text)

    async def end(self) -> None:
        """Half a character that nothing followed."""
        for stream, tail in self._tails.items():
            if text := tail.feed(b"", final=True):
                await self._job.log(stream, text)

    @property
    def stdout(self) -> str:
        return self._tails["stdout"].text

    @property
    def stderr(self) -> str:
        return self._tails["stderr"].text

    @property
    def stdout_truncated(self) -> bool:
        return self._tails["stdout"].truncated

    @property
    def truncated(self) -> bool:
        return any(tail.truncated for tail in self._tails.values())
