"""A sweep over REST: how far it is, and its results as they come."""

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qslice.messages.result import Result
from qslice.sdk.models import BatchSummary
from qslice.sdk.results import Journal

if TYPE_CHECKING:
    from qslice.sdk.client import Client

#: Seconds between two looks: from the first to the second figure while nothing changes.
_POLL = (0.2, 2.0)
#: Jobs of a page; a result may have a megabyte.
_PAGE = 100


class Batch:
    """The jobs of one sweep.

    >>> batch = client.sweep(template, grid={"distance": [0, 10]})          # doctest: +SKIP
    >>> for result in batch.results():                                      # doctest: +SKIP
    ...     print(result.labels["distance"], result.result)
    """

    def __init__(self, client: "Client", project: str, batch_id: str, total: int) -> None:
        self._client = client
        self._path = f"/api/v1/projects/{project}/batches/{batch_id}"
        self.project = project
        self.batch_id = batch_id
        self.total = total

    def __repr__(self) -> str:
        return f"Batch({self.batch_id!r}, total={self.total})"

    def __len__(self) -> int:
        return self.total

    def summary(self) -> BatchSummary:
        """How many of its jobs are in which state."""
        return BatchSummary.model_validate(self._client.api.get(self._path))

    def summaries(self, timeout_s: float | None = None) -> Iterator[BatchSummary]:
        """The summary now and after each change, until the last job is over.

        Raises `TimeoutError` where nothing changed for `timeout_s`.
        """
        changed_at, pause = time.monotonic(), _POLL[0]
        before: BatchSummary | None = None
        while True:
            summary = self.summary()
            if summary != before:
                before, pause = summary, _POLL[0]
                yield summary
                changed_at = time.monotonic()
            if summary.is_final:
                return
            if timeout_s is not None and time.monotonic() - changed_at > timeout_s:
                raise TimeoutError(
                    f"{summary.total - summary.finished} jobs of {self.batch_id} are not over and "
                    f"nothing changed for {timeout_s:g} s"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, _POLL[1])

    def wait(self, timeout_s: float | None = None) -> BatchSummary:
        """Return once every job is over; raises `TimeoutError` after `timeout_s` without change."""
        for summary in self.summaries(timeout_s):
            last = summary
        return last

    def results(
        self,
        *,
        resume_file: str | os.PathLike[str] | None = None,
        keep_results: bool = False,
        timeout_s: float | None = None,
    ) -> Iterator[Result]:
        """The results as they come, each job's once, until the last job is over.

        A result counts as done with when the loop comes back for the next one. `resume_file`
        remembers those, so a script that is started anew goes on where it was; with
        `keep_results` the file holds the results, and they are given again first.
        Raises `TimeoutError` where nothing changed for `timeout_s`.
        """
        with Journal(resume_file, keep_results=keep_results) as journal:
            if keep_results:
                yield from (kept for kept in journal.kept() if kept.batch_id == self.batch_id)
            pages, known = _Pages(self._client, f"{self._path}/results"), 0
            for summary in self.summaries(timeout_s):
                if summary.finished < known:
                    # A job was tried again: its place is open once more.
                    pages = _Pages(self._client, f"{self._path}/results")
                known = summary.finished
                for result in pages.finished(known):
                    if not journal.seen(result.job_id):
                        yield result
                        journal.add(result)

    def results_now(self) -> Iterator[Result]:
        """The results that there are, in the order of the sweep's points."""
        return _Pages(self._client, f"{self._path}/results").finished(self.total)

    def csv(self) -> str:
        """The jobs as a table, a line each, with their parameters and results."""
        return self._client.api.csv(f"{self._path}/results", format="csv")

    def cancel(self) -> BatchSummary:
        """End every job that is not over."""
        self._client.api.post(f"{self._path}/cancel")
        return self.summary()


class _Pages:
    """The listing of a batch's jobs, which has them in the order of the grid.

    Pages whose jobs are all over are not asked for again, nor those behind the last finished one:
    following a long sweep costs about as much as reading it once.
    """

    def __init__(self, client: "Client", path: str) -> None:
        self._client = client
        self._path = path
        self._cursors: list[str | None] = [None]
        #: Per page that was read: how many of its jobs are over, and whether all are.
        self._over: list[tuple[int, bool]] = []

    def finished(self, expected: int) -> Iterator[Result]:
        """The results that there are, some of them once more, until `expected` were found."""
        number = 0
        while number < len(self._cursors):
            if number == len(self._over) or not self._over[number][1]:
                yield from self._read(number)
            number += 1
            if number >= len(self._over) and sum(over for over, _ in self._over) >= expected:
                return

    def _read(self, number: int) -> Iterator[Result]:
        page = self._client.api.get(self._path, limit=_PAGE, cursor=self._cursors[number])
        items: list[dict[str, Any]] = page["items"]
        over = [item for item in items if item.get("finished_at") is not None]
        known = (len(over), len(over) == len(items))
        if number == len(self._over):
            self._over.append(known)
            if page.get("next"):
                self._cursors.append(page["next"])
        else:
            self._over[number] = known
        for item in over:
            yield Result.of({name: value for name, value in item.items() if value is not None})
