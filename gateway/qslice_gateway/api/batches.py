"""Batches: a sweep of a template over a grid, followed and gathered as one."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from flask import Response
from pydantic import BaseModel, Field
from qslice import ids
from qslice.faults import Error
from qslice.states import FINAL, State

from qslice_gateway.api.models import Next, Page, Publication, cursor, page
from qslice_gateway.auth.access import Access, Call
from qslice_gateway.batches import BatchRequest, NewBatch, Points, expand
from qslice_gateway.problems import Problem, invalid
from qslice_gateway.results import item, pages, table
from qslice_gateway.routing import JSON, Answer, Body, Routes, accepted, json, read_json
from qslice_gateway.services import Services
from qslice_gateway.store import batches, cancel, publications

routes = Routes("batches", "/api/v1/projects/<project>/batches")

CSV = "text/csv"


class Batch(BaseModel):
    batch_id: str
    project: str
    name: str | None
    total: int
    owner: str
    created_by: Annotated[dict[str, Any], Field(description="the token's claims at that time")]
    request_id: str | None
    submitted_at: datetime
    finished_at: datetime | None


class BatchSummary(Batch):
    counts: Annotated[dict[str, int], Field(description="number of jobs by state")]
    finished: Annotated[int, Field(description="number of jobs that are over")]
    parameters: Annotated[list[str], Field(description="what the grid or list varies")]


class BatchDetails(BatchSummary):
    publication: Annotated[
        Publication | None, Field(description="its results in the metadata registry")
    ]


class BatchList(BaseModel):
    items: list[Batch]
    next: Next


class BatchResult(BaseModel):
    """A job of the batch: its point, and its result's fields, null until it is over."""

    job_id: str
    id: str | None
    project: str
    kind: str
    state: State
    attempt: int
    batch_id: str | None
    batch_index: int
    parameters: dict[str, Any]
    labels: dict[str, str]
    worker: str | None
    submitted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_s: float | None
    exit_code: int | None
    stdout: str
    stderr: str
    truncated: bool
    result: Any
    error: Error | None
    commit: str | None
    image: str | None
    image_digest: Annotated[str | None, Field(description="sha256:…, what the image was exactly")]


class BatchResultList(BaseModel):
    items: list[BatchResult]
    next: Next


class BatchCancelled(BaseModel):
    batch_id: str
    cancelled: Annotated[int, Field(description="jobs that this ended, or asked to stop")]


class ResultQuery(Page):
    limit: Annotated[int, Field(ge=1, le=1000, description="items of a page, in JSON")] = 200
    format: Annotated[
        Literal["json", "csv"] | None, Field(description="instead of the header `Accept`")
    ] = None
    finished: Annotated[
        Literal["true", "false"], Field(description="of CSV: only jobs that are over")
    ] = "false"


@routes.post(
    "",
    access=Access.PROJECT,
    summary="Submit a sweep",
    description="All of its jobs are written, or none. The same `request_id` is the same batch.",
    body=Body(
        lambda raw: read_json(BatchRequest, raw),
        (NewBatch,),
        {
            "name": "key rate against distance",
            "template": {
                "repository": "https://git.example/qkd/bb84.git",
                "command": ["python", "/app/bb84.py", "--distance", "{distance}"],
            },
            "grid": {"distance": [0, 10, 20, 30]},
            "request_id": "b8f1f4a0-5a0c-4b7e-8c52-52d1ab0cf1a4",
        },
    ),
    answers={202: Answer("Accepted", BatchSummary)},
    problems=("too_many_jobs",),
)
def submit_batch(call: Call, project: str, body: BatchRequest) -> Response:
    services, owner = call.services, call.person.subject
    authority = services.settings.authority
    if body.request_id is not None:
        # A batch that is there already need not be expanded again.
        with services.pool.connection() as connection:
            known = batches.by_request(connection, project, body.request_id)
            if known is not None:
                return json(_summary(batches.get(connection, known["batch_id"])), 202)
    batch_id = ids.new(ids.BATCH, authority)
    _, expanded = expand(body, services.settings.max_jobs_per_batch)
    members = [
        read.job(project, owner, authority, batch_id, index) for index, read in enumerate(expanded)
    ]
    new = batches.NewBatch(
        id=batch_id,
        project=project,
        owner=owner,
        template=body.document(),
        name=body.name,
        request_id=body.request_id,
        created_by=call.person.as_creator(),
    )
    with services.pool.connection() as connection:
        made, _ = batches.create(connection, new, members)
        services.doorbell.ring()
        return json(_summary(batches.get(connection, made["batch_id"])), 202)


