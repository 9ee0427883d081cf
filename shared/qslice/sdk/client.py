"""qslice over REST.

>>> from qslice.sdk import Client
>>> with Client() as client:                       # QSLICE_URL, QSLICE_TOKEN, QSLICE_PROJECT
...     job = client.submit({"repository": "https://git.example/qkd/bb84.git",
...                          "command": ["python", "/app/bb84.py", "--distance", "10"]})
...     print(client.wait(job).result)                                      # doctest: +SKIP
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import orjson

from qslice import ids
from qslice.messages.base import Rejected
from qslice.messages.completion import PublicationSettings
from qslice.messages.result import Result
from qslice.messages.run import Run
from qslice.sdk import config
from qslice.sdk.batch import Batch
from qslice.sdk.errors import Unconfigured
from qslice.sdk.http import Api
from qslice.sdk.models import (
    BatchSummary,
    BrokerUser,
    DeadMessage,
    Job,
    JobEvent,
    JobRef,
    LogLine,
    Project,
    Publication,
)
from qslice.states import State

RunLike = Run | Mapping[str, Any]
#: What goes in one request: jobs, and bytes of them.
_CHUNK_JOBS = 1000
_CHUNK_BYTES = 4 * 1024 * 1024


class Client:
    """The gateway, for scripts. Close it, or use `with`.

    What it sends may be sent twice without harm: each submit carries a `request_id` that was
    made here, so after a lost answer the same request gives the same jobs. Requests are repeated
    for `patience_s` seconds while the gateway is away or busy.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        project: str | None = None,
        *,
        patience_s: float = 60.0,
    ) -> None:
        """What is not given comes from the environment (`QSLICE_URL`, `QSLICE_TOKEN`,
        `QSLICE_PROJECT`) or the login that `qslice login` saved. Raises `Unconfigured`.
        """
        login = config.effective(url, token, project)
        if not login.url:
            raise Unconfigured("give the gateway's url, set QSLICE_URL, or run `qslice login`")
        if not login.url.startswith(("http://", "https://")):
            raise Unconfigured(f"{login.url!r} is no address: it must start with https://")
        self.project = login.project
        self.api = Api(login.url, login.token, patience_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.api.url!r}, project={self.project!r})"

    def close(self) -> None:
        self.api.close()

    # Projects

    def projects(self) -> Iterator[Project]:
        """The projects that you may use."""
        return Project.each(self.api.pages("/api/v1/projects"))

    def create_project(self, name: str) -> Project:
        """Make a project with its queues; one that you own already is given back."""
        return Project.of(self.api.post("/api/v1/projects", {"name": name}))

    def delete_project(self, name: str, *, force: bool = False) -> None:
        """Remove a project and its queues; with `force` also where jobs are still to do."""
        self.api.delete(f"/api/v1/projects/{_quoted(name)}", force="true" if force else None)

    def broker_user(self, project: str | None = None) -> BrokerUser:
        """A new password for the project's RabbitMQ user; the one before ends."""
        return BrokerUser.of(self.api.post(f"{self._of(project)}/broker-user"))

    # Jobs

    def submit(
        self, run: RunLike, *, project: str | None = None, request_id: str | None = None
    ) -> JobRef:
        """Hand in one run; it is stored when this returns.

        >>> client.submit(Run(repository="https://git.example/qkd/bb84.git",
        ...                   command=["python", "/app/bb84.py"], id="t-10km"))  # doctest: +SKIP

        The same `id` of a run, or the same `request_id`, is the same job.
        Raises `ApiError`, whose `fields` name what is wrong.
        """
        body = _fields(run)
        if body.get("id") is None and "ID_tache" not in body:
            # A run that has its own key needs no other.
            body["request_id"] = request_id or ids.encode(ids.uuid7())
        return JobRef.of(self.api.post(f"{self._of(project)}/jobs", body))

    def submit_many(
        self,
        runs: Iterable[RunLike],
        *,
        project: str | None = None,
        request_id: str | None = None,
    ) -> list[JobRef]:
        """Hand in many runs, in as few requests as possible; the answers are in their order.

        Where one request fails the ones before it are accepted: the same call with the same
        `request_id` goes on.
        """
        key = request_id or ids.encode(ids.uuid7())
        path = f"{self._of(project)}/jobs"
        accepted: list[JobRef] = []
        for chunk in _chunks(map(_fields, runs)):
            body = {"jobs": chunk, "request_id": f"{key}-{len(accepted)}"}
            accepted += JobRef.each(self.api.post(path, body)["items"])
        return accepted

    def job(self, job: str | JobRef | Job) -> Job:
        """A job as it stands now."""
        return Job.of(self.api.get(_job_path(job)))

    def jobs(
        self,
        *,
        project: str | None = None,
        state: State | str | None = None,
        batch: str | Batch | None = None,
        id: str | None = None,
        labels: Mapping[str, str] | None = None,
        since: datetime | None = None,
    ) -> Iterator[Job]:
        """The project's jobs, newest first, without what they wrote.

        `state` may be several, with commas; `id` is the producer's own key; `labels` must all be
        there; `since` is when they were handed in.
        """
        query = {
            "state": state and str(state),
            "batch_id": batch.batch_id if isinstance(batch, Batch) else batch,
            "id": id,
            "label": ",".join(f"{name}={value}" for name, value in (labels or {}).items()) or None,
            "since": since and since.isoformat(),
            "limit": 200,
        }
        return Job.each(self.api.pages(f"{self._of(project)}/jobs", **query))

    def wait(self, job: str | JobRef | Job, timeout_s: float | None = None) -> Job:
        """Return the job once it is over; raises `TimeoutError`."""
        begun, pause = time.monotonic(), 0.1
        while not (found := self.job(job)).is_final:
            if timeout_s is not None and time.monotonic() - begun > timeout_s:
                raise TimeoutError(f"{found.job_id} is {found.state} after {timeout_s:g} s")
            time.sleep(pause)
            pause = min(pause * 1.5, 2.0)
        return found

    def cancel(self, job: str | JobRef | Job) -> Job:
        """End a job: at once where it waits, within seconds where it runs."""
        self.api.post(f"{_job_path(job)}/cancel")
        return self.job(job)

    def retry(self, job: str | JobRef | Job) -> JobRef:
        """Run a job once more that did not succeed, as a new job; asked again, the same one."""
        return JobRef.of(self.api.post(f"{_job_path(job)}/retry"))

    def logs(self, job: str | JobRef | Job, *, follow: bool = False) -> Iterator[LogLine]:
        """The job's log; with `follow` as it is written, until the job is over.

        A cut stream is taken up where it was: no line is missing or comes twice.
        """
        path = f"{_job_path(job)}/logs"
        for event in self.api.events(path, follow="true" if follow else "false"):
            if event.name == "log":
                yield LogLine.of(orjson.loads(event.data))

    def log_text(self, job: str | JobRef | Job) -> str:
        """The log so far, as one text."""
        return self.api.text(f"{_job_path(job)}/logs")

    def events(self, job: str | JobRef | Job, *, follow: bool = False) -> Iterator[JobEvent]:
        """What happened to the job; with `follow` as it happens, until the job is over."""
        path = f"{_job_path(job)}/events"
        for event in self.api.events(path, follow="true" if follow else "false"):
            if event.name == "event":
                yield JobEvent.of(orjson.loads(event.data))

    # Sweeps

    def sweep(
        self,
        template: RunLike,
        grid: Mapping[str, Sequence[Any]] | None = None,
        points: Sequence[Mapping[str, Any]] | None = None,
        *,
        name: str | None = None,
        project: str | None = None,
        request_id: str | None = None,
    ) -> Batch:
        """Hand in a run for each point of a grid, or of a list of points, in one request.

        `{placeholders}` in the template's `id`, `command`, `env` and `labels` are replaced, and
        the point becomes labels of the run, and so of its result.

        >>> client.sweep({"repository": "https://git.example/qkd/bb84.git",
        ...               "command": ["python", "/app/bb84.py", "--distance", "{distance}"]},
        ...              grid={"distance": range(0, 200, 10)})              # doctest: +SKIP

        Raises `ApiError`, and `Rejected` where it has neither or both of grid and points.
        """
        if (grid is None) == (points is None):
            raise Rejected("grid", "give either a grid or points")
        body: dict[str, Any] = {
            "template": _fields(template),
            "request_id": request_id or ids.encode(ids.uuid7()),
        }
        if name is not None:
            body["name"] = name
        if grid is not None:
            body["grid"] = {key: list(values) for key, values in grid.items()}
        else:
            body["list"] = [dict(point) for point in points or ()]
        path = self._of(project)
        found = BatchSummary.of(self.api.post(f"{path}/batches", body))
        return Batch(self, project or str(self.project), found.batch_id, found.total)

    def batch(self, batch_id: str, *, project: str | None = None) -> Batch:
        """A sweep that was handed in before."""
        found = BatchSummary.of(self.api.get(f"{self._of(project)}/batches/{_quoted(batch_id)}"))
        return Batch(self, project or str(self.project), found.batch_id, found.total)

    def batches(self, *, project: str | None = None) -> Iterator[BatchSummary]:
        """The project's sweeps, newest first."""
        return BatchSummary.each(self.api.pages(f"{self._of(project)}/batches"))

    def results(
        self,
        batch: str | Batch,
        *,
        resume_file: str | os.PathLike[str] | None = None,
        keep_results: bool = False,
        timeout_s: float | None = None,
    ) -> Iterator[Result]:
        """The results of a sweep as they come, each job's once; see `Batch.results`."""
        found = batch if isinstance(batch, Batch) else self.batch(batch)
        return found.results(
            resume_file=resume_file, keep_results=keep_results, timeout_s=timeout_s
        )

    # Dead letters

    def dead(self, *, project: str | None = None) -> Iterator[DeadMessage]:
        """Messages that could not be read or done, newest first, with the reason."""
        return DeadMessage.each(self.api.pages(f"{self._of(project)}/dead"))

    def replay(self, message_id: str, *, project: str | None = None) -> DeadMessage:
        """Try a dead message again: its job as a new job, else the message on its queue."""
        path = f"{self._of(project)}/dead/{_quoted(message_id)}/replay"
        return DeadMessage.of(self.api.post(path))

    def delete_dead(self, message_id: str, *, project: str | None = None) -> None:
        """Drop a dead message from the list."""
        self.api.delete(f"{self._of(project)}/dead/{_quoted(message_id)}")

    # The metadata registry

    def publications(
        self, *, state: str | None = None, project: str | None = None
    ) -> Iterator[Publication]:
        """What is, or is to be, in the metadata registry; `state`: only those."""
        return Publication.each(self.api.pages(f"{self._of(project)}/publications", state=state))

    def publication(self, publication_id: str, *, project: str | None = None) -> Publication:
        """One of them, by the id of the batch or resource."""
        path = f"{self._of(project)}/publications/{_quoted(publication_id)}"
        return Publication.of(self.api.get(path))

    def replay_publication(self, publication_id: str, *, project: str | None = None) -> Publication:
        """Publish it again, as the project's settings are now."""
        path = f"{self._of(project)}/publications/{_quoted(publication_id)}/replay"
        return Publication.of(self.api.post(path))

    def publication_settings(self, *, project: str | None = None) -> PublicationSettings:
        """What the project says of all that is published."""
        return PublicationSettings.of(self.api.get(f"{self._of(project)}/settings/publication"))

    def change_publication_settings(
        self, settings: PublicationSettings, *, project: str | None = None
    ) -> PublicationSettings:
        """Change them, for what is published from now on."""
        path = f"{self._of(project)}/settings/publication"
        return PublicationSettings.of(
            self.api.send("PUT", path, body=settings.model_dump(mode="json"))
        )

    def crate(self, batch_id: str, *, project: str | None = None) -> bytes:
        """The provenance of a finished batch: an RO-Crate as a ZIP file."""
        return self.api.file(f"{self._of(project)}/batches/{_quoted(batch_id)}/crate")

    def _of(self, project: str | None) -> str:
        project = project or self.project
        if not project:
            raise Unconfigured("name the project, or set QSLICE_PROJECT")
        return f"/api/v1/projects/{_quoted(project)}"


def _fields(run: RunLike) -> dict[str, Any]:
    return run.model_dump(exclude_unset=True) if isinstance(run, Run) else dict(run)


def _chunks(runs: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    chunk, size = list[dict[str, Any]](), 0
    for run in runs:
        bytes_ = len(orjson.dumps(run))
        if chunk and (len(chunk) == _CHUNK_JOBS or size + bytes_ > _CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(run)
        size += bytes_
    if chunk:
        yield chunk


def _quoted(part: str) -> str:
    return quote(part, safe="")


def _job_path(job: str | JobRef | Job) -> str:
    return f"/api/v1/jobs/{_quoted(job if isinstance(job, str) else job.job_id)}"
