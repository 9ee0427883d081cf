"""A TCP proxy in the test's own process that cuts connections and loses answers on demand."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from qslice_native.settings import LOOPBACK


class TcpProxy:
    """Passes bytes between clients and one server.

    >>> with TcpProxy("127.0.0.1", 5672) as proxy:                          # doctest: +SKIP
    ...     connect(proxy.host, proxy.port)
    ...     proxy.cut()
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._losses = 0
        self._stopping = False
        #: Connections that clients made so far, and those whose answer was lost.
        self.accepted = 0
        self.lost = 0
        #: While set, clients are cut at once.
        self.refusing = False
        self._words: bytes | None = None
        #: Whether what clients say is thrown away, and how many bytes were.
        self.muted = False
        self.unheard = 0
        self._listener = socket.create_server((LOOPBACK, 0))
        self.host, self.port = self._listener.getsockname()[:2]

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping = True
        # Closing alone does not wake a thread that waits in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in list(self._threads):
            thread.join(30)

    def cut(self) -> None:
        """Break every connection there is."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _close(*pair)

    def lose_answers(self, count: int) -> None:
        """The next `count` times that the server answers, cut the connection instead."""
        with self._lock:
            self._losses = count

    def mute_after(self, words: bytes) -> None:
        """Once the server said `words`, clients hear it, but nothing of theirs arrives any more."""
        with self._lock:
            self._words = words

    def _accept(self) -> None:
        while not self._stopping:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.refusing or self._stopping:
                _close(client)
                continue
            try:
                server = socket.create_connection(self._target, timeout=30)
            except OSError:
                _close(client)
                continue
            server.settimeout(None)
            with self._lock:
                self._pairs.append((client, server))
            self._start(self._pass_on, client, server, False)
            self._start(self._pass_on, server, client, True)

    def _pass_on(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        before = b""
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if answers:
                    if self._loses():
                        break
                    # The words may come in two pieces.
                    self._listen(before + data)
                    before = data[-200:]
                elif self.muted:
                    self.unheard += len(data)
                    continue
                sink.sendall(data)
        _close(source, sink)

    def _listen(self, data: bytes) -> None:
        with self._lock:
            if self._words is not None and self._words in data:
                self.muted = True

    def _loses(self) -> bool:
        with self._lock:
            if not self._losses:
                return False
            self._losses -= 1
            self.lost += 1
            return True

    def _start(self, function: object, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        # Wakes the thread that waits in recv() on it.
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
