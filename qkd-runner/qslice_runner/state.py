"""The runner's folder: locks that several runners on one host share, and who of them is alive.

Locks are the kernel's (flock): one that a killed process held is free at once, and nothing is left
to clean. A runner holds one of its own for life; so others see whether it lives.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from filelock import AsyncFileLock, FileLock, Timeout

#: Lock files are never removed (that races), so there is a fixed number of them.
_STRIPES = 256


def digest(*parts: str) -> str:
    """32 hexadecimal digits that stand for some texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


class StateDir:
    """The folder, as one running process uses it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: This process among all that ever used the folder.
        self.runner = secrets.token_hex(8)
        self._alive = FileLock(self._runner_lock(self.runner), mode=0o600)

    @property
    def id(self) -> str:
        """Stands for this folder in labels; together with the host it says whose a thing is."""
        return digest(str(self.path.resolve()))[:12]

    @property
    def repositories(self) -> Path:
        return self.path / "repositories"

    @property
    def images(self) -> Path:
        """One empty file per built image; its time is the image's last use."""
        return self.path / "images"

    @property
    def leftovers(self) -> Path:
        """One empty file per build that came to nothing, named by its last layer."""
        return self.path / "leftovers"

    @property
    def scratch(self) -> Path:
        """Files without a name after they are opened: gone with the process."""
        return self.path / "scratch"

    def open(self) -> None:
        """Make the folder, and show that this runner lives."""
        plain = (self.path / "runners", self.path / "locks")
        for folder in (self.repositories, self.images, self.leftovers, self.scratch, *plain):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(self.path, 0o700)
        if not self._alive.is_locked:
            self._alive.acquire(timeout=0)

    def close(self) -> None:
        if self._alive.is_locked:
            self._alive.release()
            self._runner_lock(self.runner).unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def lock(self, what: str, name: str) -> AsyncIterator[None]:
        """Only one task of one process on this host is inside, for each `what` and `name`.

        Whoever holds one takes others only in the order: image, repository.
        """
        stripe = int(digest(name)[:8], 16) % _STRIPES
        lock = AsyncFileLock(
            self.path / "locks" / f"{what}-{stripe:02x}",
            mode=0o600,
            thread_local=False,
            is_singleton=False,
            poll_interval=0.05,
        )
        async with lock:
            yield

    def lives(self, runner: str) -> bool:
        """Whether the process that used the folder under this name still runs."""
        if runner == self.runner:
            return True
        path = self._runner_lock(runner)
        if not path.is_file():
            return False
        lock = FileLock(path, mode=0o600, is_singleton=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        # Names are never used again, so nobody waits for this file.
        path.unlink(missing_ok=True)
        lock.release()
        return False

    def is_shared(self) -> bool:
        """Whether another runner that lives uses the folder."""
        found = (self.path / "runners").glob("*.lock")
        return any(path.stem != self.runner and self.lives(path.stem) for path in found)

    def dead_runners(self) -> Iterator[str]:
        """The runners that left a lock behind; their lock files go."""
        for path in list((self.path / "runners").glob("*.lock")):
            if not self.lives(path.stem):
                yield path.stem

    def _runner_lock(self, runner: str) -> Path:
        return self.path / "runners" / f"{runner}.lock"
