"""The Docker engine: one that already runs, else one of ours that all checkouts share.

An engine is a thing of the machine (bridge, iptables, /var/lib/docker), so what we start belongs to
all instances that registered with it, and stops with the last of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import docker
import psutil
from docker.errors import DockerException
from filelock import FileLock

from qslice_native import packages
from qslice_native.files import private_directory, read_json, write_json
from qslice_native.places import DATA_ROOT, Places
from qslice_native.processes import Daemon
from qslice_native.say import NativeError, say, step

DEFAULT_HOST = "unix:///var/run/docker.sock"
LABEL = "qslice.checkout"
_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 90
_CONTAINERD_END_S = 5.0


def connect(host: str | None = None, timeout: int = 60) -> docker.DockerClient:
    """A client for `host`, default that of this environment (`DOCKER_HOST`, ...)."""
    if host is None:
        return docker.from_env(timeout=timeout)
    return docker.DockerClient(base_url=host, timeout=timeout)


@dataclass(frozen=True)
class DockerEngine:
    """The engine that an instance uses. The defaults are the machine's; tests have their own."""

    places: Places
    home: Path = DATA_ROOT / "docker"
    host: str = field(default_factory=lambda: os.environ.get("DOCKER_HOST") or DEFAULT_HOST)
    #: Engine state that survives a crash and would stop the next start.
    exec_root: Path = Path("/var/run/docker")
    pid_file: Path = Path("/var/run/docker.pid")
    #: More options for dockerd, and what it is started through (for one in a network of its own).
    options: Sequence[str] = ()
    through: Sequence[str] = ()

    title = "Docker"

    @property
    def _daemon(self) -> Daemon:
        return Daemon(
            title=self.title,
            mark="docker",
            pid_file=self.home / "dockerd.json",
            log=self.home / "dockerd.log",
            # A new engine finds the containers that a killed one left, and ends them itself.
            ends_leftovers=False,
        )

    @property
    def _registration(self) -> Path:
        return self.home / "users" / f"{self.places.checkout_id}-{self.places.name}.json"

    def is_ready(self) -> bool:
        """Whether the engine answers."""
        if not self._socket_accepts():
            return False
        try:
            with contextlib.closing(connect(self.host, timeout=30)) as client:
                client.info()
        except (DockerException, OSError):
            return False
        return True

    def _socket_accepts(self) -> bool:
        """Asked first, since the SDK leaves a socket open where nobody listens."""
        if not self.host.startswith("unix://"):
            return True
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.host.removeprefix("unix://"))
            except OSError:
                return False
        return True

    @property
    def is_ours(self) -> bool:
        """Whether the engine that runs was started from a checkout of qslice."""
        return self._daemon.is_running()

    def up(self) -> None:
        """Use the engine that answers, else start one."""
        private_directory(self.home)
        with FileLock(self.home / "lock"):
            if self.is_ready():
                say(self.title, "uses the engine that runs" + (" (ours)" if self.is_ours else ""))
            elif self.host.startswith("unix://"):
                self._start()
            else:
                raise NativeError(f"the Docker engine at DOCKER_HOST={self.host} does not answer")
            write_json(self._registration, {"checkout": str(self.places.checkout)})

    def _start(self) -> None:
        program = shutil.which("dockerd", path="/usr/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            packages.install([packages.DOCKER, packages.IPTABLES])
            program = shutil.which("dockerd", path="/usr/sbin:/usr/bin") or "/usr/sbin/dockerd"
        self._daemon.stop(_STOP_TIMEOUT_S)
        self._forget_strangers()
        command = [*self.through, program, "--host", self.host, "--pidfile", str(self.pid_file)]
        command += ["--exec-root", str(self.exec_root), *self.options]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        proxies = {name: value for name, value in os.environ.items() if "proxy" in name.lower()}
        with step(self.title, "starting an engine"):
            self._daemon.start(command, {**environment, **proxies})
            self._daemon.wait_until_ready(self.is_ready, _START_TIMEOUT_S)

    def _forget_strangers(self) -> None:
        """Remove pid files of a crashed engine whose pids are dead or other programs' now.

        The engine would wait for a zombie, or for a stranger, to be its containerd.
        """
        containerd = self.exec_root / "containerd" / "containerd.pid"
        for path, program in ((self.pid_file, "dockerd"), (containerd, "containerd")):
            # The kernel kills containerd with its engine, but not within the same instant.
            deadline = time.monotonic() + _CONTAINERD_END_S
            while _runs(path, program) and time.monotonic() < deadline:
                time.sleep(0.1)
            if not _runs(path, program):
                path.unlink(missing_ok=True)

    def down(self) -> None:
        """Remove this checkout's containers; stop an engine of ours that nobody else uses."""
        private_directory(self.home)
        with FileLock(self.home / "lock"):
            self._registration.unlink(missing_ok=True)
            if not self.is_ready():
                return
            self._remove_containers()
            if not self.is_ours:
                return
            others = [path for path in self._registration.parent.glob("*.json") if _in_use(path)]
            if others or self._runs_containers():
                say(self.title, "the engine stays, it is in use")
                return
            with step(self.title, "stopping the engine"):
                self._daemon.stop(_STOP_TIMEOUT_S)

    def _remove_containers(self) -> None:
        label = f"{LABEL}={self.places.mark}"
        with contextlib.closing(connect(self.host)) as client:
            for container in client.containers.list(all=True, filters={"label": label}):
                container.remove(force=True, v=True)

    def _runs_containers(self) -> bool:
        with contextlib.closing(connect(self.host)) as client:
            return bool(client.containers.list())


def _runs(pid_file: Path, program: str) -> bool:
    try:
        process = psutil.Process(int(pid_file.read_text()))
        return process.name() == program and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, psutil.Error):
        return False


def _in_use(registration: Path) -> bool:
    """Whether the checkout that registered still exists; a deleted one uses nothing."""
    checkout = read_json(registration).get("checkout")
    if checkout and Path(checkout).is_dir():
        return True
    registration.unlink(missing_ok=True)
    return False
