"""Dead letters: messages that could not be done, with the reason."""

from datetime import datetime
from typing import Annotated

from flask import Response
from pydantic import BaseModel, Field
from qslice import ids
from qslice.faults import Owner

from qslice_gateway.api.models import Next, Page, page, place_number
from qslice_gateway.auth.access import Access, Call
from qslice_gateway.problems import Problem
from qslice_gateway.routing import Answer, Routes, json
from qslice_gateway.store import dead

routes = Routes("dead letters", "/api/v1/projects/<project>/dead")


class DeadLetter(BaseModel):
    id: str
    project: str
    queue: Annotated[str | None, Field(description="where the message was")]
    job_id: str | None
    reason: str
    field: Annotated[str | None, Field(description="the field that is wrong")]
    owner: Annotated[Owner, Field(description="whose fault it is")]
    at: datetime
    replayed_at: datetime | None
    replayed_as: Annotated[str | None, Field(description="the new job, or the queue")]
    body: Annotated[str, Field(description="the message as it was")]


class DeadLetterList(BaseModel):
    items: list[DeadLetter]
    next: Next


@routes.get(
    "",
    access=Access.PROJECT,
    summary="The project's dead letters, newest first",
    query=Page,
    answers={200: Answer("A page", DeadLetterList)},
)
def list_dead(call: Call, project: str, query: Page) -> Response:
    with call.services.pool.connection() as connection:
        rows = dead.listed(connection, project, before=place_number(query), limit=query.limit + 1)
    return json(page(rows, query.limit, "id"))


@routes.post(
    "/<message>/replay",
    access=Access.PROJECT,
    summary="Try a dead letter again",
    description=(
        "A job is tried as a new job, a message that never became one goes back to its queue. "
        "Asked again, it answers the same."
    ),
    answers={202: Answer("It is tried again", DeadLetter)},
    problems=("dead_letter_not_found", "not_replayable"),
)
def replay_dead(call: Call, project: str, message: str) -> Response:
    services, letter = call.services, _number(message)
    new_id = ids.new(ids.JOB, services.settings.authority)
    with services.pool.connection() as connection:
        try:
            found = dead.replay(connection, project, letter, new_id, call.person.subject)
        except dead.NotReplayable as wrong:
            raise Problem("not_replayable", str(wrong)) from None
    if found is None:
        raise _missing(message)
    services.doorbell.ring()
    return json(found, 202)


@routes.delete(
    "/<message>",
    access=Access.PROJECT,
    summary="Drop a dead letter",
    answers={204: Answer("It is gone", media_types=())},
    problems=("dead_letter_not_found",),
)
def delete_dead(call: Call, project: str, message: str) -> Response:
    with call.services.pool.connection() as connection:
        if not dead.delete(connection, project, _number(message)):
            raise _missing(message)
    return Response(status=204)


def _number(message: str) -> int:
    if not message.isascii() or not message.isdigit() or len(message) > 18:
        raise _missing(message)
    return int(message)


def _missing(message: str) -> Problem:
    return Problem("dead_letter_not_found", f"the project has no dead letter {message[:40]!r}")
