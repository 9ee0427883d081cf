"""A run: what to clone, what to start in it, within which limits. As a lab script writes it."""

import re
import shlex
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import Field, StringConstraints, field_validator, model_validator

from qslice import repositories
from qslice.messages.base import Message, Rejected

_ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_LABEL = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
_RELATIVE = re.compile(r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*\Z")

#: A message larger than this is not read.
MAX_BODY = 256 * 1024

Argument = Annotated[str, StringConstraints(max_length=32 * 1024)]
ProducerId = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Limits(Message):
    """What one container may use."""

    cpus: Annotated[float, Field(gt=0, le=256)] = 1.0
    memory_mb: Annotated[int, Field(ge=8, le=4 * 1024 * 1024)] = 512
    pids: Annotated[int, Field(ge=1, le=32768)] = 128
    #: Room in `/output` and in `/tmp`, each.
    disk_mb: Annotated[int, Field(ge=1, le=1024 * 1024)] = 64
    network: bool = False


class Run(Message):
    """One command in the container that a repository's Dockerfile describes."""

    repository: str
    command: Annotated[list[Argument], Field(min_length=1, max_length=1024)]
    #: The producer's own key: the same twice in one project is the same job.
    id: ProducerId | None = None
    ref: str = "HEAD"
    dockerfile: str = "Dockerfile"
    #: Wall time of the command in seconds, without clone and build.
    walltime_s: Annotated[float, Field(gt=0, le=30 * 24 * 3600)] = 3600.0
    limits: Limits = Limits()
    env: Annotated[dict[str, Argument], Field(max_length=256)] = {}
    labels: Annotated[dict[str, str], Field(max_length=64)] = {}
    priority: Annotated[int, Field(ge=0, le=9)] = 0
    #: `batch`: the tasks of one batch and image may share a warm container.
    isolation: Literal["task", "batch"] = "task"

    @field_validator("repository")
    @classmethod
    def _repository(cls, value: str) -> str:
        return repositories.check_url(value)

    @field_validator("ref")
    @classmethod
    def _ref(cls, value: str) -> str:
        return value if value == "HEAD" else repositories.check_ref(value)

    @field_validator("dockerfile")
    @classmethod
    def _dockerfile(cls, value: str) -> str:
        if not _RELATIVE.match(value) or len(value) > 500 or ".." in value.split("/"):
            raise ValueError("must be a path inside the repository")
        return value

    @field_validator("command")
    @classmethod
    def _command(cls, value: list[str]) -> list[str]:
        if not value[0]:
            raise ValueError("the program must not be empty")
        if any("\x00" in argument for argument in value):
            raise ValueError("must not hold NUL characters")
        return value

    @field_validator("env")
    @classmethod
    def _env(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _ENV_NAME.match(name):
                raise ValueError(f"{name[:80]!r} is no name of an environment variable")
            if "\x00" in text:
                raise ValueError(f"{name}: must not hold NUL characters")
        return value

    @field_validator("labels")
    @classmethod
    def _labels(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _LABEL.match(name):
                raise ValueError(f"{name[:80]!r} is no label: letters, digits, '_', '.', '-'")
            if len(text) > 200:
                raise ValueError(f"{name}: longer than 200 characters")
        return value


class TpTask(Message):
    """A task as the course RT0704 writes it; the public solutions agree on these four keys."""

    ID_projet: int | str
    ID_tache: int | str
    URL_git: str
    CMD: str

    @model_validator(mode="after")
    def _runs(self) -> Self:
        try:
            if not shlex.split(self.CMD):
                raise ValueError("CMD: must not be empty")
        except ValueError as wrong:
            raise ValueError(f"CMD: {str(wrong).removeprefix('CMD: ')}") from None
        return self

    def run(self) -> dict[str, Any]:
        """The same as a run's fields; its key is `<ID_projet>/<ID_tache>`."""
        return {
            "id": f"{self.ID_projet}/{self.ID_tache}",
            "repository": self.URL_git,
            "command": shlex.split(self.CMD),
        }


def read_run(body: bytes) -> tuple[Run, TpTask | None]:
    """The run in a message of either form; raises `Rejected` that names the field."""
    if len(body) > MAX_BODY:
        raise Rejected("", f"the message has {len(body)} bytes, at most {MAX_BODY} are read")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as wrong:
        raise Rejected("", f"not JSON: {wrong}") from None
    if not isinstance(value, dict):
        raise Rejected("", "must be a JSON object")
    if "URL_git" not in value and "ID_tache" not in value:
        return Run.of(value), None
    task = TpTask.of(value)
    try:
        return Run.of(task.run()), task
    except Rejected as wrong:
        names = {"repository": "URL_git", "command": "CMD", "id": "ID_tache"}
        raise Rejected(names.get(wrong.field.split(".")[0], wrong.field), wrong.reason) from None
