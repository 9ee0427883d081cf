"""The gateway as a process: gunicorn, its threads, its streams, its end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.support.gateway import RUN, Tokens
from tests.support.processes import LOOPBACK, ProcessStarter, ServiceProcess, pick_free_port
from tests.support.wait import wait_for


class Served:
    """A gateway process and a client with alice's token."""

    def __init__(self, start: ProcessStarter, folder: Path, environment: dict[str, str]) -> None:
        self.tokens = Tokens(folder)
        self.port = pick_free_port()
        self.token = self.tokens.make("alice")
        self.process: ServiceProcess = start(
            "qslice-gateway",
            "serve",
            env={
                **environment,
                "QSLICE_LISTEN": f"{LOOPBACK}:{self.port}",
                "QSLICE_DEV_ISSUER_KEY": str(self.tokens.key_file),
            },
            ready=f"http://{LOOPBACK}:{self.port}/healthz",
        )
        self.client = self.connect()

    def connect(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"http://{LOOPBACK}:{self.port}",
            headers={"Authorization": f"Bearer {self.token}"},
            trust_env=False,
            timeout=60,
        )

    def submit(self) -> str:
        answer = self.client.post("/api/v1/projects/lab/jobs", json=RUN)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])


@pytest.fixture
def environment(database_url: str, broker_url: str) -> dict[str, str]:
    return {
        "QSLICE_DATABASE_URL": database_url,
        "QSLICE_AMQP_URL": broker_url,
        "QSLICE_WORKERS": "1",
        "QSLICE_THREADS": "2",
        "QSLICE_MAX_STREAMS": "3",
        "QSLICE_METRICS_TOKEN": "metrics-token-of-this-test",
    }


Serve = Callable[..., Served]


@pytest.fixture
def serve(
    start_process: ProcessStarter, tmp_path: Path, environment: dict[str, str]
) -> Iterator[Serve]:
    """Starts a gateway with these settings, with alice's project `lab`."""
    with ExitStack() as clients:

        def start(**settings: str) -> Served:
            found = Served(start_process, tmp_path, {**environment, **settings})
            clients.callback(found.client.close)
            made = found.client.post("/api/v1/projects", json={"name": "lab"})
            assert made.status_code == 201
            return found

        yield start


@pytest.fixture
def served(serve: Serve) -> Served:
    return serve()


def follow(served: Served, path: str, into: list[str]) -> threading.Thread:
    """Read a stream in a thread until it ends."""

    def read() -> None:
        headers = {"Accept": "text/event-stream"}
        with served.connect() as client, client.stream("GET", path, headers=headers) as answer:
            into.append(str(answer.status_code))
            into.extend(line for line in answer.iter_lines() if line)
        into.append("over")

    thread = threading.Thread(target=read)
    thread.start()
    return thread


def test_as_many_streams_as_allowed_leave_the_requests_their_threads(served: Served) -> None:
    path = f"/api/v1/jobs/{served.submit()}/logs"
    seen: list[list[str]] = [[] for _ in range(3)]
    threads = [follow(served, path, into) for into in seen]
    wait_for(lambda: all("retry: 2000" in into for into in seen), 60, "three streams")
    refused = served.client.get(path, headers={"Accept": "text/event-stream"})
    assert refused.status_code == 503
    assert refused.json()["code"] == "too_many_streams"
    for _ in range(20):
        served.submit()
    metrics = served.client.get(
        "/metrics", headers={"Authorization": "Bearer metrics-token-of-this-test"}
    ).text
    assert "qslice_gateway_streams 3.0" in metrics
    served.process.terminate()
    for thread in threads:
        thread.join(60)
    assert all(into[0] == "200" and into[-1] == "over" for into in seen)


def test_a_stream_whose_reader_hung_up_makes_room(served: Served, database_url: str) -> None:
    job = served.submit()
    path = f"/api/v1/jobs/{job}/logs"
    for _ in range(3):
        with served.connect() as client:
            headers = {"Accept": "text/event-stream"}
            with client.stream("GET", path, headers=headers) as answer:
                assert answer.status_code == 200

    def write_and_follow() -> bool:
        # It notices when it writes.
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                """INSERT INTO job_logs (job_id, attempt, seq, stream, at, text)
                   SELECT %s, 1, coalesce(max(seq), 0) + 1, 'stdout', now(), 'x' FROM job_logs""",
                [job],
            )
        with served.client.stream("GET", path, headers={"Accept": "text/event-stream"}) as answer:
            return answer.status_code == 200

    wait_for(write_and_follow, 60, "a place that is free again")


