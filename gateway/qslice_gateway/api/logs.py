"""A job's log and its events: stored, or live as server-sent events."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from flask import Response
from pydantic import BaseModel, Field
from qslice.messages.base import Message

from qslice_gateway import streams
from qslice_gateway.api.models import Next, Page, page, place_number
from qslice_gateway.auth.access import Access, Call
from qslice_gateway.routing import JSON, Answer, Routes, accepted, json
from qslice_gateway.services import Services
from qslice_gateway.store import reads
from qslice_gateway.store.pool import Connection, Row

routes = Routes("jobs", "/api/v1/jobs/<job>")

TEXT = "text/plain"
_PAGE = 1000
_LAST_EVENT_ID = {
    "Last-Event-ID": {
        "type": "string",
        "pattern": "^[0-9]{0,18}$",
        "description": "the stream goes on after this event",
    }
}


class LogQuery(Message):
    follow: Annotated[
        Literal["true", "false"],
        Field(description="of a stream: go on while the job is not over"),
    ] = "true"
    attempt: Annotated[int | None, Field(ge=1, le=10_000, description="of this attempt alone")] = (
        None
    )


class EventQuery(Page):
    follow: Annotated[
        Literal["true", "false"],
        Field(description="of a stream: go on while the job is not over"),
    ] = "true"


class JobEvent(BaseModel):
    id: int
    attempt: int
    at: datetime
    type: Annotated[str, Field(description="a state, or what a worker told")]
    data: dict[str, Any] | None


class EventList(BaseModel):
    items: list[JobEvent]
    next: Next


@routes.get(
    "/logs",
    access=Access.JOB,
    summary="What the job wrote: live, or as text",
    description=(
        "`Accept: text/event-stream` gives events `log` (`{attempt, seq, stream, at, text}`), live "
        "while the job is not over, then one event `end` (`{state}`). Any other gives the text so "
        "far. A stream that ends without `end` goes on with `Last-Event-ID`."
    ),
    query=LogQuery,
    headers=_LAST_EVENT_ID,
    answers={200: Answer("The log", media_types=(TEXT, streams.MEDIA_TYPE))},
    problems=("not_acceptable", "too_many_streams"),
)
def get_logs(call: Call, job: str, query: LogQuery) -> Response:
    after = streams.last_event_id() or 0
    if accepted(TEXT, streams.MEDIA_TYPE) == TEXT:
        text = _text(call.services, job, query.attempt, after)
        return Response(text, content_type=f"{TEXT}; charset=utf-8")

    def fetch(connection: Connection, place: int) -> list[Row]:
        return reads.logs(connection, job, after=place, attempt=query.attempt, limit=_PAGE)

    live = query.follow == "true"
    events = streams.follow(call.services, "log", fetch, _look(job), after, live=live)
    return streams.serve(call.services, events)


@routes.get(
    "/events",
    access=Access.JOB,
    summary="What happened to the job: a page, or live",
    description=(
        "JSON, or with `Accept: text/event-stream` events `event` with the same fields, then one "
        "event `end` (`{state}`)."
    ),
    query=EventQuery,
    headers=_LAST_EVENT_ID,
    answers={200: Answer("In their order", EventList, (JSON, streams.MEDIA_TYPE))},
    problems=("not_acceptable", "too_many_streams"),
)
def get_events(call: Call, job: str, query: EventQuery) -> Response:
    after = streams.last_event_id() or 0
    if accepted(JSON, streams.MEDIA_TYPE) == JSON:
        with call.services.pool.connection() as connection:
            rows = reads.events(
                connection, job, after=place_number(query) or 0, limit=query.limit + 1
            )
        return json(page(rows, query.limit, "id"))

    def fetch(connection: Connection, place: int) -> list[Row]:
        return reads.events(connection, job, after=place, limit=_PAGE)

    live = query.follow == "true"
    events = streams.follow(call.services, "event", fetch, _look(job), after, live=live)
    return streams.serve(call.services, events)


def _look(job: str) -> streams.Look:
    def look(connection: Connection) -> tuple[str, float | None]:
        found = reads.progress(connection, job)
        return ("unknown", 0.0) if found is None else (found["state"], found["over_s"])

    return look


def _text(services: Services, job: str, attempt: int | None, after: int) -> Iterator[bytes]:
    """The log page by page, so that no log is held in memory as a whole."""
    while True:
        with services.pool.connection() as connection:
            rows = reads.logs(connection, job, after=after, attempt=attempt, limit=_PAGE)
        if not rows:
            return
        after = rows[-1]["id"]
        yield "".join(row["text"] for row in rows).encode()
