"""Jobs: submitted, listed, looked at, cancelled, tried again."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from flask import Response
from psycopg import OperationalError
from psycopg.errors import UniqueViolation
from pydantic import BaseModel, Field, field_validator
from qslice import ids, names
from qslice.messages.run import TpTask
from qslice.states import FINAL, State

from qslice_gateway import submission
from qslice_gateway.api.models import (
    RESULT_FIELDS,
    Cancelled,
    Job,
    JobSummary,
    Next,
    Page,
    Submitted,
    SubmittedMany,
    page,
)
from qslice_gateway.auth.access import Access, Call
from qslice_gateway.problems import Problem
from qslice_gateway.routing import Answer, Body, Routes, json
from qslice_gateway.services import Services
from qslice_gateway.store import cancel, jobs, publications, reads, retry

routes = Routes("jobs", "/api/v1")

#: Sends of one submit: the first, and those after a connection that turned out to be dead.
_TRIES = 3


class JobList(BaseModel):
    items: list[JobSummary]
    next: Next


def _several_of(what: str, known: Sequence[str]) -> Any:
    """The description of a filter by one or several words, separated by commas."""
    one = f"({'|'.join(known)})"
    return Field(
        description=f"one {what}, or several separated by commas",
        json_schema_extra={"pattern": f"^{one}(,{one})*$"},
    )


class JobFilter(Page):
    """Which jobs; several states or kinds are separated by commas."""

    state: Annotated[str | None, _several_of("state", list(State))] = None
    kind: Annotated[str | None, _several_of("kind", names.KINDS)] = None
    batch_id: Annotated[str | None, Field(description="its batch", max_length=200)] = None
    id: Annotated[str | None, Field(description="the producer's own key", max_length=200)] = None
    label: Annotated[
        str | None,
        Field(
            description="`name=value`, several separated by commas: all must be there",
            json_schema_extra={"pattern": "^[^,=]+=[^,]*(,[^,=]+=[^,]*)*$"},
        ),
    ] = None
    since: Annotated[
        datetime | None, Field(description="submitted at this time or later, RFC 3339")
    ] = None

    @field_validator("state")
    @classmethod
    def _states(cls, value: str | None) -> str | None:
        return _known(value, list(State))

    @field_validator("kind")
    @classmethod
    def _kinds(cls, value: str | None) -> str | None:
        return _known(value, names.KINDS)

    @field_validator("label")
    @classmethod
    def _labels(cls, value: str | None) -> str | None:
        if value is not None and not all(part.find("=") > 0 for part in value.split(",")):
            raise ValueError("must be name=value")
        return value

    def labels(self) -> dict[str, str]:
        return dict(part.split("=", 1) for part in self.label.split(",")) if self.label else {}


_SUBMIT: Body[bytes] = Body(
    bytes,
    (submission.JobRequest, TpTask, submission.JobsRequest),
    {
        "repository": "https://git.example/qkd/bb84.git",
        "ref": "main",
        "command": ["python", "/app/bb84.py", "--distance", "10"],
        "labels": {"sweep": "s1"},
        "request_id": "4f1c7c52-3d0c-4d0e-9a80-f3f0a9a3f2f7",
    },
)


@routes.post(
    "/projects/<project>/jobs",
    access=Access.PROJECT,
    summary="Submit a job, or many",
    description=(
        "One run, one task in the TP's form, or `jobs` with many of either. It is durable when "
        "answered. The same `request_id`, or the same `id`, gives the same job."
    ),
    body=_SUBMIT,
    answers={
        202: Answer("Accepted; `items` where it was `jobs`", Submitted, or_model=SubmittedMany)
    },
    problems=("too_many_jobs",),
)
def submit_jobs(call: Call, project: str, body: bytes) -> Response:
    services = call.services
    found, alone = submission.read(body, services.settings.max_jobs_per_request)
    owner, authority = call.person.subject, services.settings.authority
    if alone:
        answer = _submit(services, found[0].job(project, owner, authority))
        services.doorbell.ring()
        return json(_submitted(answer), 202)
    new = [read.job(project, owner, authority) for read in found]
    with services.pool.connection() as connection:
        answers = jobs.submit_many(connection, new)
    services.doorbell.ring()
    return json({"items": [_submitted(one) for one in answers]}, 202)


def _submit(services: Services, job: jobs.NewJob) -> jobs.Submitted:
    """Write a job; a connection that breaks is no reason to refuse it.

    Sent again under the same id it cannot become two jobs, whatever had become of the first.
    """
    for left in reversed(range(_TRIES)):
        try:
            with services.pool.connection() as connection:
                return jobs.submit(connection, job)
        except OperationalError:
            if not left:
                raise
        except UniqueViolation as known:
            if known.diag.constraint_name != "jobs_pkey":
                raise
            break
    return jobs.Submitted(job.id, job.producer_id, State.WAITING, True)


def _submitted(answer: jobs.Submitted) -> dict[str, Any]:
    return {
        "job_id": answer.job_id,
        "id": answer.producer_id,
        "state": answer.state,
        "url": f"/api/v1/jobs/{answer.job_id}",
    }


@routes.get(
    "/projects/<project>/jobs",
    access=Access.PROJECT,
    summary="The project's jobs, newest first",
    query=JobFilter,
    answers={200: Answer("A page", JobList)},
)
def list_jobs(call: Call, project: str, query: JobFilter) -> Response:
    with call.services.pool.connection() as connection:
        rows = reads.jobs(
            connection,
            project,
            states=query.state.split(",") if query.state else (),
            kinds=query.kind.split(",") if query.kind else (),
            batch_id=query.batch_id,
            producer_id=query.id,
            labels=query.labels(),
            before=query.place(),
            since=_first_id(query.since, call.services.settings.authority),
            limit=query.limit + 1,
        )
    return json(page(rows, query.limit, "job_id"))


@routes.get(
    "/jobs/<job>",
    access=Access.JOB,
    summary="A job, with its message and its result",
    answers={200: Answer("The job", Job)},
)
def get_job(call: Call, job: str) -> Response:
    found = call.the_job
    published: list[dict[str, Any]] = []
    if found["kind"] != names.RUN:
        with call.services.pool.connection() as connection:
            published = publications.of_job(connection, job)
    return json({**_all(found), "publications": published})


def _all(row: dict[str, Any]) -> dict[str, Any]:
    """A job and, where it is over, the result's fields beside the job's own."""
    result = row.pop("result") or {}
    return {**{name: result.get(name) for name in RESULT_FIELDS}, **row}


@routes.post(
    "/jobs/<job>/cancel",
    access=Access.JOB,
    summary="Cancel a job",
    description=(
        "What waits is cancelled at once; what runs is stopped by its worker within seconds and "
        "is `running` until then. Asked again, it answers the same."
    ),
    answers={202: Answer("It is cancelled, or will be", Cancelled)},
    problems=("job_finished",),
)
def cancel_job(call: Call, job: str) -> Response:
    with call.services.pool.connection() as connection:
        found = cancel.job(connection, job, f"Cancelled by {call.person.subject}.")
    if found is None:
        raise Problem("job_not_found", f"you have no job {job!r}")
    if found["state"] in FINAL and found["state"] != State.CANCELLED:
        raise Problem("job_finished", f"it is {found['state']} already")
    call.services.doorbell.ring()
    return json(found, 202)


@routes.post(
    "/jobs/<job>/retry",
    access=Access.JOB,
    summary="Try a job again that did not succeed, as a new job",
    description="Asked again, it answers the job that it made the first time.",
    answers={202: Answer("The new job", Submitted)},
    problems=("not_retriable",),
)
def retry_job(call: Call, job: str) -> Response:
    services = call.services
    new_id = ids.new(ids.JOB, services.settings.authority)
    with services.pool.connection() as connection:
        try:
            made = retry.retry(connection, job, new_id, call.person.subject)
        except retry.NotRetriable as wrong:
            raise Problem("not_retriable", str(wrong)) from None
    if made is None:
        raise Problem("job_not_found", f"you have no job {job!r}")
    services.doorbell.ring()
    return json(_submitted(made), 202)


def _first_id(since: datetime | None, authority: str) -> str | None:
    """The least id of a job of that time: ids start with their milliseconds."""
    if since is None:
        return None
    if since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    milliseconds = min(max(int(since.timestamp() * 1000), 0), 2**48 - 1)
    return f"{ids.JOB}_{authority}_{ids.encode(UUID(int=milliseconds << 80))}"


def _known(value: str | None, known: Sequence[str]) -> str | None:
    if value is not None and not all(part in known for part in value.split(",")):
        raise ValueError(f"must be of {', '.join(known)}, separated by commas")
    return value