def test_asked_to_stop_it_ends_its_streams_and_itself_soon(served: Served) -> None:
    into: list[str] = []
    thread = follow(served, f"/api/v1/jobs/{served.submit()}/logs", into)
    wait_for(lambda: "retry: 2000" in into, 60, "the stream")
    assert served.process.terminate() == 0
    thread.join(60)
    assert into[-1] == "over"
    assert "event: end" not in into, "the reader must know that there may be more"
    assert "Traceback" not in served.process.read_log()


def test_its_log_holds_no_secret(served: Served, database_url: str, broker_url: str) -> None:
    served.client.get("/api/v1/projects", headers={"Authorization": "Bearer nonsense"})
    served.client.post("/api/v1/projects/lab/jobs", content=b"{")
    served.client.get(f"/api/v1/jobs/x?token={served.token}")
    served.submit()
    served.process.terminate()
    log = served.process.read_log()
    for secret in (
        served.token,
        httpx.URL(database_url).password,
        httpx.URL(broker_url).password,
        served.tokens.key_file.read_text().splitlines()[1],
        "metrics-token-of-this-test",
    ):
        assert secret not in log


def test_the_database_may_come_back_and_submits_go_on(served: Served, database_url: str) -> None:
    served.submit()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()"""
        )
    # Every connection is dead; nobody sees it.
    for _ in range(10):
        served.submit()
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT count(*) FROM jobs").fetchone()
    assert found == (11,)


def raw(port: int, text: bytes) -> bytes:
    with socket.create_connection((LOOPBACK, port), timeout=60) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        seen = b""
        while part := connection.recv(65536):
            seen += part
    return seen


@pytest.mark.parametrize(
    "head",
    [
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 1_0\r\n",
        b"Transfer-Encoding: xchunked\r\n",
    ],
)
def test_requests_that_two_servers_would_read_differently_are_refused(
    served: Served, head: bytes
) -> None:
    answer = raw(
        served.port,
        b"POST /api/v1/projects HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        + head
        + b"\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    assert b'"status":"ok"' not in answer
    assert answer.split(b" ")[1][:1] in (b"4", b"5")


def test_a_body_that_never_ends_is_cut_off_at_the_limit(serve: Serve) -> None:
    served = serve(QSLICE_MAX_BODY_BYTES="10000")

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    answer = served.client.post(
        "/api/v1/projects",
        content=endless(),
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_clients_that_stall_do_not_keep_the_threads(serve: Serve) -> None:
    served = serve(QSLICE_CLIENT_TIMEOUT_S="0.5")
    head = (
        "POST /api/v1/projects/lab/jobs HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {served.token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    ).encode()
    with ExitStack() as stalled:
        # More than it has threads, in the head and in the body.
        for text in [head, head[:20]] * 5:
            connection = socket.create_connection((LOOPBACK, served.port), timeout=60)
            stalled.callback(connection.close)
            connection.sendall(text)
        for _ in range(5):
            served.submit()


def test_settings_that_are_wrong_end_it_with_their_names(
    start_process: ProcessStarter, environment: dict[str, str]
) -> None:
    process = start_process(
        "qslice-gateway", "serve", env={**environment, "QSLICE_WORKERS": "none"}
    )
    assert process.wait() != 0
    assert "QSLICE_WORKERS" in process.read_log()


def test_two_processes_serve_side_by_side(serve: Serve) -> None:
    served = serve(QSLICE_WORKERS="2")
    found: set[str] = set()
    lock = threading.Lock()

    def submit() -> None:
        with served.connect() as client:
            for _ in range(10):
                answer: Any = client.post("/api/v1/projects/lab/jobs", json=RUN).json()
                with lock:
                    found.add(answer["job_id"])

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 60
    headers = {"Authorization": "Bearer metrics-token-of-this-test"}
    count = (
        'qslice_gateway_requests_total{route="POST /api/v1/projects/<project>/jobs",status="202"}'
    )
    # The counters of both processes, whichever answers.
    page = served.client.get("/metrics", headers=headers).text
    assert f"{count} 60.0" in page
