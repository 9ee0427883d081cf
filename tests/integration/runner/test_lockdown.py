"""What a stranger's command finds when it tries more than to compute."""

from __future__ import annotations

import docker
import pytest

from tests.integration.runner.conftest import DOCKERFILE, Lab, Runner
from tests.support.git import bare_repository

MB = 1024 * 1024


async def test_a_command_has_no_capability_and_gains_none(runner: Runner) -> None:
    outcome = await runner.sh("grep -E '^(Cap|NoNewPrivs|Seccomp|Uid|Gid)' /proc/self/status")
    status = dict(line.split(":", 1) for line in outcome.stdout.splitlines())
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert set(status["Uid"].split()) == {"65534"}
    assert set(status["Gid"].split()) == {"65534"}


@pytest.mark.parametrize("user", ["root", "0:0", "toor"])
async def test_an_image_that_wants_root_runs_as_nobody(runner: Runner, lab: Lab, user: str) -> None:
    dockerfile = "FROM debian:bookworm-slim\nRUN echo 'toor:x:0:0::/:/bin/sh' >> /etc/passwd\n"
    name = f"root-{user.replace(':', '-')}"
    files = {"Dockerfile": f"{dockerfile}USER {user}\n"}
    repository = bare_repository(lab.git, name, files)
    assert (await runner.run("id", "-u", repository=repository)).stdout == "65534\n"


async def test_an_image_with_a_user_of_its_own_keeps_it(runner: Runner, lab: Lab) -> None:
    files = {"Dockerfile": f"{DOCKERFILE}RUN useradd -u 4321 app\nUSER app\n"}
    repository = bare_repository(lab.git, "user-app", files)
    assert (await runner.run("id", "-u", repository=repository)).stdout == "4321\n"


async def test_a_user_that_the_image_does_not_have_is_the_dockerfiles_fault(
    runner: Runner, lab: Lab
) -> None:
    files = {"Dockerfile": f"{DOCKERFILE}USER nobody-knows\n"}
    repository = bare_repository(lab.git, "user-none", files)
    failed = await runner.fails("true", repository=repository)
    assert failed.code == "build_failed"
    assert "nobody-knows" in failed.message


async def test_nothing_can_be_written_but_output_and_tmp(runner: Runner) -> None:
    script = """
    for folder in / /etc /home /root /usr /var /var/tmp /run /opt /dev /sys /proc/sys /.qslice
    do (echo x > $folder/probe) 2>/dev/null && echo "wrote to $folder"
    done
    for folder in /output /tmp /dev/shm
    do (echo x > $folder/probe) || echo "cannot write to $folder"
    done
    find / -xdev -writable ! -type l ! -path '/proc/*' 2>/dev/null | sort
    """
    assert (await runner.sh(script)).stdout == "/output\n/tmp\n"


async def test_the_room_in_output_and_in_tmp_is_bounded(runner: Runner) -> None:
    script = """
    for folder in /output /tmp /dev/shm; do
        head -c 9000000 /dev/zero > $folder/full 2>/dev/null
        stat -c %s $folder/full
    done
    """
    outcome = await runner.sh(script, limits={"disk_mb": 2})
    sizes = [int(line) for line in outcome.stdout.split()]
    assert len(sizes) == 3
    assert all(MB < size <= 2 * MB for size in sizes)


async def test_the_number_of_files_is_bounded(runner: Runner) -> None:
    script = "cd /tmp; i=0; while mkdir $i 2>/dev/null; do i=$((i+1)); done; echo $i"
    outcome = await runner.sh(script, limits={"disk_mb": 1})
    assert 0 < int(outcome.stdout) <= 256


async def test_a_volume_of_the_image_can_be_read_but_not_filled(runner: Runner, lab: Lab) -> None:
    dockerfile = f"{DOCKERFILE}RUN mkdir /data /output && echo kept > /data/file\n"
    dockerfile += "RUN chmod 777 /data && echo hidden > /output/file\n"
    files = {"Dockerfile": f'{dockerfile}VOLUME ["/data", "/output", "/tmp"]\n'}
    repository = bare_repository(lab.git, "volume", files)
    script = "cat /data/file; echo x > /data/new; echo '[]' > /output/result.json; ls /output /tmp"
    outcome = await runner.sh(script, repository=repository)
    assert outcome.stdout == "kept\n/output:\nresult.json\n\n/tmp:\n"
    assert "Read-only file system" in outcome.stderr
    assert outcome.result == []
    full = "head -c 9000000 /dev/zero > /output/full; stat -c %s /output/full"
    outcome = await runner.sh(full, repository=repository, limits={"disk_mb": 2})
    assert int(outcome.stdout) == 2 * MB


