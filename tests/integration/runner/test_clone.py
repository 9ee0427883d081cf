"""Repositories: refs, the cache, what may be cloned and what may not."""

from __future__ import annotations

import asyncio
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from git import Repo
from qslice.faults import Fault, SystemFault, UserFault
from qslice_runner import addresses
from qslice_runner.clone import Repositories
from qslice_runner.settings import RunnerSettings
from qslice_runner.state import StateDir

from tests.support.git import add_commit, bare_repository
from tests.support.git_server import GitServer, serve_git


class Clones:
    """Repositories below a folder, and the runner's caches of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git = root / "git"
        self.git.mkdir()
        self.asked: list[str] = []

    def repositories(self, name: str = "state", **given: Any) -> Repositories:
        settings = RunnerSettings(
            amqp_url="amqp://unused",
            runner_state_dir=self.root / name,
            **{"allow_file_repositories": self.git, **given},
        )
        state = StateDir(settings.runner_state_dir)
        state.open()
        return Repositories(settings, state, self._resolve)

    async def _resolve(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return await addresses.resolve("127.0.0.1", port)


@pytest.fixture
def clones(tmp_path: Path) -> Clones:
    return Clones(tmp_path)


@pytest.fixture
def server(clones: Clones) -> Iterator[GitServer]:
    with serve_git(clones.git) as served:
        yield served


OVER_HTTP: dict[str, Any] = {"allow_http_repositories": True, "allow_private_repositories": True}


async def files(repositories: Repositories, url: str, commit: str) -> dict[str, str]:
    """The regular files of a commit, as the build context has them."""
    with tempfile.TemporaryFile() as packed:
        await repositories.archive(url, commit, packed)
        packed.seek(0)
        with tarfile.open(fileobj=packed) as archive:
            return {
                entry.name: file.read().decode()
                for entry in archive
                if (file := archive.extractfile(entry)) is not None
            }


async def refused(repositories: Repositories, url: str, ref: str = "HEAD") -> Fault:
    with pytest.raises(Fault) as fault:
        await files(repositories, url, await repositories.commit(url, ref, None))
    return fault.value


async def test_head_branch_tag_and_commit_all_name_a_commit(clones: Clones) -> None:
    url = bare_repository(clones.git, "x", {"a": "1"})
    with Repo(clones.git / "x.git") as repository:
        first = repository.head.commit.hexsha
        repository.create_tag("plain")
        repository.create_tag("annotated", message="a tag with an object of its own")
        repository.create_head("old")
    second = add_commit(clones.git / "x.git", {"a": "2"}, "more")
    repositories = clones.repositories()
    meant = {
        ref: await repositories.commit(url, ref, None)
        for ref in ("HEAD", "main", "old", "plain", "annotated", "refs/tags/annotated", first)
    }
    assert meant == {
        "HEAD": second,
        "main": second,
        "old": first,
        "plain": first,
        "annotated": first,
        "refs/tags/annotated": first,
        first: first,
    }
    # Also one that is no tip any more.
    assert await files(repositories, url, first) == {"a": "1"}
    assert await files(repositories, url, second) == {"a": "2"}


async def test_a_cached_repository_sees_a_new_commit_on_its_branch(clones: Clones) -> None:
    url = bare_repository(clones.git, "x", {"a": "1"})
    repositories = clones.repositories()
    assert await files(repositories, url, await repositories.commit(url, "main", None)) == {
        "a": "1"
    }
    pushed = add_commit(clones.git / "x.git", {"a": "2"}, "more")
    submitted = datetime.now(UTC)
    assert await repositories.commit(url, "main", submitted) == pushed
    assert await files(repositories, url, pushed) == {"a": "2"}


async def test_jobs_submitted_before_the_last_look_share_its_answer(clones: Clones) -> None:
    url = bare_repository(clones.git, "x", {"a": "1"})
    repositories = clones.repositories()
    submitted = datetime.now(UTC) - timedelta(seconds=10)
    first = await repositories.commit(url, "main", submitted)
    pushed = add_commit(clones.git / "x.git", {"a": "2"}, "after they were submitted")
    assert await repositories.commit(url, "main", submitted) == first
    assert await repositories.commit(url, "main", datetime.now(UTC)) == pushed


async def test_a_ref_or_commit_that_is_not_there_is_the_users(clones: Clones) -> None:
    url = bare_repository(clones.git, "x", {"a": "1"})
    repositories = clones.repositories()
    for ref in ("nothing", "1234567", "0" * 40):
        fault = await refused(repositories, url, ref)
        assert isinstance(fault, UserFault)
        assert fault.code == "ref_not_found"
    Repo.init(clones.git / "empty.git", bare=True).close()
    fault = await refused(repositories, f"{clones.git.as_uri()}/empty.git")
    assert fault.code == "ref_not_found"


async def test_only_repositories_below_the_operators_folder_are_cloned(clones: Clones) -> None:
    outside = clones.root / "outside"
    bare_repository(outside, "x", {"a": "1"})
    (clones.git / "link.git").symlink_to(outside / "x.git")
    repositories = clones.repositories()
    for url in (
        f"{outside.as_uri()}/x.git",
        f"{clones.git.as_uri()}/link.git",
        f"{clones.git.as_uri()}-beside/x.git",
        clones.git.as_uri(),
        "file:///etc",
    ):
        assert (await refused(repositories, url)).code == "repository_forbidden", url
    missing = await refused(repositories, f"{clones.git.as_uri()}/missing.git")
    assert missing.code == "repository_not_found"
    not_one = clones.git / "folder"
    not_one.mkdir()
    assert (await refused(repositories, not_one.as_uri())).code == "repository_not_found"
    nothing_local = clones.repositories("other", allow_file_repositories=None)
    assert (await refused(nothing_local, f"{clones.git.as_uri()}/link.git")).code == (
        "repository_forbidden"
    )


@pytest.mark.parametrize(
    "url",
    ["--upload-pack=touch /x", "ext::sh -c true", "-oProxyCommand=x:y", "file:///g/../etc/x"],
)
async def test_an_address_that_is_an_option_or_a_command_never_reaches_git(
    clones: Clones, url: str
) -> None:
    with pytest.raises(ValueError, match=r"must not|transport helper|scheme"):
        await clones.repositories().commit(url, "HEAD", None)


async def test_hooks_attributes_and_configuration_of_a_repository_do_nothing(
    clones: Clones, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    url = bare_repository(
        clones.git,
        "x",
        {
            ".gitattributes": "hidden export-ignore\nstamp export-subst\ncode filter=evil\n",
            "hidden": "is here",
            "stamp": "$Format:%H$",
            "code": "plain",
            ".gitmodules": '[submodule "s"]\n\tpath = s\n\turl = ../../outside\n',
        },
    )
    hook = clones.git / "x.git" / "hooks" / "post-upload-pack"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {witness}\n")
    hook.chmod(0o755)
    with Repo(clones.git / "x.git").config_writer() as config:
        config.set_value("uploadpack", "packObjectsHook", f"touch {witness}; exec")
        config.set_value('filter "evil"', "smudge", f"touch {witness}; cat")
    repositories = clones.repositories()
    found = await files(repositories, url, await repositories.commit(url, "main", None))
    assert found["hidden"] == "is here"
    assert found["stamp"] == "$Format:%H$"
    assert found["code"] == "plain"
    assert not witness.exists()


async def test_a_repository_over_http_is_cloned_at_the_address_that_was_judged(
    clones: Clones, server: GitServer
) -> None:
    bare_repository(clones.git, "x", {"a": "1"})
    repositories = clones.repositories(**OVER_HTTP)
    # A name that only this test's resolver knows: git gets its address from us.
    url = server.url.replace("127.0.0.1", "git.lab.example") + "/x.git"
    assert await files(repositories, url, await repositories.commit(url, "main", None)) == {
        "a": "1"
    }
    assert set(clones.asked) == {"git.lab.example"}


async def test_an_old_server_gives_a_commit_that_is_no_tip(
    clones: Clones, server: GitServer
) -> None:
    bare_repository(clones.git, "x", {"a": "1"})
    with Repo(clones.git / "x.git") as repository:
        first = repository.head.commit.hexsha
    add_commit(clones.git / "x.git", {"a": "2"}, "more")
    server.is_old = True
    repositories = clones.repositories(**OVER_HTTP)
    assert await files(repositories, f"{server.url}/x.git", first) == {"a": "1"}
    assert (await refused(repositories, f"{server.url}/x.git", "1" * 40)).code == "ref_not_found"


async def test_private_addresses_are_refused_before_anything_is_asked(
    clones: Clones, server: GitServer
) -> None:
    bare_repository(clones.git, "x", {"a": "1"})
    repositories = clones.repositories(allow_http_repositories=True)
    for host in ("127.0.0.1", "git.lab.example", "2130706433"):
        url = server.url.replace("127.0.0.1", host) + "/x.git"
        assert (await refused(repositories, url)).code == "repository_forbidden"
    https_only = clones.repositories("other", allow_private_repositories=True)
    assert (await refused(https_only, f"{server.url}/x.git")).code == "repository_forbidden"
    assert server.requests == []


async def test_a_redirect_is_not_followed(clones: Clones, server: GitServer) -> None:
    bare_repository(clones.git, "x", {"a": "1"})
    repositories = clones.repositories(**OVER_HTTP)
    with serve_git(clones.git) as inner:
        server.redirect_to = inner.url
        fault = await refused(repositories, f"{server.url}/x.git")
        assert inner.requests == []
    assert isinstance(fault, UserFault)
    assert fault.code == "repository_forbidden"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "repository_not_found"),
        (401, "repository_not_found"),
        (403, "repository_not_found"),
        (503, "repository_unreachable"),
    ],
)
async def test_a_servers_refusal_is_told_by_whose_it_is(
    clones: Clones, server: GitServer, status: int, code: str
) -> None:
    server.fail_with = status
    fault = await refused(clones.repositories(**OVER_HTTP), f"{server.url}/x.git")
    assert fault.code == code
    assert isinstance(fault, SystemFault) == (status >= 500)


async def test_a_server_that_is_not_there_is_ours(clones: Clones) -> None:
    with serve_git(clones.git) as gone:
        url = f"{gone.url}/x.git"
    fault = await refused(clones.repositories(**OVER_HTTP), url)
    assert isinstance(fault, SystemFault)
    assert fault.code == "repository_unreachable"


async def test_a_repository_that_is_too_large_is_not_fetched(clones: Clones) -> None:
    noise = os.urandom(3 * 1024 * 1024).hex()
    url = bare_repository(clones.git, "big", {"noise": noise})
    repositories = clones.repositories(max_repository_mb=1)
    fault = await refused(repositories, url)
    assert isinstance(fault, UserFault)
    assert fault.code == "limits_exceeded"
    held = sum(path.stat().st_size for path in clones.root.glob("state/**/*") if path.is_file())
    assert held < 2 * 1024 * 1024


async def test_files_that_unpack_to_too_much_are_not_written(clones: Clones) -> None:
    url = bare_repository(clones.git, "bomb", {"zeros": "0" * 3 * 1024 * 1024})
    fault = await refused(clones.repositories(max_repository_mb=1), url)
    assert fault.code == "limits_exceeded"


async def test_a_fetch_that_takes_too_long_is_ended(clones: Clones) -> None:
    # A server that takes connections and says nothing.
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        repositories = clones.repositories(git_timeout_s=0.5, **OVER_HTTP)
        fault = await refused(repositories, f"http://127.0.0.1:{port}/x.git")
    assert isinstance(fault, SystemFault)
    assert "longer than" in fault.message


async def test_many_jobs_fetch_a_commit_once(clones: Clones, server: GitServer) -> None:
    bare_repository(clones.git, "x", {"a": "1"})
    repositories = clones.repositories(**OVER_HTTP)
    url = f"{server.url}/x.git"
    commit = await repositories.commit(url, "main", None)
    found = await asyncio.gather(*(files(repositories, url, commit) for _ in range(5)))
    assert found == [{"a": "1"}] * 5
    asked = [line for line in server.requests if line.startswith("POST")]
    # One look at the refs, one fetch (two requests in version 2 of the protocol).
    assert len(asked) <= 3


async def test_what_a_killed_git_left_in_a_cache_does_not_stop_the_next(clones: Clones) -> None:
    url = bare_repository(clones.git, "x", {"a": "1"})
    repositories = clones.repositories()
    await files(repositories, url, await repositories.commit(url, "main", None))
    cache = next((clones.root / "state" / "repositories").glob("*.git"))
    (cache / "shallow.lock").touch()
    (cache / "objects" / "pack" / "tmp_pack_x").touch()
    commit = add_commit(clones.git / "x.git", {"a": "2"}, "more")
    assert await files(repositories, url, commit) == {"a": "2"}
    assert not list(cache.glob("objects/pack/tmp_*"))


async def test_half_a_cache_is_made_again(clones: Clones) -> None:
    url = bare_repository(clones.git, "x", {"a": "1"})
    repositories = clones.repositories()
    commit = await repositories.commit(url, "main", None)
    await files(repositories, url, commit)
    cache = next((clones.root / "state" / "repositories").glob("*.git"))
    (cache / "qslice-url").unlink()
    shutil.rmtree(cache / "refs")
    shutil.rmtree(cache / "objects")
    assert await files(repositories, url, commit) == {"a": "1"}


async def test_caches_that_need_too_much_room_go_the_oldest_first(clones: Clones) -> None:
    repositories = clones.repositories(repository_cache_mb=2)
    commits = {}
    for name in ("old", "new"):
        url = bare_repository(clones.git, name, {"noise": os.urandom(700 * 1024).hex()})
        commits[url] = await repositories.commit(url, "main", None)
        await files(repositories, url, commits[url])
    folder = clones.root / "state" / "repositories"
    await repositories.shrink()
    assert len(list(folder.glob("*.git"))) == 2
    url = bare_repository(clones.git, "more", {"noise": os.urandom(700 * 1024).hex()})
    await files(repositories, url, await repositories.commit(url, "main", None))
    await repositories.shrink()
    kept = {(cache / "qslice-url").read_text() for cache in folder.glob("*.git")}
    assert kept == {f"{clones.git.as_uri()}/new.git", url}
