"""Puts a folder into a bare git repository, from which a runner can clone it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from broker import LabError

BRANCH = "main"
#: What running an experiment here leaves beside it is no part of it.
_IGNORED = "__pycache__/\n*.pyc\n"


def publish(folder: Path, repository: Path) -> str:
    """Commit `folder` as it is to the bare `repository`, and return the commit.

    Makes the repository where it is missing. A folder that did not change makes no new commit, so
    the image built from it is used again.
    """
    with tempfile.TemporaryDirectory() as scratch:
        ignored = Path(scratch, "ignored")
        ignored.write_text(_IGNORED, encoding="utf-8")
        folder, repository = folder.resolve(), repository.resolve()
        git = _Git(folder, repository, Path(scratch, "index"))
        _make(repository)
        git("init", "--quiet", "--bare", f"--initial-branch={BRANCH}")
        git(f"--work-tree={folder}", "-c", f"core.excludesFile={ignored}", "add", "--all", ".")
        tree = git("write-tree")
        head = git("rev-parse", "--verify", "--quiet", f"refs/heads/{BRANCH}", may_fail=True)
        if head and git("rev-parse", f"{head}^{{tree}}") == tree:
            return head
        parent = ("-p", head) if head else ()
        commit = git("commit-tree", tree, *parent, "-m", f"{folder.name} as it is now")
        git("update-ref", f"refs/heads/{BRANCH}", commit)
        return commit


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"cannot make the folder {folder}: {error.strerror}") from error


class _Git:
    """Git with an index of its own, deaf to the person's configuration."""

    def __init__(self, folder: Path, repository: Path, index: Path) -> None:
        self._folder = folder
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        who = {"NAME": "qslice", "EMAIL": "qslice@localhost"}
        self._environment = inherited | {
            "GIT_DIR": str(repository),
            "GIT_INDEX_FILE": str(index),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{role}_{key}": who[key] for role in ("AUTHOR", "COMMITTER") for key in who},
        }

    def __call__(self, *arguments: str, may_fail: bool = False) -> str:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=self._folder,
                env=self._environment,
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise LabError(f"git cannot be started: {error}") from error
        if done.returncode != 0 and not may_fail:
            raise LabError(f"git {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout.strip()
