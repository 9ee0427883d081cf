"""The native parts: up and down from any state, and never touching what is not theirs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pika
import psycopg
import pytest
from docker.errors import NotFound
from qslice_native.docker_engine import DockerEngine, connect
from qslice_native.instance import Instance, instance
from qslice_native.places import Places
from qslice_native.postgres import PostgreSQL
from qslice_native.processes import find_processes
from qslice_native.rabbitmq import RabbitMQ
from qslice_native.say import NativeError
from qslice_native.settings import LOOPBACK, InstanceSettings

from tests.support.platform import Platform
from tests.support.wait import wait_for


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    one = Places(tmp_path, "tests")
    one.prepare()
    yield one
    Instance(one, with_docker=False).remove()


@pytest.fixture
def shared(platform: Platform) -> Instance:
    """The instance that all tests share: to look at, not to stop."""
    return instance("tests")


@pytest.fixture
def postgres(places: Places) -> PostgreSQL:
    one = PostgreSQL(places, InstanceSettings(places.settings_file), durable=False)
    one.up()
    return one


def _put_message(amqp_url: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("kept", durable=True, arguments={"x-queue-type": "quorum"})
        channel.basic_publish("", "kept", b"hello", pika.BasicProperties(delivery_mode=2))


def _get_message(amqp_url: str) -> bytes | None:
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        body = connection.channel().basic_get("kept", auto_ack=True)[2]
        return bytes(body) if body is not None else None


def _query(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def _pids(instance: Instance) -> tuple[int | None, int | None]:
    return instance.rabbitmq.pid, instance.postgres.pid


def test_a_second_up_finds_the_running_parts_and_starts_nothing(
    shared: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    before, state = _pids(shared), shared.describe()
    assert None not in before
    assert shared.up() == state
    assert _pids(shared) == before
    assert capsys.readouterr().out.count("running on port") == 2
    assert json.loads(shared.places.state_file.read_text()) == state
    assert shared.places.state_file.stat().st_mode & 0o077 == 0


def test_after_kill_9_of_everything_up_brings_back_messages_and_rows(
    own_instance: Instance,
) -> None:
    platform, before = Platform.of(own_instance), _pids(own_instance)
    _put_message(platform.amqp_url)
    _query(platform.postgres_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    # RabbitMQ 3.10 writes the name of a new quorum queue up to a second after it was declared.
    names = next((own_instance.places.data / "rabbitmq").rglob("names.dets"))
    wait_for(lambda: b"kept" in names.read_bytes(), what="the queue's name on disk")
    own_instance.rabbitmq.kill()
    own_instance.postgres.kill()
    assert own_instance.status() == {"RabbitMQ": False, "PostgreSQL": False}

    own_instance.up()

    assert not set(_pids(own_instance)) & set(before)
    assert Platform.of(own_instance) == platform
    assert _get_message(platform.amqp_url) == b"hello"
    assert _query(platform.postgres_url, "SELECT answer FROM kept") == [(42,)]


def test_up_ends_what_outlived_a_killed_parent(own_instance: Instance) -> None:
    places = own_instance.places
    for pid in _pids(own_instance):
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    own_instance.up()
    nodes = [
        process
        for process in find_processes(f"{places.mark}/rabbitmq", "rabbitmq")
        if "beam" in Path(f"/proc/{process.pid}/comm").read_text()
    ]
    assert len(nodes) == 1
    assert all(own_instance.status().values())


def test_lost_state_files_are_made_anew_and_passwords_are_set_again(
    own_instance: Instance,
) -> None:
    places, old = own_instance.places, Platform.of(own_instance)
    places.settings_file.write_text("{half")
    places.state_file.unlink()
    shutil.rmtree(places.processes)
    own_instance.up()
    new = Platform.of(own_instance)
    assert new.postgres_url != old.postgres_url
    assert _query(new.postgres_url, "SELECT 1") == [(1,)]
    _put_message(new.amqp_url)
    with pytest.raises((psycopg.OperationalError, pika.exceptions.AMQPError, OSError)):
        _query(old.postgres_url, "SELECT 1")


def test_everything_listens_on_loopback_only(shared: Instance) -> None:
    places = shared.places
    pids = {
        process.pid
        for part, user in (("rabbitmq", "rabbitmq"), ("epmd", "rabbitmq"), ("postgres", "postgres"))
        for process in find_processes(f"{places.mark}/{part}", user)
    }
    listening = subprocess.run(
        ["ss", "-Hltnp"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    ours = [line for line in listening if any(f"pid={pid}," in line for pid in pids)]
    addresses = {line.split()[3].rpartition(":")[0] for line in ours}
    # AMQP, management, Prometheus, distribution, epmd, PostgreSQL.
    assert len(ours) >= 6
    assert addresses <= {"127.0.0.1", "[::1]"}


def test_down_stops_only_its_own_and_removes_throwaway_data(
    own_instance: Instance, platform: Platform
) -> None:
    places, pids = own_instance.places, _pids(own_instance)
    own_instance.down()
    own_instance.down()
    assert own_instance.status() == {"RabbitMQ": False, "PostgreSQL": False}
    assert not [pid for pid in pids if pid and Path(f"/proc/{pid}/cwd").exists()]
    assert not places.state_file.exists()
    assert not (places.data / "rabbitmq").exists()
    # The shared parts run as other instances of the same user accounts, and are still there.
    assert _query(platform.postgres_url, "SELECT 1") == [(1,)]
    with pika.BlockingConnection(pika.URLParameters(platform.amqp_url)):
        pass


def test_a_database_directory_that_a_crash_left_half_made_is_made_again(places: Places) -> None:
    postgres = PostgreSQL(places, InstanceSettings(places.settings_file), durable=False)
    for half in ("data.new", "data"):
        directory = places.data / "postgres" / half / "base"
        directory.mkdir(parents=True)
        (directory / "rubbish").write_text("x")
    postgres.up()
    assert _query(postgres.url, "SELECT 1") == [(1,)]


def test_a_stale_lock_with_the_pid_of_a_stranger_does_not_stop_postgresql(
    places: Places, postgres: PostgreSQL
) -> None:
    lock = places.data / "postgres" / "data" / "postmaster.pid"
    content = lock.read_text()
    postgres.kill()
    with subprocess.Popen(["sleep", "1000"], user="postgres") as stranger:
        lock.write_text("\n".join([str(stranger.pid), *content.splitlines()[1:]]) + "\n")
        postgres.up()
        assert postgres.pid != stranger.pid
        assert stranger.poll() is None
        stranger.kill()
    assert _query(postgres.url, "SELECT 1") == [(1,)]


def test_a_port_that_a_stranger_took_meanwhile_is_replaced(postgres: PostgreSQL) -> None:
    port = postgres.port
    postgres.down()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind((LOOPBACK, port))
        stranger.listen()
        postgres.up()
    assert postgres.port != port
    assert _query(postgres.url, "SELECT 1") == [(1,)]


def test_a_part_that_cannot_start_says_so_and_names_its_log(
    places: Places, postgres: PostgreSQL
) -> None:
    postgres.down()
    (places.data / "postgres" / "data" / "global" / "pg_control").unlink()
    with pytest.raises(NativeError, match="PostgreSQL ended while it was starting") as caught:
        postgres.up()
    assert str(places.logs / "postgres.log") in str(caught.value)
    assert "pg_control" in str(caught.value)


def test_the_guest_user_of_rabbitmq_does_not_exist(shared: Instance) -> None:
    rabbitmq: RabbitMQ = shared.rabbitmq
    parameters = pika.ConnectionParameters(
        LOOPBACK, rabbitmq.ports.amqp, credentials=pika.PlainCredentials("guest", "guest")
    )
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(parameters)


def test_passwords_are_in_no_log_and_no_command_line(shared: Instance) -> None:
    settings = json.loads(shared.places.settings_file.read_text())
    passwords = [value for value in settings.values() if isinstance(value, str)]
    assert len(passwords) == 2
    logs = "".join(path.read_text() for path in shared.places.logs.iterdir())
    commands = subprocess.run(
        ["ps", "-eo", "args", "ww"], capture_output=True, text=True, check=True
    ).stdout
    assert not [word for word in passwords if word in logs or word in commands]


@pytest.fixture
def engine(places: Places) -> Iterator[DockerEngine]:
    """A second engine beside the machine's, with directories and a network of its own.

    Without the latter its `--bridge=none` would delete the machine's docker0.
    """
    home = places.data / "engine"
    one = DockerEngine(
        places,
        home=home,
        host=f"unix://{home}/docker.sock",
        exec_root=home / "exec",
        pid_file=home / "docker.pid",
        options=(
            f"--data-root={home}/data",
            "--bridge=none",
            "--ip6tables=false",
            "--ip-forward=false",
            "--iptables=false",
        ),
        through=("unshare", "--net"),
    )
    yield one
    one.down()
    # An engine mounts its data directory on itself, and a killed one leaves it so.
    while subprocess.run(["umount", "-ql", f"{home}/data"], check=False).returncode == 0:
        pass


def _interfaces() -> set[str]:
    return {name for _, name in socket.if_nameindex() if name.startswith("docker")}


def test_an_engine_is_started_used_again_and_started_anew_after_kill_9(
    engine: DockerEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    bridges = _interfaces()
    engine.up()
    assert _interfaces() == bridges
    assert engine.is_ours
    engine.up()
    assert "uses the engine that runs (ours)" in capsys.readouterr().out
    pid = int(engine.pid_file.read_text())
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not engine.is_ready(), what="end of the engine")
    # The pid file that it left names a process that is no engine.
    engine.pid_file.write_text(str(os.getpid()))
    engine.up()
    assert engine.is_ready()


def test_an_engine_stops_with_the_last_checkout_that_uses_it(
    engine: DockerEngine, tmp_path: Path
) -> None:
    other_checkout = tmp_path / "other"
    other_checkout.mkdir()
    other = DockerEngine(
        Places(other_checkout, "tests"), engine.home, engine.host, engine.exec_root
    )
    engine.up()
    other.up()
    engine.down()
    assert engine.is_ready()
    other.down()
    assert not engine.is_ready()


def test_down_leaves_an_engine_that_it_did_not_start_and_removes_its_own_containers_only(
    platform: Platform, places: Places
) -> None:
    engine = DockerEngine(places, home=places.data / "engine", host=platform.docker_host)
    client = connect(platform.docker_host)
    ours, theirs = (
        client.containers.create("debian:bookworm-slim", ["true"], labels=labels)
        for labels in ({"qslice.checkout": places.mark}, platform.docker_label)
    )
    try:
        engine.up()
        assert not engine.is_ours
        engine.down()
        assert engine.is_ready()
        with pytest.raises(NotFound):
            client.containers.get(str(ours.id))
        assert client.containers.get(str(theirs.id))
    finally:
        theirs.remove(force=True)
        client.close()
