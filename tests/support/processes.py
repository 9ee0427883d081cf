"""Real service processes in tests: started, watched, killed, and all gone at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx
from qslice_native.settings import LOOPBACK, pick_free_port

from tests.support.wait import wait_for

__all__ = ["LOOPBACK", "ProcessStarter", "ServiceProcess", "pick_free_port"]

_LOG_TAIL = 8_000


class ServiceProcess:
    """One process, in a session of its own, with its output in a log file."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.command = list(command)
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    @property
    def is_running(self) -> bool:
        return self.exit_code is None

    def read_log(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for_log(self, text: str, timeout: float = 60) -> None:
        """Wait until `text` is in the log; fails at once where the process ends without it."""

        def is_there() -> bool:
            running = self.is_running
            if text in self.read_log():
                return True
            assert running, self._describe_end(f"without writing {text!r}")
            return False

        wait_for(is_there, timeout, f"{text!r} in the log of {self.command[0]}")

    def wait_until(self, is_ready: Callable[[], bool], timeout: float = 120) -> None:
        """Wait until `is_ready`; fails at once, with the log, where the process ends."""

        def ready() -> bool:
            assert self.is_running, self._describe_end("before it was ready")
            return is_ready()

        try:
            wait_for(ready, timeout, f"{self.command[0]} ready")
        except AssertionError as error:
            error.add_note(self.read_log()[-_LOG_TAIL:])
            raise

    def wait(self, timeout: float = 60) -> int:
        """Wait for its end; the exit code."""
        return self._process.wait(timeout)

    def terminate(self, timeout: float = 60) -> int:
        """Ask it to stop (SIGTERM) and wait; the exit code."""
        self._process.terminate()
        return self.wait(timeout)

    def kill(self) -> None:
        """kill -9 of this one process; what it started lives on."""
        self._process.kill()
        self._process.wait(30)

    def kill_all(self) -> None:
        """kill -9 of it and of all that it started in its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(30)

    def _describe_end(self, how: str) -> str:
        end = self.read_log()[-_LOG_TAIL:]
        return f"{' '.join(self.command)} ended ({self.exit_code}) {how}; its log:\n{end}"


class ProcessStarter:
    """Starts processes for one test; `stop_all` ends them and prints the ends of their logs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.started: list[ServiceProcess] = []

    def __call__(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        ready: str | Callable[[], bool] | None = None,
        timeout: float = 120,
    ) -> ServiceProcess:
        """Start a command of the virtual environment, e.g. `qslice-gateway serve`.

        `env` comes on top of this environment without its QSLICE_* settings. `ready` is a URL
        that answers 2xx, or a condition, to wait for.
        """
        name = f"{len(self.started)}-{Path(command[0]).name}.log"
        process = ServiceProcess(
            [_find(command[0]), *command[1:]], _environment(env or {}), self._directory / name
        )
        self.started.append(process)
        if ready is not None:
            url = ready if isinstance(ready, str) else None
            process.wait_until(
                ready if callable(ready) else lambda: answers(str(url)), timeout=timeout
            )
        return process

    def kill_all(self) -> None:
        """End all, with everything that they started."""
        for process in reversed(self.started):
            process.kill_all()

    def stop_all(self) -> None:
        """The same, and print the ends of their logs."""
        self.kill_all()
        for process in self.started:
            # pytest shows this for a test that failed.
            print(f"--- {' '.join(process.command)} ({process.exit_code})")
            print(process.read_log()[-_LOG_TAIL:])


def answers(url: str) -> bool:
    """Whether a GET of `url` gives 2xx."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _find(program: str) -> str:
    beside = Path(sys.executable).with_name(program)
    return str(beside) if beside.exists() else program


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("QSLICE_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', os.defpath)}"
    return {**inherited, "PATH": path, "PYTHONUNBUFFERED": "1", **extra}
