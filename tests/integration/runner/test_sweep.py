"""What a runner leaves when it is killed, and that the next one removes it, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import APIError
from qslice_runner.state import StateDir

from tests.integration.runner.conftest import DOCKERFILE, Lab, Runner, containers_of
from tests.support.git import bare_repository
from tests.support.processes import ProcessStarter, ServiceProcess
from tests.support.wait import wait_for, wait_for_async


def start_runner(
    start: ProcessStarter, lab: Lab, command: list[str], batch: str | None = None, **run: Any
) -> ServiceProcess:
    settings = {name: str(value) for name, value in lab.base.items()}
    body = {"repository": lab.shell, "command": command, **run}
    arguments = [json.dumps(argument) for argument in (settings, body, batch)]
    return start("python", "-m", "tests.integration.runner.abandoned", *arguments)


def running_in(client: DockerClient, lab: Lab) -> list[Any]:
    return [one for one in containers_of(client, lab) if one.status == "running"]


async def nobody_asks(job_ids: list[str]) -> set[str]:
    raise AssertionError("the runner's locks tell who lives")


async def test_a_command_ends_with_its_runner_and_the_next_one_sweeps(
    own_lab: Lab, docker_client: DockerClient, start_process: ProcessStarter
) -> None:
    command = ["sh", "-c", "trap '' TERM HUP; while true; do sleep 1; done"]
    process = start_runner(start_process, own_lab, command)
    process.wait_for_log("begun", 120)
    assert len(running_in(docker_client, own_lab)) == 1
    process.kill()
    # Nobody sweeps yet: the first process of the container saw that its runner is gone.
    wait_for(lambda: not running_in(docker_client, own_lab), 60, "the command ended")
    runner = await own_lab.runner()
    await runner.handler.sweep(nobody_asks)
    assert containers_of(docker_client, own_lab) == []
    assert len(list((own_lab.state / "runners").glob("*.lock"))) == 1


async def test_a_warm_container_ends_with_its_runner(
    own_lab: Lab, docker_client: DockerClient, start_process: ProcessStarter
) -> None:
    process = start_runner(start_process, own_lab, ["true"], "batch_1", isolation="batch")
    process.wait_for_log("ended", 120)
    assert len(running_in(docker_client, own_lab)) == 1
    process.kill()
    wait_for(lambda: not running_in(docker_client, own_lab), 60, "the container ended")
    runner = await own_lab.runner()
    await runner.handler.sweep(nobody_asks)
    assert containers_of(docker_client, own_lab) == []


async def test_a_build_ends_with_its_runner_and_the_next_one_can_build(
    own_lab: Lab, docker_client: DockerClient, start_process: ProcessStarter
) -> None:
    mark = "qslice-abandoned-build-step"
    files = {"Dockerfile": f"{DOCKERFILE}ARG wait=1000\nRUN echo {mark} && sleep $wait\n"}
    repository = bare_repository(own_lab.git, "abandoned", files)
    process = start_runner(start_process, own_lab, ["true"], repository=repository)
    process.wait_for_log(f"\nbuild {mark}", 120)
    process.kill()

    def steps() -> list[Any]:
        found = docker_client.containers.list(all=True, ignore_removed=True)
        return [one for one in found if mark in str(one.attrs["Config"]["Cmd"])]

    wait_for(lambda: not steps(), 60, "no container of the build left")
    runner = await own_lab.runner()
    other = bare_repository(own_lab.git, "other", {"Dockerfile": DOCKERFILE})
    assert (await runner.run("echo", "on", repository=other)).stdout == "on\n"


async def test_a_sweep_touches_nothing_of_a_runner_that_lives(
    own_lab: Lab, docker_client: DockerClient, start_process: ProcessStarter
) -> None:
    process = start_runner(start_process, own_lab, ["sleep", "1000"])
    process.wait_for_log("begun", 120)
    stranger = docker_client.containers.create(
        "debian:bookworm-slim", ["true"], labels={"qslice.worker-host": "another"}
    )
    try:
        runner = await own_lab.runner()
        await warm_task(runner)
        await runner.handler.sweep(nobody_asks)
        assert len(running_in(docker_client, own_lab)) == 2, "the other's, and our warm one"
        stranger.reload()
    finally:
        stranger.remove(force=True)


async def warm_task(runner: Runner) -> None:
    await runner.run("true", batch="batch_1", isolation="batch")


async def test_a_sweep_removes_what_this_runner_lost(
    own_lab: Lab, docker_client: DockerClient
) -> None:
    runner = await own_lab.runner()
    await warm_task(runner)
    [ours] = containers_of(docker_client, own_lab)
    lost = docker_client.containers.create(
        "debian:bookworm-slim", ["true"], labels=ours.labels, name=f"{ours.name}-lost"
    )
    own = ("qslice.worker-host", "qslice.state", "qslice.checkout")
    volume = docker_client.volumes.create(
        f"{ours.name}-data-0", labels={name: ours.labels[name] for name in own}
    )
    scratch = own_lab.state / "scratch" / "left"
    scratch.touch()
    age(scratch)
    await runner.handler.sweep(nobody_asks)
    assert [one.id for one in containers_of(docker_client, own_lab)] == [ours.id]
    assert lost.id != ours.id
    assert volume.id not in [one.id for one in docker_client.volumes.list()]
    assert not scratch.exists()
    # What it has works on.
    await warm_task(runner)
    assert [one.id for one in containers_of(docker_client, own_lab)] == [ours.id]


def age(path: Path) -> None:
    os.utime(path, (0, 0))


async def test_a_volume_with_the_first_process_that_was_removed_is_made_again(
    own_lab: Lab, docker_client: DockerClient
) -> None:
    runner = await own_lab.runner()
    await runner.run("true")
    filters = {"label": f"qslice.state={StateDir(own_lab.state).id}"}

    def removed() -> bool:
        for volume in docker_client.volumes.list(filters=filters):
            volume.remove()
        return True

    await wait_for_async(removed, what="the volume removed", ignoring=(APIError,))
    assert (await runner.run("echo", "on")).stdout == "on\n"


def test_a_runner_lives_as_long_as_its_process(tmp_path: Path) -> None:
    first, second = StateDir(tmp_path / "state"), StateDir(tmp_path / "state")
    first.open()
    second.open()
    assert first.lives(second.runner)
    assert second.lives(second.runner)
    second.close()
    assert not first.lives(second.runner)
    assert not first.lives("never-was")
    first.close()
