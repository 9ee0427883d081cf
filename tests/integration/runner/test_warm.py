"""Warm containers: the tasks of one batch share one, and find nothing of each other in it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from docker import DockerClient
from qslice.worker.handler import Outcome, TimedOut

from tests.integration.runner.conftest import Lab, Runner, containers_of
from tests.support.git import bare_repository
from tests.support.wait import wait_for_async


async def warm(runner: Runner, script: str, batch: str = "batch_1", **given: Any) -> Outcome:
    return await runner.sh(script, batch=batch, isolation="batch", **given)


@pytest.fixture
async def runner(own_lab: Lab) -> Runner:
    """One with containers of its own, to be counted."""
    return await own_lab.runner(warm_idle_s=300)


async def test_the_tasks_of_a_batch_share_a_container(
    runner: Runner, own_lab: Lab, docker_client: DockerClient
) -> None:
    hosts = {(await warm(runner, "hostname")).stdout for _ in range(5)}
    assert len(hosts) == 1
    assert len(containers_of(docker_client, own_lab, **{"qslice.batch": "batch_1"})) == 1
    other = await warm(runner, "hostname", batch="batch_2")
    fewer = await warm(runner, "hostname", limits={"memory_mb": 64})
    alone = await runner.sh("hostname", batch="batch_1")
    assert len({*hosts, other.stdout, fewer.stdout, alone.stdout}) == 4


async def test_tasks_of_another_project_never_share_it(runner: Runner) -> None:
    first = await warm(runner, "hostname", job={"project": "alice"})
    second = await warm(runner, "hostname", job={"project": "bob"})
    assert first.stdout != second.stdout


async def test_files_of_one_task_are_gone_for_the_next(runner: Runner) -> None:
    leave = """
    hostname
    for folder in /tmp /output /dev/shm; do
        mkdir -p $folder/a/b/c $folder/locked/inner
        echo secret > $folder/a/b/c/file
        echo secret > $folder/.hidden
        echo secret > "$folder/$(printf 'odd\\nname')"
        ln -s / $folder/root
        ln $folder/.hidden $folder/hard
        mkfifo $folder/fifo
        chmod 000 $folder/locked/inner $folder/locked $folder/.hidden
    done
    echo '[1]' > /output/result.json
    """
    look = "hostname; find /tmp /output /dev/shm /dev/mqueue -mindepth 1; ls -ld /tmp /output"
    first = await warm(runner, leave)
    assert first.result == [1]
    second = await warm(runner, look)
    lines = second.stdout.splitlines()
    assert lines[0] == first.stdout.strip(), "the same container"
    assert len(lines) == 3
    assert all(line.startswith("drwxrwxrwt") for line in lines[1:])
    assert second.result is None


async def test_processes_of_one_task_are_gone_for_the_next(runner: Runner) -> None:
    leave = """
    hostname
    (trap '' TERM HUP; while true; do sleep 0.1; done) &
    setsid sh -c 'sleep 1000 & exec sleep 1000' > /dev/null 2>&1 < /dev/null &
    """
    first = await warm(runner, leave)
    second = await warm(runner, "hostname; cat /proc/[0-9]*/comm")
    host, *names = second.stdout.splitlines()
    assert host == first.stdout.strip()
    assert set(names) - {"cat"} == {"init", "sh"}


async def test_shared_memory_and_queues_of_one_task_are_gone_for_the_next(
    own_lab: Lab, runner: Runner
) -> None:
    python = {"Dockerfile": "FROM python:3.11-slim\n"}
    repository = bare_repository(own_lab.git, "python", python)
    leave = """
import ctypes, socket
libc = ctypes.CDLL(None)
print(socket.gethostname())
assert libc.shmget(7, 4096, 0o1666) >= 0
assert libc.semget(7, 1, 0o1666) >= 0
assert libc.msgget(7, 0o1666) >= 0
assert libc.mq_open(b"/queue", 0o102, 0o666, None) >= 0
"""
    look = """
