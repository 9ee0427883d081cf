"""Debian packages: installs what is missing, and lets none of it start a system service.

A private node of ours runs beside whatever the machine has; a package that starts its own would
take ports and memory for something nobody asked for.
"""

from __future__ import annotations

import glob
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from qslice_native.files import failure, write_private
from qslice_native.places import DATA_ROOT
from qslice_native.say import NativeError, Patience, say, step

TITLE = "packages"
_LOG = DATA_ROOT / "packages.log"
_POLICY = Path("/usr/sbin/policy-rc.d")
_SAVED_POLICY = Path("/usr/sbin/policy-rc.d.before-qslice")
_MARK = "# qslice: no service is started while packages are installed"
#: PostgreSQL's package would create a cluster that the next boot starts.
_NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/qslice.conf")
#: Services that the next boot would start; only stopped from doing so when we install them.
_SERVICES = {
    "rabbitmq-server": ("rabbitmq-server.service", "epmd.socket"),
    "postgresql": ("postgresql.service",),
}


@dataclass(frozen=True)
class Package:
    """A package, and files (globs) of which any one shows that what it brings is there."""

    name: str
    shown_by: tuple[str, ...]

    @property
    def is_there(self) -> bool:
        return any(glob.glob(pattern) for pattern in self.shown_by)


RABBITMQ = Package("rabbitmq-server", ("/usr/lib/rabbitmq/bin/rabbitmq-server",))
POSTGRESQL = Package("postgresql", ("/usr/lib/postgresql/*/bin/initdb",))
DOCKER = Package("docker.io", ("/usr/sbin/dockerd", "/usr/bin/dockerd"))
IPTABLES = Package("iptables", ("/usr/sbin/iptables",))
DEBOOTSTRAP = Package("debootstrap", ("/usr/sbin/debootstrap",))
#: The runner compiles the first process of its containers.
COMPILER = Package("gcc", ("/usr/bin/cc", "/usr/bin/gcc"))
LIBC = Package("libc6-dev", ("/usr/lib/*/libc.a", "/usr/lib/libc.a"))
GIT = Package("git", ("/usr/bin/git",))
#: The guides' REST examples, which tests run, call it.
CURL = Package("curl", ("/usr/bin/curl",))
CHROMIUM = Package("chromium", ("/usr/bin/chromium",))


def install(packages: Sequence[Package]) -> None:
    """Install those that are missing. Without any missing it returns at once.

    Raises NativeError, naming the log, where apt fails.
    """
    if all(package.is_there for package in packages) and not _left_by_a_crash():
        return
    if os.geteuid() != 0:
        missing = ", ".join(package.name for package in packages if not package.is_there)
        raise NativeError(f"run as root, or install these Debian packages first: {missing}")
    DATA_ROOT.mkdir(parents=True, exist_ok=True, mode=0o711)
    with FileLock(DATA_ROOT / "packages.lock"):
        # Another run may have installed them while this one waited for the lock.
        missing_names = [package.name for package in packages if not package.is_there]
        with _no_services():
            if missing_names:
                _install(missing_names)
    for package in packages:
        if not package.is_there:
            raise failure(package.name, f"is installed, but {package.shown_by} is missing", _LOG)


def _install(names: list[str]) -> None:
    with step(TITLE, f"installing {', '.join(names)} (log: {_LOG})") as patience:
        # A crash in the middle of dpkg leaves packages unpacked but not configured.
        if subprocess.run(["dpkg", "--audit"], capture_output=True, check=False).stdout.strip():
            _logged(["dpkg", "--configure", "-a"], patience)
        apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=3"]
        _logged([*apt, "update"], patience)
        _logged([*apt, "install", "--yes", "--no-install-recommends", *names], patience)
    if Path("/run/systemd/system").exists():
        units = [unit for name in names for unit in _SERVICES.get(name, ())]
        for unit in units:
            subprocess.run(["systemctl", "disable", "--quiet", unit], check=False)


def _logged(command: list[str], patience: Patience) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    with (
        _LOG.open("a") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            errors="replace",
        ) as process,
    ):
        for line in process.stdout or ():
            log.write(line)
            log.flush()
            patience.tick(line.strip()[:60])
    if process.returncode != 0:
        raise failure(TITLE, f"`{' '.join(command)}` failed", _LOG)


def _left_by_a_crash() -> bool:
    if _SAVED_POLICY.exists() or _NO_CLUSTER.exists():
        return True
    try:
        return _MARK in _POLICY.read_text()
    except (OSError, UnicodeDecodeError):
        return False


@contextmanager
def _no_services() -> Iterator[None]:
    """Forbid service starts (policy-rc.d, exit code 101), and undo it whatever happens."""
    _restore()
    try:
        if _POLICY.exists():
            _POLICY.rename(_SAVED_POLICY)
        write_private(_POLICY, f"#!/bin/sh\n{_MARK}\nexit 101\n", mode=0o755)
        if not Path("/etc/postgresql-common/createcluster.conf").exists():
            write_private(_NO_CLUSTER, "create_main_cluster = false\n", mode=0o644)
        yield
    finally:
        _restore()


def _restore() -> None:
    if not _left_by_a_crash():
        return
    _NO_CLUSTER.unlink(missing_ok=True)
    if _SAVED_POLICY.exists():
        _SAVED_POLICY.replace(_POLICY)
    elif _POLICY.exists() and _MARK in _POLICY.read_text():
        _POLICY.unlink()
    say(TITLE, "service starts are allowed again")