@routes.get(
    "",
    access=Access.PROJECT,
    summary="The project's batches, newest first",
    query=Page,
    answers={200: Answer("A page", BatchList)},
)
def list_batches(call: Call, project: str, query: Page) -> Response:
    with call.services.pool.connection() as connection:
        rows = batches.listed(connection, project, before=query.place(), limit=query.limit + 1)
    return json(page(rows, query.limit, "batch_id"))


@routes.get(
    "/<batch>",
    access=Access.PROJECT,
    summary="A batch, with its jobs counted by state",
    answers={200: Answer("The batch", BatchDetails)},
    problems=("batch_not_found",),
)
def get_batch(call: Call, project: str, batch: str) -> Response:
    found = _summary(_found(call.services, project, batch))
    with call.services.pool.connection() as connection:
        published = publications.get(connection, project, batch)
    return json({**found, "publication": published})


@routes.get(
    "/<batch>/results",
    access=Access.PROJECT,
    summary="What became of each job, in the order of the grid",
    description=(
        "JSON by pages, or all as CSV (`Accept: text/csv`, or `format=csv`): a column for each "
        "parameter and for each number or text in the results' JSON."
    ),
    query=ResultQuery,
    answers={200: Answer("The results", BatchResultList, (JSON, CSV))},
    problems=("batch_not_found", "not_acceptable"),
)
def get_results(call: Call, project: str, batch: str, query: ResultQuery) -> Response:
    found = _found(call.services, project, batch)
    points = Points.of(found["template"])
    wants_csv = query.format == "csv" if query.format else accepted(JSON, CSV) == CSV
    if wants_csv:
        lines = _csv(call.services, batch, points, only_finished=query.finished == "true")
        headers = {"Content-Disposition": f'attachment; filename="{batch}.csv"'}
        return Response(lines, 200, headers, content_type=f"{CSV}; charset=utf-8")
    after = _index(query)
    with call.services.pool.connection() as connection:
        rows = batches.results(connection, batch, after=after, limit=query.limit + 1)
    items = [item(row, points) for row in rows[: query.limit]]
    more = len(rows) > query.limit
    return json({"items": items, "next": cursor(str(items[-1]["batch_index"])) if more else None})


@routes.post(
    "/<batch>/cancel",
    access=Access.PROJECT,
    summary="Cancel every job of the batch that is not over",
    answers={202: Answer("They are cancelled, or will be", BatchCancelled)},
    problems=("batch_not_found",),
)
def cancel_batch(call: Call, project: str, batch: str) -> Response:
    services = call.services
    _found(services, project, batch)
    with services.pool.connection() as connection:
        count = cancel.batch(connection, batch, f"Cancelled by {call.person.subject}.")
    services.doorbell.ring()
    return json({"batch_id": batch, "cancelled": count}, 202)


def _found(services: Services, project: str, batch: str) -> dict[str, Any]:
    missing = Problem("batch_not_found", f"the project has no batch {batch[:120]!r}")
    try:
        ids.parse(batch, ids.BATCH)
    except ValueError:
        raise missing from None
    with services.pool.connection() as connection:
        found = batches.get(connection, batch)
    if found is None or found["project"] != project:
        raise missing
    return found


def _summary(row: dict[str, Any] | None) -> dict[str, Any]:
    if row is None:
        raise Problem("batch_not_found", "the batch was removed meanwhile")
    row = dict(row)
    row["parameters"] = Points.of(row.pop("template")).names
    row["finished"] = sum(row["counts"].get(state, 0) for state in FINAL)
    return row


def _index(query: Page) -> int:
    place = query.place()
    if place is None:
        return -1
    if not place.isdigit() or len(place) > 9:
        raise invalid([("cursor", "must be the `next` of an answer")])
    return int(place)


def _csv(services: Services, batch: str, points: Points, *, only_finished: bool) -> Iterator[bytes]:
    with services.pool.connection() as connection:
        columns = batches.result_columns(connection, batch)
    found = pages(services.pool.connection, batch, points)
    yield from table(columns, points, found, only_finished=only_finished)
