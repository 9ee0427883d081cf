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

        Raises `TimeoutError` where `timeout_s` is over before.
        """
        begun, pause = time.monotonic(), _POLL[0]
        before: BatchSummary | None = None
        while True:
            summary = self.summary()
            if summary != before:
                before, pause = summary, _POLL[0]
                yield summary
            if summary.is_final:
                return
            if timeout_s is not None and time.monotonic() - begun > timeout_s:
                raise TimeoutError(
                    f"{summary.total - summary.finished} jobs of {self.batch_id} are not over "
                    f"after {timeout_s:g} s"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, _POLL[1])

    def wait(self, timeout_s: float | None = None) -> BatchSummary:
        """Return once every job is over; raises `TimeoutError`."""
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
        Raises `TimeoutError`.
        """
        with Journal(resume_file, keep_results=keep_results) as journal:
            if keep_results:
                yield from (kept for kept in journal.kept() if kept.batch_id == self.batch_id)
            known = 0
            for summary in self.summaries(timeout_s):
                if summary.finished == known:
                    continue
                known = summary.finished
                for result in self._listed():
                    if not journal.seen(result.job_id):
                        yield result
                        journal.add(result)

    def csv(self) -> str:
        """The results so far as a table, a line per job."""
        return self._client.api.csv(f"{self._path}/results", format="csv")

    def cancel(self) -> BatchSummary:
        """End every job that is not over."""
        self._client.api.post(f"{self._path}/cancel")
        return self.summary()

    def _listed(self) -> Iterator[Result]:
        item: dict[str, Any]
        for item in self._client.api.pages(f"{self._path}/results", limit=500):
            if item.get("finished_at") is not None:
                yield Result.of(item)
