"""Real git repositories for tests, as the runner clones them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from git import Actor, Repo

DOCKERFILE = "FROM python:3.11-slim\nWORKDIR /app\nUSER 1000\n"
_AUTHOR = Actor("A lab", "lab@example.org")


def bare_repository(folder: Path, name: str, files: Mapping[str, str]) -> str:
    """A bare repository below `folder` with one commit on `main`; its file address."""
    bare = folder / f"{name}.git"
    Repo.init(bare, bare=True, initial_branch="main").close()
    add_commit(bare, files, "The experiment")
    return bare.as_uri()


def add_commit(bare: Path, files: Mapping[str, str], message: str) -> str:
    """One more commit on `main` of a bare repository; its 40 digits."""
    work = bare.with_suffix(".work")
    fresh = not work.exists()
    repository = Repo.init(work, initial_branch="main") if fresh else Repo(work)
    with repository:
        for path, text in files.items():
            target = work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            # A link that a test committed must not lead this write out of the folder.
            target.unlink(missing_ok=True)
            target.write_text(text)
        repository.index.add(list(files))
        commit = repository.index.commit(message, author=_AUTHOR, committer=_AUTHOR)
        if fresh:
            repository.create_remote("origin", str(bare))
        repository.remote("origin").push("main:main").raise_if_error()
        return commit.hexsha
