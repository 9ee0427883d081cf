"""The git helpers, on real repositories."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from qslice.sdk import git


@pytest.fixture(autouse=True)
def _nobodys_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where git was never told a name."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("GIT_AUTHOR_EMAIL", raising=False)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "bare.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", path], check=True)
    return path


def show(bare: Path, path: str) -> str:
    shown = subprocess.run(
        ["git", "-C", bare, "show", f"main:{path}"], check=True, capture_output=True, text=True
    )
    return shown.stdout


def test_a_file_that_is_added_and_updated_is_in_the_repository(bare: Path, tmp_path: Path) -> None:
    folder = git.clone(bare.as_uri(), tmp_path / "clone")
    first = git.add_file(folder, "app/Dockerfile", "FROM scratch\n")
    assert show(bare, "app/Dockerfile") == "FROM scratch\n"
    second = git.update_file(folder, "app/Dockerfile", b"FROM python:3.11-slim\n")
    assert show(bare, "app/Dockerfile") == "FROM python:3.11-slim\n"
    assert first != second
    assert len(second) == 40
    assert git.update_file(folder, "app/Dockerfile", "FROM python:3.11-slim\n") == second


def test_a_second_clone_sees_what_was_pushed_and_a_ref_can_be_chosen(
    bare: Path, tmp_path: Path
) -> None:
    folder = git.clone(bare.as_uri(), tmp_path / "one")
    git.add_file(folder, "a", "1")
    again = git.clone(bare.as_uri(), tmp_path / "two", ref="main", depth=1)
    assert (again / "a").read_text() == "1"
    with pytest.raises(git.RepositoryError, match=r"(?s)cannot clone.*branch nowhere"):
        git.clone(bare.as_uri(), tmp_path / "three", ref="nowhere")


def test_a_push_that_lost_a_race_is_put_on_top_of_the_other(bare: Path, tmp_path: Path) -> None:
    one = git.clone(bare.as_uri(), tmp_path / "one")
    git.add_file(one, "base", "0")
    two = git.clone(bare.as_uri(), tmp_path / "two")
    git.add_file(one, "a", "1")
    git.add_file(two, "b", "2")
    assert (show(bare, "a"), show(bare, "b")) == ("1", "2")


def test_a_conflict_is_told_in_gits_own_words(bare: Path, tmp_path: Path) -> None:
    one = git.clone(bare.as_uri(), tmp_path / "one")
    git.add_file(one, "a", "0")
    two = git.clone(bare.as_uri(), tmp_path / "two")
    git.update_file(one, "a", "1")
    with pytest.raises(git.RepositoryError, match="git refuses"):
        git.update_file(two, "a", "2")
    assert show(bare, "a") == "1"


def test_without_push_the_commit_stays_in_the_clone(bare: Path, tmp_path: Path) -> None:
    folder = git.clone(bare.as_uri(), tmp_path / "clone")
    git.add_file(folder, "a", "1", push=False, message="only here")
    log = subprocess.run(
        ["git", "-C", folder, "log", "--format=%s"], check=True, capture_output=True, text=True
    )
    assert log.stdout == "only here\n"
    with pytest.raises(subprocess.CalledProcessError):
        show(bare, "a")


def test_adding_never_overwrites_and_updating_never_makes(bare: Path, tmp_path: Path) -> None:
    folder = git.clone(bare.as_uri(), tmp_path / "clone")
    git.add_file(folder, "a", "1")
    with pytest.raises(git.RepositoryError, match="there already"):
        git.add_file(folder, "a", "2")
    with pytest.raises(git.RepositoryError, match="no file b"):
        git.update_file(folder, "b", "2")


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", ".git/config", "", "link/x"])
def test_no_path_leads_out_of_the_repository(bare: Path, tmp_path: Path, path: str) -> None:
    folder = git.clone(bare.as_uri(), tmp_path / "clone")
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(git.RepositoryError, match="no path inside"):
        git.add_file(folder, path, "x")


@pytest.mark.parametrize(
    "url", ["ext::sh -c id", "--upload-pack=id", "git://h/p", "https://u:sesame@h/p", "file://h/p"]
)
def test_an_address_that_could_do_more_than_name_a_repository_is_refused(
    tmp_path: Path, url: str
) -> None:
    with pytest.raises(git.RepositoryError) as refused:
        git.clone(url, tmp_path / "clone")
    assert "sesame" not in str(refused.value)
    assert not (tmp_path / "clone").exists()


def test_a_folder_that_is_in_use_or_no_clone_is_told(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(git.RepositoryError, match="not empty"):
        git.clone(bare.as_uri(), tmp_path / "full")
    with pytest.raises(git.RepositoryError, match="no clone"):
        git.add_file(tmp_path / "full", "a", "1")