async def test_the_modes_of_the_images_folders_do_not_matter(runner: Runner, lab: Lab) -> None:
    dockerfile = f"{DOCKERFILE}RUN mkdir -m 700 /output && echo x > /output/x && chmod 755 /tmp\n"
    repository = bare_repository(lab.git, "modes", {"Dockerfile": dockerfile})
    script = "ls -A /output /tmp; echo 1 > /output/result.json && echo 2 > /tmp/x"
    for _ in range(2):
        outcome = await runner.sh(script, repository=repository)
        assert outcome.stdout == "/output:\n\n/tmp:\n"
        assert outcome.result == 1


@pytest.mark.parametrize("instruction", ["VOLUME /proc/x", "WORKDIR /etc/passwd"])
async def test_an_image_that_cannot_be_started_is_the_dockerfiles_fault(
    runner: Runner, lab: Lab, instruction: str
) -> None:
    files = {"Dockerfile": f"{DOCKERFILE}{instruction}\n"}
    repository = bare_repository(lab.git, f"odd-{instruction.split()[0].lower()}", files)
    failed = await runner.fails("true", repository=repository)
    assert failed.code == "build_failed"


async def test_there_is_no_network_at_all(runner: Runner) -> None:
    outcome = await runner.sh("cat /proc/net/route; ls /sys/class/net")
    assert [line for line in outcome.stdout.splitlines() if not line.startswith("Iface")] == ["lo"]


async def test_a_network_is_there_where_it_is_asked_for_and_allowed(own_lab: Lab) -> None:
    name = f"qslice-test-{own_lab.state.parent.name}"[:60]
    runner = await own_lab.runner(allow_network=True, run_network=name)
    try:
        assert "eth0" in (await runner.sh("ls /sys/class/net", limits={"network": True})).stdout
        assert "eth0" not in (await runner.sh("ls /sys/class/net")).stdout
    finally:
        await own_lab.stop()
        remove_network(own_lab, name)


def remove_network(lab: Lab, name: str) -> None:
    client = docker.DockerClient(lab.base["docker_host"])
    client.networks.get(name).remove()
    client.close()


async def test_a_fork_bomb_stays_in_its_container(runner: Runner) -> None:
    script = "bomb() { bomb | bomb & }; bomb; sleep 1; echo over"
    outcome = await runner.sh(script, limits={"pids": 16}, walltime_s=120)
    assert "fork" in outcome.stderr.lower()


async def test_processes_of_others_cannot_be_seen_or_killed(runner: Runner) -> None:
    # The shell itself and what it starts, and the first process, which cannot be killed.
    outcome = await runner.sh("kill -9 1; kill -9 -1; ls -d /proc/[0-9]* | wc -l")
    assert int(outcome.stdout) <= 5


async def test_the_first_process_cannot_be_looked_into(runner: Runner) -> None:
    script = "for file in mem environ fd/0 maps; do cat /proc/1/$file && echo open; done"
    failed = await runner.fails("sh", "-c", script)
    assert failed.outcome.stdout == ""


async def test_no_secret_of_the_runner_is_in_the_environment(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QSLICE_AMQP_URL", "amqp://user:hunter2@host")
    outcome = await runner.sh("env")
    names = {line.partition("=")[0] for line in outcome.stdout.splitlines()}
    assert names - {"LANG"} == {
        "HOME", "HOSTNAME", "PATH", "PWD", "PYTHONUNBUFFERED", "QSLICE_ATTEMPT", "QSLICE_COMMIT",
        "QSLICE_JOB_ID", "QSLICE_OUTPUT", "QSLICE_PROJECT",
    }  # fmt: skip


async def test_the_cpu_is_bounded(runner: Runner) -> None:
    script = "cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us"
    outcome = await runner.sh(script, limits={"cpus": 0.5})
    assert outcome.stdout.split()[0] == "50000"
