"""The API of the course's assignment: make a queue, put a message on it, take one. JSON only.

A queue belongs to the project that its name starts with. A project's own five queues are there;
others are `<project>.<word>`. What is put on a ToDo queue is what a lab script would put there.
"""

import re
from typing import Annotated, Any, Literal, Self

import orjson
import pika
from flask import Response
from pika.exceptions import ChannelClosedByBroker, NackError, UnroutableError
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from qslice import names
from qslice.messages.base import Message
from qslice.messages.run import MAX_BODY

from qslice_gateway.auth.access import Access, Call, admit_to_project
from qslice_gateway.broker import NOT_FOUND
from qslice_gateway.problems import Problem, invalid
from qslice_gateway.routing import JSON, Answer, Routes, json, json_body
from qslice_gateway.store import projects

routes = Routes("rabbit", "/rabbit")

_TEXT = "text/plain"
_WORD = re.compile(r"^[A-Za-z0-9_-]{1,100}\Z")
#: Of a queue that a project makes beside its own: nobody tidies those up.
_UNUSED_MS = 14 * 24 * 3600 * 1000
_MAX_BYTES = 64 * 1024 * 1024

Name = Annotated[str, Field(min_length=1, max_length=200)]


class QueueRequest(Message):
    """A queue's name, under one of these keys."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [key]} for key in ("queue", "nom", "file", "file_name")]
        }
    )

    queue: Annotated[
        Name | None,
        Field(
            description="one of the project's own, such as `<project>.ToDo`, or `<project>.<word>`"
        ),
    ] = None
    nom: Name | None = None
    file: Name | None = None
    file_name: Name | None = None
    type: Annotated[Literal["quorum", "classic"], Field(description="of `<project>.<word>`")] = (
        "quorum"
    )

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if len(self.model_fields_set - {"type"}) != 1 or not self.name:
            raise ValueError("give the queue's name once: as queue, nom, file or file_name")
        return self

    @property
    def name(self) -> str:
        return self.queue or self.nom or self.file or self.file_name or ""


class QueueMade(BaseModel):
    queue: str
    type: str


class MessageRequest(Message):
    message: Annotated[
        JsonValue, Field(description="a text goes on the queue as it is, anything else as JSON")
    ]


class MessageSent(BaseModel):
    queue: str


class MessageTaken(BaseModel):
    queue: str
    message: Annotated[JsonValue, Field(description="its JSON, or its text where it is none")]
    remaining: Annotated[int, Field(description="messages that are still on the queue")]


class TakeQuery(Message):
    ack: Annotated[
        Literal["true", "false"],
        Field(description="`false`: the message stays, at the end of the queue"),
    ] = "true"


@routes.post(
    "/",
    access=Access.PERSON,
    summary="Make a queue",
    description="Of a project of yours; asked again, it answers the same.",
    body=json_body(QueueRequest, {"queue": "qkd-lab.ToDo"}),
    answers={201: Answer("The queue is there", QueueMade)},
    problems=("project_not_found", "queue_differs", "too_many_queues", "broker_unavailable"),
)
def make_queue(call: Call, body: QueueRequest) -> Response:
    services, name = call.services, body.name
    project, _, word = name.partition(".")
    own = name in names.queues(project)
    if not own and not _WORD.match(word):
        raise invalid([(_key(body), "must be <project>.<word>: letters, digits, '_' and '-'")])
    # Asked anew: what is declared for a project that was just deleted would stay.
    services.forget_owner(project)
    admit_to_project(services, call.person, project)
    if own:
        services.broker.declare_project(project)
        return json({"queue": name, "type": "quorum"}, 201)
    most = services.settings.max_queues_per_project
    with services.pool.connection() as connection:
        known = projects.add_queue(connection, project, name, body.type, most)
    if known is None:
        raise Problem("too_many_queues", f"at most {most} beside its own")
    if known != body.type:
        raise Problem("queue_differs", f"it is a {known} queue", [("type", f"is {known}")])
    services.broker.declare_queue(
        name,
        {
            "x-queue-type": body.type,
            "x-expires": _UNUSED_MS,
            "x-max-length-bytes": _MAX_BYTES,
            "x-overflow": "reject-publish",
        },
    )
    return json({"queue": name, "type": body.type}, 201)


@routes.post(
    "/<queue>/",
    access=Access.QUEUE,
    summary="Put a message on a queue",
    description=(
        "It is kept by the broker when this answers. On a ToDo queue it is read as a lab script's: "
        "what is wrong with it shows on `<project>.Dead`."
    ),
    body=json_body(MessageRequest, {"message": {"ID_projet": 1, "ID_tache": 1}}),
    answers={201: Answer("It is on the queue", MessageSent)},
    problems=("queue_not_found", "queue_full", "broker_unavailable"),
)
def put_message(call: Call, queue: str, body: MessageRequest) -> Response:
    _check(queue)
    text = isinstance(body.message, str)
    raw = body.message.encode() if isinstance(body.message, str) else orjson.dumps(body.message)
    if len(raw) > MAX_BODY:
        raise invalid([("message", f"has {len(raw)} bytes, at most {MAX_BODY} are allowed")])
    todo = queue in _todo(queue)
    properties = pika.BasicProperties(
        delivery_mode=pika.DeliveryMode.Persistent, content_type=_TEXT if text else JSON
    )
    try:
        with call.services.broker.channel() as channel:
            channel.basic_publish(
                names.EXCHANGE_TODO if todo else "", queue, raw, properties, mandatory=True
            )
    except UnroutableError:
        raise _missing(queue) from None
    except NackError:
        raise Problem("queue_full", "take messages off it first") from None
    return json({"queue": queue}, 201)


@routes.get(
    "/<queue>/",
    access=Access.QUEUE,
    summary="Take one message",
    description=(
        "204 where the queue is empty. A message of a job that was submitted by REST is not given "
        "away: that job is cancelled by its own route."
    ),
    query=TakeQuery,
    answers={
        200: Answer("The message", MessageTaken),
        204: Answer("The queue is empty", media_types=()),
    },
    problems=("queue_not_found", "job_message", "broker_unavailable"),
)
def take_message(call: Call, queue: str, query: TakeQuery) -> Response:
    _check(queue)
    try:
        with call.services.broker.channel() as channel:
            method, properties, raw = channel.basic_get(queue)
            if method is None or properties is None or raw is None:
                return Response(status=204)
            headers = properties.headers or {}
            job = headers.get(names.HEADER_JOB) if queue in _todo(queue) else None
            if job is not None or query.ack == "false":
                _put_last(channel, queue, properties, raw)
            channel.basic_ack(method.delivery_tag)
    except ChannelClosedByBroker as refused:
        if refused.reply_code != NOT_FOUND:
            raise
        raise _missing(queue) from None
    if job is not None:
        raise Problem("job_message", f"cancel it with POST /api/v1/jobs/{job}/cancel")
    message = _readable(raw, properties.content_type)
    return json({"queue": queue, "message": message, "remaining": method.message_count})


def _put_last(channel: Any, queue: str, properties: pika.BasicProperties, raw: bytes) -> None:
    """Not handed back to its place: each return counts towards the queue's delivery limit, and
    who looked often enough would lose the message.
    """
    headers = dict(properties.headers or {})
    headers.pop("x-delivery-count", None)
    properties.headers = headers
    channel.basic_publish("", queue, raw, properties, mandatory=True)


def _readable(raw: bytes, content_type: str | None) -> Any:
    if content_type != _TEXT:
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass
    return raw.decode(errors="replace")


def _check(queue: str) -> None:
    """The project is theirs; a name that no queue has here is told apart from a missing one."""
    project, _, word = queue.partition(".")
    if queue not in names.queues(project) and not _WORD.match(word):
        raise _missing(queue)


def _todo(queue: str) -> tuple[str, ...]:
    project = queue.partition(".")[0]
    return tuple(names.todo(project, kind) for kind in names.KINDS)


def _key(body: QueueRequest) -> str:
    return next(iter(body.model_fields_set - {"type"}))


def _missing(queue: str) -> Problem:
    return Problem(
        "queue_not_found", f"there is no queue {queue[:120]!r}; make it with POST /rabbit/"
    )
