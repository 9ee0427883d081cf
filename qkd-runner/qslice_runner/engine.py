"""Where images are built and commands run: Docker today, another engine behind the same calls.

The handler knows only what stands here. An engine takes a checkout and makes an image of it, and
runs a task in a container of that image; both clean up after themselves when they are cancelled.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from qslice.messages.run import Limits
from qslice.worker.handler import Job, Outcome

#: Takes a line of a build's log.
BuildLog = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class Checkout:
    """One commit of one repository, and the Dockerfile in it."""

    repository: str
    #: 40 hexadecimal digits.
    commit: str
    dockerfile: str
    #: Writes the commit's files into a file, as a tar; called only where an image must be built.
    archive: Callable[[BinaryIO], Awaitable[None]]


@dataclass(frozen=True)
class Offer:
    """The most that an engine can give one run."""

    cpus: float
    memory_mb: int


class ImageGone(Exception):
    """The image was removed meanwhile: build it again."""


@dataclass(frozen=True)
class Image:
    """What a checkout became."""

    #: As it stands in results.
    name: str
    #: As the engine addresses it; changes where the image is built again.
    id: str
    entrypoint: tuple[str, ...] = ()
    #: As the image wants it; may name root.
    user: str = ""
    #: Folders that the image declares as volumes.
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunTask:
    """One command and its limits."""

    command: tuple[str, ...]
    env: dict[str, str]
    limits: Limits
    walltime_s: float
    commit: str
    #: Containers may be shared between tasks with the same key, one after the other.
    shared_by: str | None = None


class Engine(Protocol):
    async def start(self) -> None:
        """Before the first call. Raises `SystemFault` while the engine cannot be reached."""
        ...

    async def stop(self) -> None:
        """Remove what is kept warm."""
        ...

    @property
    def offer(self) -> Offer:
        """Known after `start`."""
        ...

    async def build(
        self, checkout: Checkout, log: BuildLog, asked_at: datetime | None = None
    ) -> Image:
        """The image of a checkout: built once however many tasks wait for it.

        A build that failed counts for every job that was submitted (`asked_at`) before it failed.
        Raises `UserFault` (`build_failed`, `build_timeout`, `dockerfile_missing`, …).
        """
        ...

    async def run(self, image: Image, task: RunTask, job: Job) -> Outcome:
        """Run a task to its end, its output going to `job.log`.

        Raises `Failed` with the output so far, `TimedOut`, `SystemFault`, or `ImageGone`.
        """
        ...

    async def sweep(self) -> None:
        """Remove what runners left that are gone, and what is too old or too much."""
        ...
