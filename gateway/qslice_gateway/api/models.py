"""What several routes answer with, as the OpenAPI document shows it."""

import base64
import binascii
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from qslice.faults import Error, Owner
from qslice.messages.base import Message
from qslice.messages.completion import PublicationState
from qslice.messages.result import Result
from qslice.states import State

from qslice_gateway.problems import Problem, invalid

Next = Annotated[str | None, Field(description="`cursor` of the next page; null: this is the last")]


#: What a cursor may hold: an id, a name or a number.
_PLACE = re.compile(r"^[A-Za-z0-9_.-]{1,200}\Z")


class Page(Message):
    """Which part of a listing."""

    cursor: Annotated[
        str | None, Field(description="`next` of the page before", max_length=300)
    ] = None
    limit: Annotated[int, Field(ge=1, le=1000, description="items of a page")] = 50

    def place(self) -> str | None:
        """Where the page starts; raises `Problem` where the cursor is none of ours."""
        if self.cursor is None:
            return None
        try:
            place = base64.b64decode(self.cursor, altchars=b"-_", validate=True).decode("ascii")
        except (binascii.Error, ValueError):
            raise _no_cursor() from None
        if not _PLACE.match(place):
            raise _no_cursor()
        return place


def _no_cursor() -> Problem:
    return invalid([("cursor", "must be the `next` of an answer")])


def place_number(query: Page) -> int | None:
    """Where a page of numbered things starts; raises `Problem`."""
    place = query.place()
    if place is None:
        return None
    if not place.isdigit() or len(place) > 18:
        raise _no_cursor()
    return int(place)


def cursor(place: str) -> str:
    """A place in a listing, opaque to its reader."""
    return base64.urlsafe_b64encode(place.encode()).decode()


def page(rows: list[dict[str, Any]], limit: int, key: str) -> dict[str, Any]:
    """A listing's answer, of one row more than the page holds where there is a next page."""
    more = len(rows) > limit
    items = rows[:limit]
    return {"items": items, "next": cursor(str(items[-1][key])) if more else None}


class Submitted(BaseModel):
    """A job that was accepted."""

    job_id: str
    id: Annotated[str | None, Field(description="the producer's own key")]
    state: State
    url: str


class SubmittedMany(BaseModel):
    items: list[Submitted]


class JobSummary(BaseModel):
    """A job, as listings show it."""

    job_id: str
    id: Annotated[str | None, Field(description="the producer's own key")]
    project: str
    kind: str
    state: State
    attempt: int
    faults: Annotated[int, Field(description="failures of the system so far")]
    batch_id: str | None
    batch_index: int | None
    retry_of: str | None
    labels: dict[str, str]
    priority: int
    owner: str
    origin: Annotated[str, Field(description="`rest`, or `queue` for a lab script's message")]
    submitted_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None
    cancel_requested_at: datetime | None
    exit_code: int | None
    error_owner: Owner | None
    error_code: str | None


class Publication(BaseModel):
    id: Annotated[str, Field(description="of the batch or resource, under which it is registered")]
    project: str
    what: Annotated[str, Field(description="`batch`, `server`, `pod`, `volume`, …")]
    name: str
    job_id: str | None
    revision: Annotated[int, Field(description="grows with every change and every replay")]
    state: PublicationState
    internal_id: Annotated[int | None, Field(description="the registry's own id of the object")]
    portal_url: Annotated[str | None, Field(description="its page on the registry's portal")]
    action: Literal["created", "updated", "unchanged"] | None
    error: Annotated[Error | None, Field(description="what the registry answered, if not yes")]
    attempts: int
    created_at: datetime
    told_at: datetime | None
    published_at: datetime | None


class Job(JobSummary):
    """All of a job; what became of it is null until it ends."""

    payload: Annotated[dict[str, Any], Field(description="the message that its worker reads")]
    duration_s: float | None
    stdout: str | None
    stderr: str | None
    truncated: Annotated[
        bool | None, Field(description="whether the beginning of stdout or stderr was left out")
    ]
    result: Annotated[Any, Field(description="the JSON that the command gave")]
    error: Error | None
    commit: str | None
    image: str | None
    Resultat: Annotated[str | None, Field(description="stdout, of a task in the TP's form")]
    publications: Annotated[
        list[Publication],
        Field(
            description="what it made, as it is in the metadata registry; a run's is its batch's"
        ),
    ]


#: Fields of a result that a job shows as its own.
RESULT_FIELDS = tuple(
    name
    for name in Job.model_fields
    if name in Result.model_fields and name not in JobSummary.model_fields
)


class Cancelled(BaseModel):
    job_id: str
    state: State
    cancel_requested_at: datetime | None
