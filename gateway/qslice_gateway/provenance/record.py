"""What is known of a batch, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Agent:
    """Who handed the batch in."""

    subject: str
    name: str = ""
    email: str = ""
    organization: str = ""
    orcid: str = ""


@dataclass(frozen=True)
class Licence:
    """Under which the results may be used; an empty name: none was given."""

    name: str = ""
    uri: str = ""
    copyright_holder: str = ""


@dataclass(frozen=True)
class Execution:
    """One execution of the experiment's command; of a very large batch, all of them as one."""

    job_id: str
    state: str
    command: Sequence[str]
    env: Mapping[str, str]
    parameters: Mapping[str, Any]
    repository: str | None
    commit: str | None
    image: str | None
    image_digest: str | None
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    #: Files of the crate that it read.
    inputs: Sequence[str]
    #: The file of its own in the crate, with all that it gave; of a very large batch none.
    file: str | None
    #: Files of the crate where that stands as well.
    tables: Sequence[str] = ()

    @property
    def outputs(self) -> list[str]:
        return [*([self.file] if self.file else []), *self.tables]

    @property
    def succeeded(self) -> bool:
        return self.state == "succeeded"


@dataclass(frozen=True)
class File:
    """A file of the crate that is not an execution's own."""

    path: str
    name: str
    description: str
    media_type: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class BatchRecord:
    batch_id: str
    project: str
    name: str
    url: str
    submitted_at: datetime
    finished_at: datetime
    counts: Mapping[str, int]
    agent: Agent
    licence: Licence = Licence()
    experiment: str | None = None
    keywords: Sequence[str] = ()
    #: The registry's page of it, once it is published.
    registry_url: str | None = None
    executions: Sequence[Execution] = ()
    files: Sequence[File] = ()
