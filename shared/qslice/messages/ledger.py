"""What workers and the ledger say to each other: requests with answers, events, control.

A request goes to the queue `qslice.ledger.rpc` with `reply_to` and `correlation_id`; its answer
comes back by the default exchange. Events go to `qslice.events`, results to `qslice.done`, both
with publisher confirms. Control is a fanout to every worker.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from qslice.faults import Error
from qslice.messages.base import Note


class Claim(Note):
    """May I have this job? Asked again with the same words, it gets the same answer."""

    op: Literal["claim"] = "claim"
    #: None: a lab script's message, to be adopted.
    job_id: str | None = None
    #: The attempt that the message on the queue was for; 0 for a lab script's.
    attempt: int = 0
    project: str
    kind: str
    producer_id: str | None = None
    #: The validated message, for adoption.
    payload: dict[str, Any] | None = None
    labels: dict[str, str] = {}
    priority: int = 0
    worker: str
    #: Seconds of silence after which the worker is taken for lost.
    lease_s: float


class Reason(StrEnum):
    GRANTED = "granted"
    #: It has its result already.
    FINISHED = "finished"
    CANCELLED = "cancelled"
    #: Another worker has it, or this message is of an attempt that is over.
    HELD = "held"
    #: No such job or project.
    UNKNOWN = "unknown"


class ClaimAnswer(Note):
    reason: Reason
    job_id: str | None = None
    attempt: int = 0
    batch_id: str | None = None
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    #: What a provisioner needs, sealed to its key; opaque to everybody else.
    credentials: dict[str, Any] | None = None

    @property
    def granted(self) -> bool:
        return self.reason is Reason.GRANTED


class Held(Note):
    job_id: str
    attempt: int


class Heartbeat(Note):
    """All that a worker has, every few seconds, and once before it posts a result late."""

    op: Literal["heartbeat"] = "heartbeat"
    worker: str
    kind: str
    slots: int
    lease_s: float
    jobs: list[Held] = []
    #: The worker is leaving: it takes nothing more.
    leaving: bool = False


class HeartbeatAnswer(Note):
    """What changed while the worker may have been cut off."""

    #: Not its jobs any more: stop them, post nothing.
    lost: list[str] = []
    #: Stop them and post `cancelled`.
    cancel: list[str] = []


class Projects(Note):
    """Which projects are there?"""

    op: Literal["projects"] = "projects"


class ProjectsAnswer(Note):
    projects: list[str]


class Owned(Note):
    """Which of these jobs are still somebody's? A sweep removes what belongs to the others."""

    op: Literal["owned"] = "owned"
    job_ids: list[str]


class OwnedAnswer(Note):
    owned: list[str]


Request = Annotated[Claim | Heartbeat | Projects | Owned, Field(discriminator="op")]
REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


class EventType(StrEnum):
    #: The command itself began (clone and build are over).
    STARTED = "started"
    LOG = "log"
    PROGRESS = "progress"
    #: What a provisioner made or saw of a resource.
    RESOURCE = "resource"
    #: The attempt failed by the system's fault: the ledger schedules the next, or gives up.
    FAULT = "fault"
    #: Handed back by a worker that stops: queued again at once.
    RELEASED = "released"


class Event(Note):
    type: EventType
    job_id: str
    project: str
    kind: str
    attempt: int
    worker: str
    at: datetime
    #: Counts the log lines of an attempt.
    seq: int | None = None
    stream: Literal["stdout", "stderr", "build", "system"] | None = None
    text: str | None = None
    #: 0 to 1.
    fraction: float | None = None
    error: Error | None = None
    data: dict[str, Any] | None = None


class Control(Note):
    """To every worker."""

    op: Literal["cancel", "project-created", "project-deleted"]
    job_id: str | None = None
    project: str | None = None


class DeadLetter(Note):
    """What the headers of a message on a Dead queue say, as REST shows it."""

    reason: str
    field: str | None = None
    owner: str = "user"
    queue: str | None = None
    job_id: str | None = None
