"""From the body of a submit to the jobs to be written. Pure.

A body is one run, one task in the TP's form, or `{"jobs": [either, …]}`. With a `request_id` the
jobs that have no key of their own get one from it: the same request twice makes them once.
"""

from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, StringConstraints, ValidationError
from qslice import ids, names
from qslice.messages.base import Message
from qslice.messages.base import problems as wrong_fields
from qslice.messages.run import MAX_BODY, Run, TpTask

from qslice_gateway.problems import Problem, invalid
from qslice_gateway.routing import parse_object
from qslice_gateway.store.jobs import NewJob

RequestId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=150, pattern=r"^[^\x00-\x1f\x7f]+$"),
    Field(description="idempotency key: the same request sent again gives the same jobs"),
]
#: Bodies below this cannot hold a job that is too large once its defaults are written out.
_SURELY_SMALL = MAX_BODY // 2


class JobItem(Run):
    """A run, and its kind."""

    kind: Literal["run"] = "run"


class JobRequest(JobItem):
    """One run."""

    request_id: RequestId | None = None


class _Around(Message):
    """What stands around many jobs; each job is read by itself, so that errors name it."""

    jobs: Any
    request_id: RequestId | None = None


class JobsRequest(_Around):
    """Many runs; all are written, or none."""

    jobs: Annotated[list[JobItem | TpTask], Field(min_length=1)]


_OWN = {"kind", "request_id"}


def read(raw: bytes, most: int) -> tuple[list["Read"], bool]:
    """The jobs in a body, and whether it was one alone.

    Raises `Problem` that names each field that is wrong.
    """
    value = parse_object(raw)
    if "jobs" not in value:
        found = _job(value, JobRequest, "")
        if len(raw) > _SURELY_SMALL:
            _check_size(found, "")
        return [found], True
    return _many(value, most, check_sizes=len(raw) > _SURELY_SMALL), False


class Read:
    """One job of a body: its message and its keys."""

    __slots__ = ("labels", "payload", "priority", "producer_id")

    def __init__(
        self,
        payload: dict[str, Any],
        producer_id: str | None,
        labels: dict[str, str],
        priority: int,
    ) -> None:
        self.payload = payload
        self.producer_id = producer_id
        self.labels = labels
        self.priority = priority

    def job(
        self,
        project: str,
        owner: str,
        authority: str,
        batch_id: str | None = None,
        batch_index: int | None = None,
    ) -> NewJob:
        return NewJob(
            id=ids.new(ids.JOB, authority),
            project=project,
            kind=names.RUN,
            payload=self.payload,
            owner=owner,
            producer_id=self.producer_id,
            labels=self.labels,
            priority=self.priority,
            batch_id=batch_id,
            batch_index=batch_index,
        )


def run_of(value: dict[str, Any], model: type[JobItem] = JobItem, path: str = "") -> Run:
    """The run in an object; raises `Problem` with the fields' paths below `path`."""
    try:
        return model.model_validate(value, strict=True)
    except ValidationError as wrong:
        raise invalid(_below(path, wrong)) from None


def of_run(run: Run, key: str | None = None) -> Read:
    """What is written of a run; `key`: its producer id where it has none of its own."""
    return Read(
        run.model_dump(exclude_none=True, exclude=_OWN),
        run.id if run.id is not None else key,
        run.labels,
        run.priority,
    )


def _many(value: dict[str, Any], most: int, *, check_sizes: bool) -> list[Read]:
    items = value.get("jobs")
    if not isinstance(items, list):
        raise invalid([("jobs", "must be a list")])
    if len(items) > most:
        raise Problem(
            "too_many_jobs",
            f"{len(items)} jobs in one request, at most {most}; send more requests, or a batch",
            [("jobs", f"at most {most}")],
        )
    try:
        request_id = _Around.model_validate(value, strict=True).request_id
    except ValidationError as wrong:
        raise invalid(wrong_fields(wrong)) from None
    if not items:
        raise invalid([("jobs", "must hold at least one job")])
    found = []
    for index, item in enumerate(items):
        path = f"jobs.{index}"
        if not isinstance(item, dict):
            raise invalid([(path, "must be a JSON object")])
        key = None if request_id is None else f"request:{request_id}:{index}"
        job = _job(item, JobItem, path, key)
        if check_sizes:
            _check_size(job, path)
        found.append(job)
    return found


def _job(value: dict[str, Any], model: type[JobItem], path: str, key: str | None = None) -> Read:
    if "URL_git" in value or "ID_tache" in value:
        return _task(value, path)
    run = run_of(value, model, path)
    if isinstance(run, JobRequest) and run.request_id is not None:
        key = f"request:{run.request_id}"
    return of_run(run, key)


#: Fields of a run as the TP names them.
_TP_NAMES = {"repository": "URL_git", "command": "CMD", "id": "ID_tache"}


def _task(value: dict[str, Any], path: str) -> Read:
    try:
        task = TpTask.model_validate(value, strict=True)
    except ValidationError as wrong:
        raise invalid(_below(path, wrong)) from None
    try:
        run = Run.model_validate(task.run())
    except ValidationError as wrong:
        found = [
            (_join(path, _TP_NAMES.get(field.split(".")[0], field)), why)
            for field, why in wrong_fields(wrong)
        ]
        raise invalid(found) from None
    return Read(task.model_dump(), run.id, {}, 0)


def _check_size(job: Read, path: str) -> None:
    size = len(orjson.dumps(job.payload))
    if size > MAX_BODY:
        raise invalid([(path, f"the job has {size} bytes, at most {MAX_BODY} are allowed")])


def _below(path: str, wrong: ValidationError) -> list[tuple[str, str]]:
    return [(_join(path, field), why) for field, why in wrong_fields(wrong)]


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path and field else path or field
