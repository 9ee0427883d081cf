"""Images: built once, named by what they come from, refused, broken off, removed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from docker import DockerClient
from docker.errors import APIError, ImageNotFound
from git import Repo
from qslice.faults import Fault, SystemFault, UserFault
from qslice_runner.engine import Checkout
from qslice_runner.images import image_name

from tests.integration.runner.conftest import DOCKERFILE, Lab, Runner
from tests.support.git import add_commit, bare_repository
from tests.support.registry import Registry
from tests.support.wait import wait_for_async


def images_of(client: DockerClient, name: str) -> list[Any]:
    return client.images.list(name)


async def test_an_image_is_named_by_repository_commit_and_dockerfile(
    runner: Runner, lab: Lab
) -> None:
    files = {"Dockerfile": DOCKERFILE, "other/Dockerfile": DOCKERFILE}
    repository = bare_repository(lab.git, "names", files)
    first = await runner.run("true", repository=repository)
    again = await runner.run("true", repository=repository)
    other = await runner.run("true", repository=repository, dockerfile="other/Dockerfile")
    add_commit(lab.git / "names.git", {"new": ""}, "more")
    later = await runner.run("true", repository=repository)
    assert first.image == again.image
    assert len({first.image, other.image, later.image}) == 3


async def test_many_jobs_that_wait_for_an_image_build_it_once(own_lab: Lab) -> None:
    """Two runners, as two processes would: each with its own memory, over one folder."""
    files = {"Dockerfile": f"{DOCKERFILE}RUN echo built-at-$(date +%s%N) > /stamp\n"}
    repository = bare_repository(own_lab.git, "once", files)
    runners = [await own_lab.runner(slots=4), await own_lab.runner(slots=4)]
    jobs = [one.job("cat", "/stamp", repository=repository) for one in runners * 3]
    outcomes = await asyncio.gather(
        *(one.handler.run(job) for one, job in zip(runners * 3, jobs, strict=True))
    )
    assert len({outcome.stdout for outcome in outcomes}) == 1
    told = [job for job in jobs if "built-at" in job.logs.get("build", "")]
    # All who waited in the runner that built it read its log.
    assert len(told) == 3


async def test_the_build_log_is_live(runner: Runner, lab: Lab) -> None:
    files = {"Dockerfile": f"{DOCKERFILE}RUN echo step-one\nRUN sleep 1000\n"}
    repository = bare_repository(lab.git, "live", files)
    job = runner.job("true", repository=repository)
    running = asyncio.create_task(runner.handler.run(job))
    await wait_for_async(lambda: "step-one\n" in job.logs.get("build", ""), what="the build log")
    running.cancel()
    await asyncio.wait((running,))


async def test_a_cancelled_build_leaves_no_container_and_the_next_job_can_build(
    runner: Runner, lab: Lab, docker_client: DockerClient
) -> None:
    mark = "qslice-cancelled-build-step"
    files = {"Dockerfile": f"{DOCKERFILE}RUN echo {mark} && sleep 1000\n"}
    repository = bare_repository(lab.git, "broken-off", files)
    job = runner.job("true", repository=repository)
    running = asyncio.create_task(runner.handler.run(job))
    await wait_for_async(lambda: f"\n{mark}\n" in job.logs.get("build", ""), what="the step begun")
    running.cancel()
    await asyncio.wait((running,))

    def steps() -> list[Any]:
        found = docker_client.containers.list(all=True, ignore_removed=True)
        return [one for one in found if mark in str(one.attrs["Config"]["Cmd"])]

    await wait_for_async(lambda: not steps(), what="no container of the build left")
    add_commit(lab.git / "broken-off.git", {"Dockerfile": DOCKERFILE}, "mended")
    assert (await runner.run("true", repository=repository)).exit_code == 0


async def test_a_build_goes_on_while_one_job_still_waits_for_it(runner: Runner, lab: Lab) -> None:
    files = {"Dockerfile": f"{DOCKERFILE}RUN echo begun && sleep 3\n"}
    repository = bare_repository(lab.git, "shared", files)
    jobs = [runner.job("echo", "ok", repository=repository) for _ in range(2)]
    first, second = (asyncio.create_task(runner.handler.run(job)) for job in jobs)
    await wait_for_async(lambda: "\nbegun" in jobs[1].logs.get("build", ""), what="the build")
    first.cancel()
    assert (await second).stdout == "ok\n"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_build_that_fails_tells_its_last_lines(runner: Runner, lab: Lab) -> None:
    files = {"Dockerfile": f"{DOCKERFILE}RUN echo 'no such package' >&2; exit 4\n"}
    repository = bare_repository(lab.git, "fails", files)
    failed = await runner.fails("true", repository=repository)
    assert failed.code == "build_failed"
    assert "no such package" in failed.message
    assert "non-zero code: 4" in failed.message
    assert failed.outcome.commit


async def test_a_failed_build_counts_for_all_jobs_that_were_submitted_before_it_failed(
    runner: Runner, lab: Lab
) -> None:
    files = {"Dockerfile": f"{DOCKERFILE}RUN exit 4\n"}
    repository = bare_repository(lab.git, "fails-once", files)
    early = {"submitted_at": datetime.now(UTC) - timedelta(seconds=60)}
    jobs = [runner.job("true", repository=repository, job=early) for _ in range(2)]
    late = runner.job("true", repository=repository)
    late.submitted_at = datetime.now(UTC) + timedelta(hours=1)
    for job in (*jobs, late):
        with pytest.raises(UserFault) as failed:
            await runner.handler.run(job)
        assert failed.value.code == "build_failed"
    assert ["build" in job.logs for job in (*jobs, late)] == [True, False, True]


async def test_a_build_that_takes_too_long_is_ended(lab: Lab) -> None:
    runner = await lab.runner(build_timeout_s=3)
    files = {"Dockerfile": f"{DOCKERFILE}RUN sleep 1000\n"}
    repository = bare_repository(lab.git, "slow", files)
    failed = await runner.fails("true", repository=repository)
    assert failed.code == "build_timeout"
    assert "3 s" in failed.message


@pytest.mark.parametrize(
    ("name", "dockerfile", "code"),
    [
        ("syntax", "# syntax=evil/frontend:1\nFROM debian:bookworm-slim\n", "dockerfile_forbidden"),
        ("add", f"{DOCKERFILE}ADD http://127.0.0.1:1/x /x\n", "dockerfile_forbidden"),
        ("onbuild", f"{DOCKERFILE}ONBUILD RUN true\n", "dockerfile_forbidden"),
        ("typo", f"{DOCKERFILE}RUNN true\n", "build_failed"),
        ("copy", f"{DOCKERFILE}COPY missing /\n", "build_failed"),
        ("mount", f"{DOCKERFILE}RUN --mount=type=bind,source=/,target=/x ls /x\n", "build_failed"),
        ("privileged", f"{DOCKERFILE}RUN --security=insecure true\n", "build_failed"),
        ("empty", "\n", "build_failed"),
    ],
)
async def test_a_dockerfile_that_cannot_or_must_not_be_built_is_the_users(
    runner: Runner, lab: Lab, name: str, dockerfile: str, code: str
) -> None:
    repository = bare_repository(lab.git, f"bad-{name}", {"Dockerfile": dockerfile})
    failed = await runner.fails("true", repository=repository)
    assert failed.code == code


async def test_a_repository_without_a_dockerfile_is_told_so(runner: Runner, lab: Lab) -> None:
    repository = bare_repository(lab.git, "without", {"readme": ""})
    failed = await runner.fails("true", repository=repository)
    assert failed.code == "dockerfile_missing"


async def test_links_out_of_the_repository_are_refused(runner: Runner, lab: Lab) -> None:
    repository = bare_repository(lab.git, "links", {"Dockerfile": DOCKERFILE})
    work = lab.git / "links.work"
    (work / "Dockerfile").unlink()
    (work / "Dockerfile").symlink_to("../../../etc/hostname")
    commit_as_it_is(lab, "links")
    failed = await runner.fails("true", repository=repository)
    assert failed.code == "dockerfile_forbidden"


def commit_as_it_is(lab: Lab, name: str) -> None:
    with Repo(lab.git / f"{name}.work") as repository:
        repository.git.add("-A")
        repository.git.execute(
            ["git", "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "links"]
        )
        repository.remote("origin").push("main:main").raise_if_error()


async def test_a_base_image_is_never_an_image_of_another_run(runner: Runner, lab: Lab) -> None:
    secret = bare_repository(lab.git, "secret", {"Dockerfile": DOCKERFILE, "key": "hunter2"})
    image = (await runner.run("true", repository=secret)).image
    thief = bare_repository(lab.git, "thief", {"Dockerfile": f"FROM {image}\n"})
    failed = await runner.fails("cat", "/key", repository=thief)
    assert failed.code == "dockerfile_forbidden"


async def test_an_air_gapped_runner_tells_that_a_base_image_is_missing(lab: Lab) -> None:
    runner = await lab.runner(air_gapped=True)
    files = {"Dockerfile": "FROM qkd/none-such:1\n"}
    repository = bare_repository(lab.git, "no-base", files)
    failed = await runner.fails("true", repository=repository)
    assert failed.code == "build_failed"
    assert "qkd/none-such:1" in failed.message


async def test_an_image_larger_than_the_runner_keeps_is_removed(
    lab: Lab, docker_client: DockerClient
) -> None:
    runner = await lab.runner(max_image_mb=1)
    repository = bare_repository(lab.git, "large", {"Dockerfile": DOCKERFILE, "x": "1"})
    job = runner.job("true", repository=repository)
    with pytest.raises(UserFault) as failed:
        await runner.handler.run(job)
    assert failed.value.code == "limits_exceeded"
    assert "1 MB" in failed.value.message


async def test_an_image_that_was_removed_meanwhile_is_built_again(
    runner: Runner, lab: Lab, docker_client: DockerClient
) -> None:
    repository = bare_repository(lab.git, "removed", {"Dockerfile": DOCKERFILE, "y": "1"})
    first = await runner.run("true", repository=repository)
    name = str(first.image)
    await wait_for_async(lambda: remove_image(docker_client, name), what="the image removed")
    assert (await runner.run("true", repository=repository)).exit_code == 0


def remove_image(client: DockerClient, name: str) -> bool:
    try:
        client.images.remove(name)
    except APIError:
        return False  # its container is still being removed
    return True


async def test_unused_images_are_removed_and_used_ones_stay(
    own_lab: Lab, docker_client: DockerClient
) -> None:
    runner = await own_lab.runner(keep_images=1)
    names = []
    for content in ("1", "2"):
        files = {"Dockerfile": DOCKERFILE, "content": content}
        repository = bare_repository(own_lab.git, f"keep-{content}", files)
        names.append((await runner.run("true", repository=repository)).image)

    async def swept() -> bool:
        await runner.handler.sweep(nobody_asks)
        return not images_of(docker_client, str(names[0]))

    await wait_for_async(swept, what="the older image removed")
    assert images_of(docker_client, str(names[1]))


async def nobody_asks(job_ids: list[str]) -> set[str]:
    raise AssertionError("the runner's locks tell who lives")


def test_the_name_depends_on_nothing_else() -> None:
    async def archive(to: object) -> None:
        raise AssertionError

    one = Checkout("https://h/x", "c" * 40, "Dockerfile", archive)
    assert image_name(one) == image_name(Checkout("https://h/x", "c" * 40, "Dockerfile", archive))
    assert image_name(one) != image_name(Checkout("https://h/y", "c" * 40, "Dockerfile", archive))


async def test_nothing_is_built_where_the_disk_is_nearly_full(lab: Lab) -> None:
    runner = await lab.runner(min_free_mb=10**9)
    with pytest.raises(SystemFault) as fault:
        await runner.run("true", repository=bare_repository(lab.git, "full", {"Dockerfile": "x"}))
    assert fault.value.code == "disk_full"


async def test_a_build_that_fills_the_disk_is_ended(lab: Lab) -> None:
    runner = await lab.runner(max_image_mb=5)
    fill = "RUN head -c 60000000 /dev/urandom > /full && sync && sleep 1000\n"
    repository = bare_repository(lab.git, "filling", {"Dockerfile": f"{DOCKERFILE}{fill}"})
    failed = await runner.fails("true", repository=repository)
    assert failed.code == "limits_exceeded"


async def test_what_a_broken_build_left_is_removed_when_it_is_old(
    own_lab: Lab, docker_client: DockerClient
) -> None:
    runner = await own_lab.runner()
    # The base is a stage's own, so that its layer belongs to this build alone.
    dockerfile = f"{DOCKERFILE}ENV UNIQUE={own_lab.state}\nRUN exit 1\n"
    repository = bare_repository(own_lab.git, "leftover", {"Dockerfile": dockerfile})
    await runner.fails("true", repository=repository)
    [left] = (own_lab.state / "leftovers").iterdir()
    assert docker_client.images.get(left.name)
    await runner.handler.sweep(nobody_asks)
    assert docker_client.images.get(left.name), "it speeds up the next try"
    os.utime(left, (0, 0))
    await runner.handler.sweep(nobody_asks)
    assert not left.exists()
    with pytest.raises(ImageNotFound):
        docker_client.images.get(left.name)


@pytest.fixture
def registry() -> Iterator[Registry]:
    """An image registry on loopback that has nothing."""
    with Registry() as serving:
        yield serving


@pytest.mark.parametrize(
    ("status", "code", "is_ours"),
    [
        (404, "build_failed", False),
        (403, "build_failed", False),
        (503, "registry_unreachable", True),
    ],
)
async def test_a_base_image_that_cannot_be_had_is_told_by_whose_fault_it_is(
    lab: Lab, runner: Runner, registry: Registry, status: int, code: str, is_ours: bool
) -> None:
    registry.status = status
    dockerfile = f"FROM {registry.host}/qkd/none:1\n"
    repository = bare_repository(lab.git, f"registry-{status}", {"Dockerfile": dockerfile})
    with pytest.raises(Fault) as fault:
        await runner.run("true", repository=repository)
    assert fault.value.code == code
    assert isinstance(fault.value, SystemFault) == is_ours
    assert f"{registry.host}/qkd/none:1" in fault.value.message


async def test_a_registry_that_is_not_there_is_ours(lab: Lab, runner: Runner) -> None:
    with Registry() as gone:
        dockerfile = f"FROM {gone.host}/qkd/none:1\n"
    repository = bare_repository(lab.git, "registry-gone", {"Dockerfile": dockerfile})
    with pytest.raises(SystemFault) as fault:
        await runner.run("true", repository=repository)
    assert fault.value.code == "registry_unreachable"
