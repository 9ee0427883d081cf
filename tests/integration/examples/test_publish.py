"""A folder becomes a bare git repository, with a new commit only where something changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from broker import LabError
from publish import publish


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    experiment = tmp_path / "experiment"
    (experiment / "__pycache__").mkdir(parents=True)
    (experiment / "__pycache__" / "run.cpython-311.pyc").write_bytes(b"\0")
    (experiment / "Dockerfile").write_text("FROM scratch\n")
    (experiment / "run.py").write_text("print(1)\n")
    return experiment


def test_a_clone_holds_the_folder_without_what_python_left_there(
    folder: Path, tmp_path: Path
) -> None:
    commit = publish(folder, tmp_path / "git" / "experiment.git")
    _git("clone", "--quiet", f"file://{tmp_path}/git/experiment.git", str(tmp_path / "clone"))
    assert _git("-C", str(tmp_path / "clone"), "rev-parse", "HEAD").strip() == commit
    assert sorted(path.name for path in (tmp_path / "clone").iterdir()) == [
        ".git",
        "Dockerfile",
        "run.py",
    ]


def test_an_unchanged_folder_keeps_its_commit_and_a_changed_one_adds_to_it(
    folder: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "experiment.git"
    first = publish(folder, repository)
    assert publish(folder, repository) == first
    (folder / "run.py").unlink()
    (folder / "again.py").write_text("print(2)\n")
    second = publish(folder, repository)
    assert second != first
    history = _git("-C", str(repository), "log", "--format=%H", "main").split()
    assert history == [second, first]
    files = _git("-C", str(repository), "ls-tree", "-r", "--name-only", "main").split()
    assert files == ["Dockerfile", "again.py"]


def test_a_persons_git_settings_do_not_get_in_the_way(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text("[commit]\n\tgpgsign = true\n[init]\n\tdefaultBranch = trunk\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    repository = tmp_path / "experiment.git"
    commit = publish(folder, repository)
    monkeypatch.delenv("GIT_DIR")
    assert _git("-C", str(repository), "rev-parse", "HEAD").strip() == commit


def test_a_folder_that_is_no_place_for_a_repository_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LabError, match=r"cannot make the folder .*file"):
        publish(folder, tmp_path / "file")
