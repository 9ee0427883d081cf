"""Put an experiment into git: clone a repository, add a file to it, update one; each pushed.

>>> from qslice.sdk import git
>>> folder = git.clone("https://git.example/qkd/bb84.git", "bb84")          # doctest: +SKIP
>>> git.add_file(folder, "Dockerfile", "FROM python:3.11-slim\\n")           # doctest: +SKIP
'3f786850e387550fdab836ed7e6dc881de23001b'

Who may push is git's own matter: its configuration, its ssh keys, its credential helpers.
"""

import os
from pathlib import Path

from git import Actor, Repo
from git.exc import GitCommandError, GitError, InvalidGitRepositoryError, NoSuchPathError

from qslice import repositories
from qslice.logs import redact
from qslice.sdk.errors import QsliceError

#: Pushes that lost a race against somebody else's before it is given up.
_PUSHES = 5
#: Git never asks a question that nobody would see, and answers in words that are read below.
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "https:http:ssh:file",
    "LC_ALL": "C",
}


class RepositoryError(QsliceError):
    """Git refused, or the file is not as it should be; the message says which."""


def clone(
    url: str, folder: str | os.PathLike[str], *, ref: str | None = None, depth: int | None = None
) -> Path:
    """Clone a repository into a folder that does not exist yet, or is empty; returns the folder.

    `ref` is a branch or a tag, else the repository's own default; `depth` the number of commits.
    A folder on this machine is `file:///…`. Raises `RepositoryError`.
    """
    target = Path(folder)
    try:
        repositories.check_url(url)
        if ref is not None:
            repositories.check_ref(ref)
    except ValueError as wrong:
        raise RepositoryError(f"{redact(url)}: {wrong}") from None
    if target.exists() and any(target.iterdir()):
        raise RepositoryError(f"{target} is not empty")
    try:
        # An option that is None is not passed on.
        Repo.clone_from(url, target, env=_ENVIRONMENT, branch=ref, depth=depth).close()
    except GitError as error:
        raise RepositoryError(f"cannot clone {redact(url)}: {_said(error)}") from None
    return target


def add_file(
    folder: str | os.PathLike[str],
    path: str,
    content: str | bytes,
    *,
    message: str | None = None,
    push: bool = True,
) -> str:
    """Write a new file into a clone, commit it and push; returns the commit.

    Raises `RepositoryError` where the file is there already, or git refuses.
    """
    with _open(folder) as repo:
        file = _inside(repo, path)
        if file.exists():
            raise RepositoryError(f"{path} is there already; update_file changes it")
        return _commit(repo, file, content, message or f"Add {path}", push)


def update_file(
    folder: str | os.PathLike[str],
    path: str,
    content: str | bytes,
    *,
    message: str | None = None,
    push: bool = True,
) -> str:
    """Give a file in a clone a new content, commit it and push; returns the commit.

    Content that is the same makes no commit: then it is the last commit's name.
    Raises `RepositoryError` where there is no such file, or git refuses.
    """
    with _open(folder) as repo:
        file = _inside(repo, path)
        if not file.is_file():
            raise RepositoryError(f"there is no file {path}; add_file makes one")
        return _commit(repo, file, content, message or f"Update {path}", push)


def _open(folder: str | os.PathLike[str]) -> Repo:
    try:
        return Repo(folder)
    except (InvalidGitRepositoryError, NoSuchPathError):
        raise RepositoryError(f"{os.fspath(folder)} is no clone of a git repository") from None


def _inside(repo: Repo, path: str) -> Path:
    """The file, which no link and no `..` leads out of the clone, nor into git's own folder."""
    root = Path(repo.working_tree_dir or "").resolve()
    file = (root / path).resolve()
    if root not in file.parents or ".git" in file.relative_to(root).parts:
        raise RepositoryError(f"{path!r} is no path inside the repository")
    return file


def _commit(repo: Repo, file: Path, content: str | bytes, message: str, push: bool) -> str:
    data = content.encode() if isinstance(content, str) else content
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    except OSError as error:
        raise RepositoryError(f"cannot write {file}: {error.strerror}") from None
    try:
        with repo.git.custom_environment(**_ENVIRONMENT, **_identity(repo)):
            repo.git.add("--", str(file))
            if repo.git.status("--porcelain", "--untracked-files=no", "--", str(file)):
                repo.git.commit("--message", message, "--", str(file))
            if push:
                _push(repo)
        return str(repo.head.commit.hexsha)
    except GitError as error:
        raise RepositoryError(f"git refuses: {_said(error)}") from None


def _push(repo: Repo) -> None:
    """Push; where somebody else pushed before, put our commit on top of theirs."""
    for attempt in range(1, _PUSHES + 1):
        try:
            repo.git.push("--set-upstream", "origin", "HEAD")
            return
        except GitCommandError as error:
            if attempt == _PUSHES or "[rejected]" not in str(error.stderr):
                raise
            repo.git.pull("--rebase")


def _identity(repo: Repo) -> dict[str, str]:
    """A name for the commit where git's configuration has none."""
    configured = repo.git.config("--get", "user.email", with_exceptions=False)
    if configured or "GIT_AUTHOR_EMAIL" in os.environ:
        return {}
    somebody = Actor.author()
    return {
        f"GIT_{role}_{part}": str(value)
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", somebody.name), ("EMAIL", somebody.email))
    }


def _said(error: GitError) -> str:
    """Git's own words, without passwords in addresses."""
    text = str(getattr(error, "stderr", "") or error)
    words = text.strip().removeprefix("stderr:").strip().strip("'").strip()
    return redact(words)[-2000:]
