"""What the gateway answers, as objects; fields that a newer gateway adds are kept."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from qslice.faults import Error
from qslice.messages.base import problems
from qslice.sdk.errors import Unreachable
from qslice.states import FINAL, State


class View(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    @classmethod
    def of(cls, document: Any) -> Self:
        """The object in an answer; raises `Unreachable` where the answer is no such thing."""
        try:
            return cls.model_validate(document)
        except ValidationError as wrong:
            # Without the values: some are secrets.
            field, reason = problems(wrong)[0]
            raise Unreachable(
                "the gateway's answer is not understood; is it of another version? "
                f"({field}: {reason})"
            ) from None

    @classmethod
    def each(cls, documents: Iterable[Any]) -> Iterator[Self]:
        return (cls.of(document) for document in documents)

    def document(self) -> dict[str, Any]:
        """As JSON values, with everything that the gateway told."""
        return self.model_dump(mode="json")


class Project(View):
    name: str
    id: str | None = None
    owner: str | None = None
    created_at: datetime | None = None


class BrokerUser(View):
    """A project's own RabbitMQ user; its password is shown this once."""

    amqp_url: str
    username: str
    password: str

    def __repr__(self) -> str:
        return f"BrokerUser(username={self.username!r})"

    __str__ = __repr__


class JobRef(View):
    """A job that was accepted."""

    job_id: str
    #: The producer's own key.
    id: str | None = None
    state: State
    url: str | None = None


class Job(View):
    """A job as it stands now; once it is over, with its result."""

    job_id: str
    id: str | None = None
    project: str
    kind: str
    state: State
    attempt: int
    batch_id: str | None = None
    labels: dict[str, str] = {}
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_s: float | None = None
    worker: str | None = None
    exit_code: int | None = None
    #: None until the job is over, as what follows.
    stdout: str | None = None
    stderr: str | None = None
    result: Any = None
    error: Error | None = None
    commit: str | None = None
    image: str | None = None

    @property
    def is_final(self) -> bool:
        return self.state in FINAL


class BatchSummary(View):
    """How far a batch is."""

    batch_id: str
    project: str | None = None
    name: str | None = None
    total: int
    #: Jobs per state.
    counts: dict[State, int] = {}
    submitted_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def finished(self) -> int:
        """Jobs that are over."""
        return sum(count for state, count in self.counts.items() if state in FINAL)

    @property
    def is_final(self) -> bool:
        return self.finished >= self.total


class LogLine(View):
    """A piece of a job's log, as it was written."""

    stream: str | None = None
    text: str
    attempt: int | None = None
    at: datetime | None = None


class JobEvent(View):
    """Something that happened to a job."""

    #: A state, or what a worker told: `progress`, `resource`, `fault`, …
    type: str
    at: datetime | None = None
    attempt: int | None = None
    data: dict[str, Any] | None = None


class DeadMessage(View):
    """A message that could not be read or done, as the gateway keeps it."""

    id: str
    reason: str
    field: str | None = None
    owner: str | None = None
    queue: str | None = None
    job_id: str | None = None
    at: datetime | None = None
    #: The message as it was.
    body: str | None = None
    replayed_at: datetime | None = None
    #: The new job's id, or the queue that the message went back to.
    replayed_as: str | None = None


class Publication(View):
    """What the metadata registry has of a batch or a resource."""

    id: str
    what: str
    name: str
    #: pending, published, delayed, failed or withheld.
    state: str
    revision: int
    #: The registry's own id of its object, and its page on the registry's portal.
    internal_id: int | None = None
    portal_url: str | None = None
    error: Error | None = None
    attempts: int = 0
    job_id: str | None = None
    published_at: datetime | None = None
