"""The fixtures themselves: each test has its own vhost and database, and nothing is left."""

from __future__ import annotations

import pika
import psycopg
import pytest
from docker import DockerClient

from tests.support.platform import Platform, fresh_database, fresh_vhost
from tests.support.processes import ProcessStarter
from tests.support.wait import wait_for, wait_for_async


def test_a_queue_of_one_vhost_is_not_seen_in_another(platform: Platform, broker_url: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(broker_url)) as connection:
        connection.channel().queue_declare("mine", durable=True)
    with (
        fresh_vhost(platform) as other_url,
        pika.BlockingConnection(pika.URLParameters(other_url)) as connection,
        pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"),
    ):
        connection.channel().queue_declare("mine", passive=True)


def test_a_database_is_dropped_even_while_a_session_is_open(platform: Platform) -> None:
    with fresh_database(platform) as url:
        forgotten = psycopg.connect(url)
    with pytest.raises(psycopg.OperationalError):
        forgotten.execute("SELECT 1")
    forgotten.close()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


def test_an_empty_database_has_no_table_of_ours(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        tables = connection.execute("SELECT * FROM pg_tables WHERE schemaname = 'public'")
        assert tables.fetchall() == []


def test_the_base_images_are_there_and_have_python_and_pip(
    platform: Platform, docker_client: DockerClient
) -> None:
    assert docker_client.images.get("debian:bookworm-slim")
    command = ["sh", "-c", "python --version && python3 --version && pip --version"]
    output = docker_client.containers.run(
        "python:3.11-slim", command, remove=True, labels=platform.docker_label, network_mode="none"
    ).decode()
    assert output.count("Python 3.11") == 2
    assert "pip" in output


def test_a_process_that_ends_early_fails_the_test_with_its_log(
    start_process: ProcessStarter,
) -> None:
    with pytest.raises(AssertionError, match="the reason") as caught:
        start_process("python", "-c", "raise SystemExit('the reason')", ready=lambda: False)
    assert "ended (1)" in str(caught.value)


def test_killing_all_ends_the_children_too(start_process: ProcessStarter) -> None:
    process = start_process("sh", "-c", "sleep 1000 & echo child $!; wait")
    process.wait_for_log("child")
    child = int(process.read_log().split()[1])
    process.kill_all()
    wait_for(lambda: not _is_running(child), what="end of the child")
    assert process.exit_code == -9


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().split()[2] not in "ZX"
    except OSError:
        return False


def test_waiting_too_long_tells_the_last_value() -> None:
    with pytest.raises(AssertionError, match="waited 0 s for: three jobs; the last value was 0"):
        wait_for(lambda: 0, timeout=0, what="three jobs")


async def test_waiting_takes_coroutine_functions_and_ignores_what_it_is_told_to() -> None:
    answers = iter([ConnectionError("not yet"), None, "there"])

    async def ask() -> str | None:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await wait_for_async(ask, what="an answer", ignoring=(ConnectionError,)) == "there"
