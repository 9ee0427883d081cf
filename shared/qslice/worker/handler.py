"""What a service writes: a handler. What it gets: a job. What it gives back: an outcome or a fault.

A service reads its kind of message, does one job at a time per slot, and cleans up; the worker
does the rest (queues, claims, heartbeats, logs, results, cancelling, stopping).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from qslice.faults import Error, UserFault
from qslice.states import State

CancelReason = Literal["cancelled", "lost", "shutdown"]
Stream = Literal["stdout", "stderr", "build", "system"]

#: Of some job ids, those that are still somebody's.
Owned = Callable[[list[str]], Awaitable[set[str]]]


@dataclass(frozen=True)
class Task:
    """A message on a ToDo queue, read and found to be valid."""

    #: The message in its full form, for the database: what a retry is made from.
    payload: dict[str, Any]
    producer_id: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    priority: int = 0
    #: The same as the handler's `run` wants it.
    request: Any = None
    #: Fields that every result of this job repeats (the TP's `ID_projet` and `ID_tache`).
    extra: dict[str, Any] = field(default_factory=dict)


class Job(Protocol):
    """A job that this worker holds; the calls return when the report is queued, not when sent."""

    @property
    def id(self) -> str: ...
    @property
    def project(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def producer_id(self) -> str | None: ...
    @property
    def batch_id(self) -> str | None: ...
    @property
    def submitted_at(self) -> datetime | None: ...

    @property
    def request(self) -> Any:
        """What `Handler.read` gave as the task's request."""
        ...

    @property
    def credentials(self) -> dict[str, Any] | None:
        """Sealed credentials for a provisioner, as the ledger gave them; never logged."""
        ...

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why `run` gets (or got) its `CancelledError`; None while nobody stopped the job."""
        ...

    async def started(self, **data: Any) -> None:
        """The command itself begins now."""
        ...

    async def log(self, stream: Stream, text: str) -> None:
        """Output, in any portions; waits where the broker takes it more slowly than it comes."""
        ...

    async def progress(self, fraction: float, text: str = "") -> None:
        """How far it is, from 0 to 1; of several within a moment the last one is told."""
        ...

    async def resource(self, **data: Any) -> None:
        """What was made, or what became of it."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a job gave. Outputs are whole: the worker keeps what a result may hold of them."""

    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    #: A JSON value.
    result: Any = None
    commit: str | None = None
    image: str | None = None
    state: State = State.SUCCEEDED
    error: Error | None = None
    #: More fields of `Result`, by name.
    extra: dict[str, Any] = field(default_factory=dict)
    #: Whether stdout or stderr is already shortened.
    truncated: bool = False


class Failed(UserFault):
    """The job failed by its own fault; what there is of output goes into the result."""

    def __init__(self, code: str, message: str, outcome: Outcome | None = None) -> None:
        super().__init__(code, message)
        self.outcome = outcome or Outcome()


class TimedOut(Failed):
    """The wall time was over."""


class Handler(Protocol):
    """One kind of job. All methods but `read` run on the worker's event loop: never block it."""

    @property
    def kind(self) -> str: ...

    def read(self, body: bytes) -> Task:
        """The task in a message; pure. Raises `qslice.messages.base.Rejected`."""
        ...

    async def start(self) -> None:
        """Before the first job. A `SystemFault` is tried again, with back-off."""
        ...

    async def stop(self) -> None:
        """After the last job."""
        ...

    async def run(self, job: Job) -> Outcome:
        """Do the job.

        Raises `UserFault` (better `Failed`, with the output so far), `TimedOut`, or `SystemFault`;
        any other exception counts as a system fault `internal`. A `CancelledError` comes for the
        reason in `job.cancel_reason`: clean up in `finally` and let it pass, or raise `Failed`
        with the output so far; either way the job is cancelled, dropped or handed back.
        """
        ...

    async def sweep(self, owned: Owned) -> None:
        """Remove what no live job owns. Called at the start and every few minutes."""
        ...
