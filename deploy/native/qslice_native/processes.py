"""Detached processes that a later run finds again, and never mistakes for others.

A process is ours when its pid, its start time and the boot are those that were written down, or
when it carries our mark (see `find_processes`): a pid alone may have been given to a stranger.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from qslice_native.files import failure, private_directory, read_json, write_json
from qslice_native.say import Patience, say

#: Environment variable that marks what we start: `<checkout id>/<instance>/<part>`.
MARK = "QSLICE_NATIVE_PART"
#: Erlang sizes its tables by the limit on open files: millions would cost gigabytes.
_MAX_OPEN_FILES = 65_536
_POLL_S = 0.1


@dataclass(frozen=True)
class Identity:
    """Names one process for ever, unlike its pid."""

    pid: int
    #: Clock ticks between boot and the start of the process (field 22 of /proc/<pid>/stat).
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The identity of a running process; None where there is none (zombies count as none)."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The command name is in parentheses and may hold spaces.
        fields = stat[stat.rindex(")") + 2 :].split()
        if fields[0] in "ZX":
            return None
        return cls(pid, int(fields[19]), _boot_id())

    @classmethod
    def read(cls, path: Path) -> Identity | None:
        """What `save` wrote; None where nothing or nothing readable was written."""
        value = read_json(path)
        try:
            return cls(int(value["pid"]), int(value["start_ticks"]), str(value["boot_id"]))
        except (KeyError, TypeError, ValueError):
            return None

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        with contextlib.suppress(ChildProcessError):
            # Reaps it where it is a dead child of ours.
            os.waitpid(self.pid, os.WNOHANG)
        return Identity.of(self.pid) == self


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def find_processes(mark: str, user: str | None) -> list[Identity]:
    """All live processes that carry this mark in their environment.

    Finds the children of a killed parent, and what runs although its pid file was lost. Those of a
    service account (`user`) are also known by the mark in their command line: PostgreSQL writes
    its titles over the environment, and in a container root may not read that of others.
    """
    wanted = f"{MARK}={mark}".encode()
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            titled = (
                user is not None
                and process.username() == user
                and any(mark in word for word in process.cmdline())
            )
            environment = b"" if titled else Path(f"/proc/{process.pid}/environ").read_bytes()
        except (OSError, psutil.Error):
            continue
        if titled or wanted in environment.split(b"\0"):
            identity = Identity.of(process.pid)
            if identity is not None:
                found.append(identity)
    return found


def raise_open_files_limit() -> None:
    """Raise the soft limit on open files, for us and what we start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))


@dataclass(frozen=True)
class Daemon:
    """One detached process of an instance: how it starts, how it stops, where its log is."""

    #: What people call it, e.g. `RabbitMQ`.
    title: str
    #: Its mark: `<checkout id>/<instance>/<part>`.
    mark: str
    pid_file: Path
    log: Path
    #: The system user it runs as; None is root.
    user: str | None = None
    #: The signal that asks it to stop.
    stop_signal: signal.Signals = signal.SIGTERM
    #: Whether what outlives it is to be ended; not for an engine, which has its own way.
    ends_leftovers: bool = True

    def identity(self) -> Identity | None:
        """The running process, or None."""
        known = Identity.read(self.pid_file)
        return known if known is not None and known.is_alive() else None

    def is_running(self) -> bool:
        return self.identity() is not None

    def start(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Start it in a session of its own, its output appended to the log.

        Leftovers of an earlier run that lost their main process are ended first.
        """
        self.end_leftovers()
        raise_open_files_limit()
        private_directory(self.log.parent)
        with self.log.open("ab") as output:
            output.write(f"\n--- {time.strftime('%Y-%m-%d %H:%M:%S')} start\n".encode())
            output.flush()
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**env, MARK: self.mark},
                cwd="/",
                start_new_session=True,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                umask=0o077,
            )
        identity = Identity.of(process.pid)
        # It is detached: whoever waits for it does so by its identity, not as its parent.
        process.returncode = 0
        if identity is None:
            raise failure(self.title, "ended at once", self.log)
        identity.save(self.pid_file)

    def wait_until_ready(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `is_ready`; an error that shows the log if the process ends or time is up."""
        patience = Patience(self.title, "starting")
        while not is_ready():
            if not self.is_running():
                raise failure(self.title, "ended while it was starting", self.log)
            if patience.waited_s > timeout_s:
                raise failure(self.title, f"is not ready after {timeout_s:.0f} s", self.log)
            patience.tick()
            time.sleep(_POLL_S)

    def answers(self, is_ready: Callable[[], bool], timeout_s: float = 30) -> bool:
        """Whether a running process answers soon: it may be starting, or busy for a moment."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if not self.is_running() or time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def stop(self, timeout_s: float = 30) -> bool:
        """Ask it to stop, kill it if it does not; True when something was running."""
        identity = self.identity()
        if identity is not None and not _end([identity], self.stop_signal, timeout_s):
            say(self.title, f"did not stop within {timeout_s:.0f} s and was killed")
        leftovers = self.end_leftovers()
        self.pid_file.unlink(missing_ok=True)
        return identity is not None or leftovers

    def kill(self) -> None:
        """End it and its children at once, as a crash would; for tests and drills."""
        main = self.identity()
        processes = [*find_processes(self.mark, self.user), *([main] if main else [])]
        _signal(processes, signal.SIGKILL)
        _wait_for_end(processes, 10)

    def end_leftovers(self) -> bool:
        """End the processes of an earlier run that are still there; True when there were any."""
        if not self.ends_leftovers:
            return False
        leftovers = find_processes(self.mark, self.user)
        _end(leftovers, signal.SIGTERM, 5)
        return bool(leftovers)


def _end(processes: Iterable[Identity], how: signal.Signals, timeout_s: float) -> bool:
    """Signal them and wait, then kill; True when no kill was needed."""
    alive = [process for process in processes if process.is_alive()]
    _signal(alive, how)
    alive = _wait_for_end(alive, timeout_s)
    _signal(alive, signal.SIGKILL)
    _wait_for_end(alive, 10)
    return not alive


def _signal(processes: Iterable[Identity], how: signal.Signals) -> None:
    for process in processes:
        if process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, how)


def _wait_for_end(processes: list[Identity], timeout_s: float) -> list[Identity]:
    deadline = time.monotonic() + timeout_s
    while processes and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        processes = [process for process in processes if process.is_alive()]
    return processes
