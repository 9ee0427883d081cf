"""Which results were seen: each job's once, also across restarts of a script."""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
from pydantic import ValidationError

from qslice.messages.result import Result

log = logging.getLogger("qslice.sdk")


class Journal:
    """The job ids of the results that a script is done with; with a file it survives a restart.

    The file holds a JSON line per result, `{"job_id": …, "id": …}`, or the whole result where
    `keep_results` is set: then `kept()` gives them back.

    >>> with Journal() as journal:
    ...     journal.seen("job_localhost_01m7")
    False
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, keep_results: bool = False
    ) -> None:
        self._path = Path(path) if path is not None else None
        self._keep = keep_results
        self._job_ids: set[str] = set()
        self._ids: set[str] = set()
        self._file = None
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            for line in self._lines():
                self._remember(line)
            self._file = self._path.open("ab")
            # A line that a crash cut short must not swallow the next one.
            if self._path.stat().st_size and not self._path.read_bytes().endswith(b"\n"):
                self._file.write(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._job_ids)

    def seen(self, job_id: str) -> bool:
        return job_id in self._job_ids

    def has(self, key: str) -> bool:
        """Whether a result of this job id or of this producer's own id was seen."""
        return key in self._job_ids or key in self._ids

    def add(self, result: Result) -> None:
        """From now on it counts as seen; on disk before this returns."""
        line = {"job_id": result.job_id, "id": result.id}
        self._remember(line)
        if self._file is not None:
            kept = orjson.loads(result.body()) if self._keep else line
            self._file.write(orjson.dumps(kept) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def kept(self) -> Iterator[Result]:
        """The results that the file holds, each once; a line without one is passed over."""
        given: set[str] = set()
        for line in self._lines():
            try:
                result = Result.model_validate(line)
            except ValidationError:
                continue
            if result.job_id not in given:
                given.add(result.job_id)
                yield result

    def _lines(self) -> Iterator[dict[str, object]]:
        if self._path is None or not self._path.exists():
            return
        with self._path.open("rb") as file:
            for number, text in enumerate(file, 1):
                try:
                    line = orjson.loads(text)
                except orjson.JSONDecodeError:
                    line = None
                if isinstance(line, dict):
                    yield line
                elif text.strip():
                    log.warning("%s: line %d is passed over, it was cut short", self._path, number)

    def _remember(self, line: Mapping[str, object]) -> None:
        if isinstance(job_id := line.get("job_id"), str):
            self._job_ids.add(job_id)
        if isinstance(id_ := line.get("id"), str):
            self._ids.add(id_)
