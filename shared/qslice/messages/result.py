"""A result: what became of a job, on `<project>.Done` and in REST."""

from datetime import datetime
from typing import Any

from pydantic import ConfigDict

from qslice.faults import Error
from qslice.messages.base import Note
from qslice.states import State

#: Characters of `stdout` and of `stderr` that a result keeps, each: the last ones.
MAX_OUTPUT = 64 * 1024
#: Bytes of the JSON document in `result`.
MAX_RESULT = 1024 * 1024
#: Characters of an error's message.
MAX_MESSAGE = 8 * 1024


class Result(Note):
    """At least once on Done; `job_id` is the key."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    job_id: str
    #: The producer's own key.
    id: str | None = None
    project: str
    kind: str
    state: State
    attempt: int
    batch_id: str | None = None
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    #: Whether the beginning of stdout or stderr was left out.
    truncated: bool = False
    result: Any = None
    error: Error | None = None
    commit: str | None = None
    image: str | None = None
    #: What the image was, exactly: `sha256:` and 64 hexadecimal digits.
    image_digest: str | None = None
    worker: str | None = None
    labels: dict[str, str] = {}
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime
    duration_s: float | None = None
    #: The TP's form, where the task came in it.
    ID_projet: int | str | None = None
    ID_tache: int | str | None = None
    Resultat: str | None = None


def tail(text: str, limit: int = MAX_OUTPUT) -> tuple[str, bool]:
    """The last characters of a text, and whether some were left out."""
    return (text, False) if len(text) <= limit else (text[-limit:], True)
