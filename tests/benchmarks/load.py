"""A frugal HTTP load: a few keep-alive connections, each a thread, a fixed number of requests."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Load:
    seconds: float = 0.0
    #: Seconds of each request.
    delays: list[float] = field(default_factory=list)
    #: Answers other than 2xx, the first few.
    refused: list[bytes] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.delays) / self.seconds


def post_all(
    port: int,
    path: str,
    bodies: Callable[[int], Iterator[bytes]],
    connections: int,
    token: str = "",
) -> Load:
    """POST what `bodies(n)` yields on the n-th connection of 127.0.0.1; all start together."""
    load = Load()
    gate = threading.Barrier(connections + 1)
    lock = threading.Lock()

    def talk(number: int) -> None:
        texts = [_request(path, body, token) for body in bodies(number)]
        delays: list[float] = []
        refused: list[bytes] = []
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            gate.wait()
            for text in texts:
                begin = time.perf_counter()
                connection.sendall(text)
                answer = _answer(connection)
                delays.append(time.perf_counter() - begin)
                if not answer.startswith(b"HTTP/1.1 2"):
                    refused.append(answer[:500])
        with lock:
            load.delays += delays
            load.refused += refused[:3]

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    gate.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    load.seconds = time.perf_counter() - begin
    if load.refused:
        raise RuntimeError(f"{path} refused: {load.refused[0]!r}")
    return load


def _request(path: str, body: bytes, token: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    if token:
        head.append(f"Authorization: Bearer {token}")
    head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def _answer(connection: socket.socket) -> bytes:
    """One whole answer; it must tell its length."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        part = connection.recv(65536)
        if not part:
            raise RuntimeError(f"the connection ended after {seen!r}")
        seen += part
    head, _, rest = seen.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    while len(rest) < length:
        rest += connection.recv(65536)
    return seen