import os, socket
print(socket.gethostname())
print(sum(len(open(f"/proc/sysvipc/{kind}").readlines()) - 1 for kind in ("shm", "sem", "msg")))
print(os.listdir("/dev/mqueue"))
"""
    given: dict[str, Any] = {
        "repository": repository, "isolation": "batch", "batch": "batch_1"
    }  # fmt: skip
    first = await runner.run("python", "-c", leave, **given)
    second = await runner.run("python", "-c", look, **given)
    assert second.stdout == f"{first.stdout}0\n[]\n"


async def test_the_environment_of_one_task_is_not_the_nexts(runner: Runner) -> None:
    first = await warm(runner, "hostname; echo $ONLY_MINE", env={"ONLY_MINE": "1"})
    second = await warm(runner, "hostname; echo $ONLY_MINE$QSLICE_JOB_ID")
    assert first.stdout.splitlines()[1] == "1"
    assert second.stdout.splitlines()[0] == first.stdout.splitlines()[0]
    assert second.stdout.splitlines()[1].startswith("job_")


async def test_a_stream_that_one_task_made_non_blocking_works_for_the_next(
    own_lab: Lab, runner: Runner
) -> None:
    repository = bare_repository(own_lab.git, "pipe", {"Dockerfile": "FROM python:3.11-slim\n"})
    given: dict[str, Any] = {"repository": repository, "isolation": "batch", "batch": "batch_1"}
    await runner.run("python", "-c", "import os; os.set_blocking(1, False)", **given)
    script = "import os; print(os.get_blocking(1)); print('x' * 1_000_000)"
    assert (await runner.run("python", "-c", script, **given)).stdout.endswith("x\n")


async def test_a_task_that_fails_leaves_the_container_to_the_next(runner: Runner) -> None:
    asked: dict[str, Any] = {"batch": "batch_1", "isolation": "batch"}
    first = await runner.fails("sh", "-c", "hostname; exit 3", **asked)
    assert first.code == "exit_code"
    missing = await runner.fails("no-such-program", **asked)
    assert missing.code == "command_not_found"
    assert (await warm(runner, "hostname")).stdout == first.outcome.stdout


async def test_too_much_memory_is_told_for_the_task_that_used_it_only(runner: Runner) -> None:
    limits = {"memory_mb": 32}
    failed = await runner.fails(
        "sh", "-c", "tail /dev/zero", batch="batch_1", isolation="batch", limits=limits
    )
    assert failed.code == "out_of_memory"
    after = await runner.fails(
        "sh", "-c", "exit 5", batch="batch_1", isolation="batch", limits=limits
    )
    assert after.code == "exit_code"


async def test_one_task_may_fill_its_folders_and_the_next_has_all_the_room(
    runner: Runner,
) -> None:
    script = "head -c 9000000 /dev/zero > /tmp/full 2>/dev/null; hostname; stat -c %s /tmp/full"
    outcomes = [await warm(runner, script, limits={"disk_mb": 2}) for _ in range(2)]
    assert outcomes[0].stdout == outcomes[1].stdout


async def test_the_wall_time_of_a_task_ends_its_container_and_the_batch_goes_on(
    runner: Runner,
) -> None:
    first = await warm(runner, "hostname")
    with pytest.raises(TimedOut):
        await warm(runner, "sleep 1000", walltime_s=1)
    second = await warm(runner, "hostname")
    assert first.stdout != second.stdout


async def test_a_cancelled_task_is_killed_with_its_container(
    runner: Runner, own_lab: Lab, docker_client: DockerClient
) -> None:
    job = runner.job("sh", "-c", "echo on; sleep 1000", batch="batch_1", isolation="batch")
    running = asyncio.create_task(runner.handler.run(job))
    await wait_for_async(lambda: "stdout" in job.logs, what="the command begun")
    running.cancel()
    await asyncio.wait((running,))
    assert containers_of(docker_client, own_lab) == []
    assert (await warm(runner, "echo on")).stdout == "on\n"


async def test_a_container_that_died_while_it_waited_is_not_used(
    runner: Runner, own_lab: Lab, docker_client: DockerClient
) -> None:
    await warm(runner, "true")
    for container in containers_of(docker_client, own_lab):
        container.kill()
    await asyncio.sleep(0)  # what the engine closed is read by the loop
    outcomes = []

    async def works() -> bool:
        try:
            outcomes.append(await warm(runner, "echo on"))
        except Exception:
            return False
        return True

    await wait_for_async(works, what="a task in a new container")
    assert outcomes[-1].stdout == "on\n"


async def test_an_idle_container_is_removed_after_its_time(
    own_lab: Lab, docker_client: DockerClient
) -> None:
    runner = await own_lab.runner(warm_idle_s=0.5)
    await warm(runner, "true")
    await wait_for_async(
        lambda: containers_of(docker_client, own_lab) == [], what="the idle container removed"
    )


async def test_a_runner_that_stops_takes_its_warm_containers_along(
    runner: Runner, own_lab: Lab, docker_client: DockerClient
) -> None:
    await warm(runner, "true")
    assert len(containers_of(docker_client, own_lab)) == 1
    await own_lab.stop()
    assert containers_of(docker_client, own_lab) == []


async def test_as_many_tasks_run_at_once_as_there_are_slots(runner: Runner) -> None:
    await warm(runner, "true")
    # Each waits for the other's sign, which it can only see by time: both must run at once.
    jobs = [
        runner.job("sh", "-c", "sleep 1; hostname", batch="batch_1", isolation="batch")
        for _ in range(2)
    ]
    outcomes = await asyncio.gather(*(runner.handler.run(job) for job in jobs))
    assert outcomes[0].stdout != outcomes[1].stdout
