"""A command from a repository to its outcome, and every way in which it may fail."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from docker import DockerClient
from qslice.faults import SystemFault, UserFault
from qslice.messages.result import MAX_OUTPUT
from qslice.worker.handler import TimedOut

from tests.integration.runner.conftest import Lab, Runner, containers_of
from tests.support.git import bare_repository
from tests.support.runs import RecordedJob
from tests.support.wait import wait_for_async


async def no_container_left(client: DockerClient, lab: Lab, job_id: str) -> None:
    await wait_for_async(
        lambda: not containers_of(client, lab, **{"qslice.job": job_id}),
        what="no container of the job left",
    )


async def test_a_command_gives_its_output_its_result_and_what_it_was_made_from(
    runner: Runner, lab: Lab, docker_client: DockerClient
) -> None:
    script = 'echo out; echo err >&2; echo "{\\"qber\\": 0.02}" > /output/result.json'
    job = runner.job("sh", "-c", script)
    outcome = await runner.handler.run(job)
    assert (outcome.stdout, outcome.stderr, outcome.exit_code) == ("out\n", "err\n", 0)
    assert outcome.result == {"qber": 0.02}
    assert outcome.commit is not None
    assert len(outcome.commit) == 40
    assert outcome.image is not None
    assert outcome.image.startswith("qslice-run:")
    assert job.logs["stdout"] == "out\n"
    assert job.logs["stderr"] == "err\n"
    assert job.starts == [{"commit": outcome.commit, "image": outcome.image}]
    await no_container_left(docker_client, lab, job.id)


async def test_the_last_line_of_stdout_is_the_result_where_no_file_is(runner: Runner) -> None:
    assert (await runner.sh("echo text; echo '[1, 2.5]'")).result == [1, 2.5]


async def test_the_tps_form_gets_its_resultat(runner: Runner) -> None:
    tp = {"ID_projet": 1, "ID_tache": 2, "URL_git": runner.shell, "CMD": "echo ' 92 '"}
    task = runner.handler.read(orjson.dumps(tp))
    outcome = await runner.handler.run(RecordedJob(task.request))
    assert outcome.extra["Resultat"] == "92"


async def test_output_is_live_while_the_command_runs(runner: Runner) -> None:
    job = runner.job("sh", "-c", "echo first; while [ ! -e /tmp/never ]; do sleep 0.1; done")
    running = asyncio.create_task(runner.handler.run(job))
    await wait_for_async(lambda: job.logs.get("stdout") == "first\n", what="the first line")
    assert not running.done()
    running.cancel()
    await asyncio.wait((running,))


async def test_more_output_than_a_result_holds_keeps_its_end(runner: Runner) -> None:
    job = runner.job("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' a; echo end")
    outcome = await runner.handler.run(job)
    assert outcome.truncated
    assert len(outcome.stdout) == MAX_OUTPUT
    assert outcome.stdout.endswith("aend\n")
    assert len(job.logs["stdout"]) == 3_000_004


async def test_the_entrypoint_the_folder_and_the_environment_of_the_image_hold(
    runner: Runner, lab: Lab
) -> None:
    files = {
        "Dockerfile": "FROM debian:bookworm-slim\nENV FROM_IMAGE=1\nWORKDIR /work\n"
        'COPY entry.sh /\nRUN chmod 755 /entry.sh\nENTRYPOINT ["/entry.sh", "first"]\n',
        "entry.sh": '#!/bin/sh\necho "$@" in "$PWD" with $FROM_IMAGE $MINE $QSLICE_ATTEMPT\n',
    }
    repository = bare_repository(lab.git, "entrypoint", files)
    outcome = await runner.run("second", repository=repository, env={"MINE": "2"})
    assert outcome.stdout == "first second in /work with 1 2 1\n"


@pytest.mark.parametrize(
    ("command", "code", "exit_code"),
    [
        (["no-such-program"], "command_not_found", 127),
        (["/etc/passwd"], "command_not_found", 126),
        (["/no/such/file"], "command_not_found", 127),
        (["sh", "-c", "no-such-program"], "command_not_found", 127),
        (["sh", "-c", "exit 3"], "exit_code", 3),
        (["sh", "-c", "kill -SEGV $$"], "exit_code", 139),
    ],
)
async def test_a_command_that_ends_badly_has_a_code(
    runner: Runner, command: list[str], code: str, exit_code: int
) -> None:
    failed = await runner.fails(*command)
    assert failed.code == code
    assert failed.outcome.exit_code == exit_code
    assert failed.outcome.commit


async def test_a_failure_carries_output_and_the_last_lines(runner: Runner) -> None:
    failed = await runner.fails("sh", "-c", "echo partial; echo 'ValueError: loss' >&2; exit 1")
    assert "ValueError: loss" in failed.message
    assert failed.outcome.stdout == "partial\n"


async def test_too_much_memory_is_told_as_such(runner: Runner) -> None:
    failed = await runner.fails("sh", "-c", "tail /dev/zero", limits={"memory_mb": 32})
    assert failed.code == "out_of_memory"
    assert "32 MB" in failed.message


async def test_files_that_fill_the_memory_are_told_as_such(runner: Runner) -> None:
    script = "cat /dev/zero > /tmp/full"
    limits = {"memory_mb": 32, "disk_mb": 256}
    failed = await runner.fails("sh", "-c", script, limits=limits)
    assert failed.code == "out_of_memory"


async def test_the_smallest_memory_starts_or_says_that_it_is_too_small(runner: Runner) -> None:
    failed = await runner.fails("sh", "-c", "tail /dev/zero", limits={"memory_mb": 8})
    assert failed.code == "out_of_memory"


async def test_the_wall_time_ends_a_command_and_keeps_what_it_wrote(
    runner: Runner, lab: Lab, docker_client: DockerClient
) -> None:
    # The trap: a command that does not want to end.
    script = "trap '' TERM INT; echo begun; while true; do sleep 1; done"
    job = runner.job("sh", "-c", script, walltime_s=5)
    with pytest.raises(TimedOut) as late:
        await runner.handler.run(job)
    assert late.value.code == "walltime"
    assert late.value.outcome.stdout == "begun\n"
    await no_container_left(docker_client, lab, job.id)


async def test_a_command_that_writes_without_end_is_ended_too(runner: Runner) -> None:
    job = runner.job("sh", "-c", "yes", walltime_s=3)
    with pytest.raises(TimedOut) as late:
        await runner.handler.run(job)
    assert late.value.outcome.truncated


async def test_a_cancelled_command_is_killed_before_anybody_is_told(
    runner: Runner, lab: Lab, docker_client: DockerClient
) -> None:
    job = runner.job("sh", "-c", "trap '' TERM; echo begun; sleep 1000")
    running = asyncio.create_task(runner.handler.run(job))
    await wait_for_async(lambda: "stdout" in job.logs, what="the command begun")
    running.cancel()
    await asyncio.wait((running,))
    assert containers_of(docker_client, lab, **{"qslice.job": job.id}) == []
    failed = running.exception()
    assert isinstance(failed, UserFault)
    assert failed.code == "cancelled"


async def test_a_job_cancelled_at_any_moment_leaves_no_container(
    runner: Runner, lab: Lab, docker_client: DockerClient
) -> None:
    await runner.run("true")
    for delay in (0.0, 0.01, 0.05, 0.1, 0.2, 0.4):
        job = runner.job("sleep", "1000")
        running = asyncio.create_task(runner.handler.run(job))
        await asyncio.sleep(delay)
        running.cancel()
        await asyncio.wait((running,))
        assert containers_of(docker_client, lab, **{"qslice.job": job.id}) == []


async def test_a_container_killed_from_outside_is_our_fault_not_the_users(
    runner: Runner, lab: Lab, docker_client: DockerClient
) -> None:
    job = runner.job("sleep", "1000")
    running = asyncio.create_task(runner.handler.run(job))
    await asyncio.wait_for(job.begun.wait(), 60)
    for container in containers_of(docker_client, lab, **{"qslice.job": job.id}):
        container.kill()
    with pytest.raises(SystemFault, match="from outside"):
        await running


@pytest.mark.parametrize(
    "script",
    [
        "ln -s /etc/hostname /output/result.json",
        "mkdir /output/result.json",
        "mkfifo /output/result.json",
    ],
)
async def test_a_result_that_is_no_plain_file_is_passed_over(runner: Runner, script: str) -> None:
    job = runner.job("sh", "-c", f"{script}; echo 7")
    outcome = await runner.handler.run(job)
    assert outcome.result == 7
    assert "no plain file" in job.logs["system"]


async def test_a_result_that_is_no_json_is_told(runner: Runner) -> None:
    job = runner.job("sh", "-c", "echo '{' > /output/result.json")
    outcome = await runner.handler.run(job)
    assert outcome.result is None
    assert "not JSON" in job.logs["system"]


async def test_a_result_that_is_too_large_fails_the_job(runner: Runner) -> None:
    failed = await runner.fails("sh", "-c", "head -c 1048577 /dev/zero > /output/result.json")
    assert failed.code == "limits_exceeded"
    assert "result.json" in failed.message


async def test_the_largest_result_arrives_whole(runner: Runner) -> None:
    script = "printf '\"%s\"' $(head -c 1048574 /dev/zero | tr '\\0' x) > /output/result.json"
    outcome = await runner.sh(script)
    assert outcome.result == "x" * 1048574


async def test_what_a_command_leaves_running_ends_with_it(runner: Runner) -> None:
    outcome = await runner.sh("(sleep 1000; echo late) & echo done")
    assert outcome.stdout == "done\n"


async def test_more_than_the_runner_gives_is_refused_before_anything_is_fetched(
    lab: Lab,
) -> None:
    runner = await lab.runner(max_memory_mb=64)
    nowhere = f"{lab.git.as_uri()}/nowhere"
    with pytest.raises(UserFault, match=r"limits\.memory_mb") as refused:
        await runner.run("true", repository=nowhere, limits={"memory_mb": 65})
    assert refused.value.code == "limits_exceeded"
    asked = {"memory_mb": 64, "network": True}
    with pytest.raises(UserFault) as refused:
        await runner.run("true", repository=nowhere, limits=asked)
    assert refused.value.code == "network_forbidden"
