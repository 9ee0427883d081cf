"""A private PostgreSQL server: its own data directory, port, socket and password."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from qslice_native.files import failure, own_tree, private_directory, write_private
from qslice_native.places import Places
from qslice_native.processes import Daemon
from qslice_native.say import NativeError, say, step
from qslice_native.settings import LOOPBACK, InstanceSettings

USER = "postgres"
ADMIN = "qslice_admin"
_INSTALLED = Path("/usr/lib/postgresql")
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 60


class PostgreSQL:
    """The database server of one instance. `durable=False` trades crash safety for speed."""

    title = "PostgreSQL"

    def __init__(self, places: Places, settings: InstanceSettings, durable: bool) -> None:
        self._home = places.data / "postgres"
        self._data = self._home / "data"
        self._socket = self._home / "socket"
        self._settings = settings
        self._durable = durable
        self._log = places.logs / "postgres.log"
        self._server = Daemon(
            title=self.title,
            mark=f"{places.mark}/postgres",
            pid_file=places.processes / "postgres.json",
            log=self._log,
            user=USER,
            # "Fast" shutdown: sessions are ended, data is flushed.
            stop_signal=signal.SIGINT,
        )

    @property
    def port(self) -> int:
        return self._settings.port("postgres")

    @property
    def url(self) -> str:
        """The administrator's libpq URL, database `postgres`."""
        password = quote(self._admin_password, safe="")
        return f"postgresql://{ADMIN}:{password}@{LOOPBACK}:{self.port}/postgres"

    @property
    def _admin_password(self) -> str:
        return self._settings.secret("postgres_admin_password")

    @cached_property
    def _programs(self) -> Path:
        """The directory of the server programs; the version that made the data, else the newest."""
        try:
            version = (self._data / "PG_VERSION").read_text().strip()
        except OSError:
            installed = [path.parent.parent.name for path in _INSTALLED.glob("*/bin/initdb")]
            version = max(installed, key=int, default="")
        programs = _INSTALLED / version / "bin"
        if not version or not (programs / "postgres").exists():
            wanted = f" {version}, which made {self._data}," if version else ""
            raise NativeError(f"PostgreSQL{wanted} is not installed under {_INSTALLED}")
        return programs

    def is_running(self) -> bool:
        return self._server.is_running()

    @property
    def pid(self) -> int | None:
        """The process id of the server while it runs."""
        identity = self._server.identity()
        return identity.pid if identity else None

    def kill(self) -> None:
        """End the server at once, as a crash would; for tests and drills."""
        self._server.kill()

    def is_ready(self) -> bool:
        """Whether the server accepts connections."""
        command = [str(self._programs / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self.port)]
        return subprocess.run(command, check=False, env=self._environment).returncode == 0

    def up(self) -> None:
        """Start the server unless it runs and answers; create its data directory the first time."""
        if self._server.is_running():
            if self._server.answers(self.is_ready):
                say(self.title, f"running on port {self.port}")
                return
            say(self.title, "runs but does not answer; it is started again")
        self._server.stop(_STOP_TIMEOUT_S)
        private_directory(self._home, USER)
        private_directory(self._socket, USER)
        if not (self._data / "PG_VERSION").exists():
            self._create_cluster()
        self._settings.repick_busy_ports("postgres")
        with step(self.title, f"starting on port {self.port}"):
            own_tree(self._data, USER)
            self._write_configuration()
            # `stop` has ended every process of this directory: a pid in here is a stranger's.
            (self._data / "postmaster.pid").unlink(missing_ok=True)
            self._server.start(
                [str(self._programs / "postgres"), "-D", str(self._data)], self._environment
            )
            self._server.wait_until_ready(self.is_ready, _START_TIMEOUT_S)
            self._set_password()

    def down(self) -> bool:
        """Stop the server; True when it ran."""
        return self._server.stop(_STOP_TIMEOUT_S)

    def remove(self) -> None:
        """Delete the server's data. Only for a server that was stopped."""
        shutil.rmtree(self._home, ignore_errors=True)

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def _run(self, command: list[str], what: str, stdin: str | None = None) -> None:
        with self._log.open("ab") as log:
            done = subprocess.run(
                command,
                input=None if stdin is None else stdin.encode(),
                stdin=subprocess.DEVNULL if stdin is None else None,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
                user=USER,
                group=USER,
                extra_groups=[],
                cwd="/",
                env=self._environment,
            )
        if done.returncode != 0:
            raise failure(self.title, what, self._log)

    def _create_cluster(self) -> None:
        """Make the data directory beside its place and rename it: a crash leaves none or all."""
        with step(self.title, "creating its data directory"):
            scratch = self._home / "data.new"
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.rmtree(self._data, ignore_errors=True)
            options = ["--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256"]
            password = self._home / "password.new"
            write_private(password, self._admin_password + "\n", USER)
            if not self._durable:
                options.append("--no-sync")
            initdb = [str(self._programs / "initdb"), "-D", str(scratch), f"--username={ADMIN}"]
            self._run([*initdb, f"--pwfile={password}", *options], "could not create its data")
            password.unlink()
            scratch.rename(self._data)

    def _write_configuration(self) -> None:
        lines = [
            f"listen_addresses = '{LOOPBACK}'",
            f"port = {self.port}",
            f"unix_socket_directories = '{self._socket}'",
            "unix_socket_permissions = 0700",
            # Shown in the titles of all its processes, by which they are found.
            f"cluster_name = '{self._server.mark}'",
            "max_connections = 300",
            "shared_buffers = 256MB",
            "max_wal_size = 2GB",
            "password_encryption = 'scram-sha-256'",
            "log_line_prefix = '%m [%p] %d '",
            "logging_collector = off",
            "timezone = 'UTC'",
        ]
        if not self._durable:
            # What was committed outlives a killed server, as tests of that demand; not a power cut.
            lines += ["fsync = off", "full_page_writes = off"]
        write_private(self._data / "postgresql.auto.conf", "", USER)
        write_private(self._data / "postgresql.conf", "\n".join(lines) + "\n", USER)
        # Over the private socket the system user `postgres` may set a lost password anew.
        hba = (
            f"local all {ADMIN} peer map=qslice",
            "local all all scram-sha-256",
            f"host all all {LOOPBACK}/32 scram-sha-256",
        )
        write_private(self._data / "pg_hba.conf", "\n".join(hba) + "\n", USER)
        write_private(self._data / "pg_ident.conf", f"qslice {USER} {ADMIN}\n", USER)

    def _set_password(self) -> None:
        # token_urlsafe holds no quotes; the statement goes by stdin, never through `ps`.
        quiet = "SET log_min_error_statement = 'panic';"
        change = f"ALTER ROLE {ADMIN} PASSWORD '{self._admin_password}';"
        self._execute(f"{quiet} {change}", "did not take its password")

    def create_database(self, name: str) -> None:
        """Make a database where it is missing; the server runs."""
        missing = f"NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}')"
        self._execute(
            f"SELECT 'CREATE DATABASE {name}' WHERE {missing} \\gexec\n",
            f"did not make the database {name}",
        )

    def _execute(self, statements: str, what: str) -> None:
        psql = [str(self._programs / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1"]
        target = ["-h", str(self._socket), "-p", str(self.port), "-U", ADMIN, "-d", "postgres"]
        self._run([*psql, *target], what, statements)
