"""A private RabbitMQ node: its own name, ports, users and directory, on loopback only."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx

from qslice_native.files import own_tree, private_directory, write_private
from qslice_native.places import Places
from qslice_native.processes import Daemon
from qslice_native.say import NativeError, say, step
from qslice_native.settings import LOOPBACK, InstanceSettings

USER = "rabbitmq"
ADMIN = "qslice-admin"
_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 60
_CONTROL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
#: After the end of a node by force, a queue of RabbitMQ 3.10 now and then finds no leader on the
#: only node there is, for ever (rabbitmq-server issue 10070); publishing to it hangs.
_ELECT_LEADERS = """
Queues = [amqqueue:get_pid(Q) || Q <- rabbit_amqqueue:list(),
          amqqueue:get_type(Q) =:= rabbit_quorum_queue],
Orphans = fun() -> [Id || {Name, _} = Id <- Queues,
                    ra_leaderboard:lookup_leader(Name) =:= undefined] end,
Wait = fun(_, 0) -> ok; (F, N) -> case Orphans() of
    [] -> ok; _ -> timer:sleep(100), F(F, N - 1) end end,
Wait(Wait, 30), [ra:trigger_election(Id) || Id <- Orphans()], Wait(Wait, 100), length(Orphans()).
"""


def password_hash(password: str, salt: bytes | None = None) -> str:
    """A password as RabbitMQ's definitions hold it: base64(salt + SHA-256(salt + password)).

    Source: RabbitMQ documentation, "Password Hashing".
    """
    salt = secrets.token_bytes(4) if salt is None else salt
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def definitions(admin_password: str) -> dict[str, object]:
    """The users and virtual hosts of a new node; read at every start. There is no `guest`."""
    return {
        "users": [
            {
                "name": ADMIN,
                "password_hash": password_hash(admin_password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": ["administrator"],
            }
        ],
        "vhosts": [{"name": "/"}],
        "permissions": [
            {"user": ADMIN, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
        ],
    }


@dataclass(frozen=True)
class Ports:
    amqp: int
    management: int
    prometheus: int
    distribution: int
    epmd: int


class RabbitMQ:
    """The broker of one instance."""

    title = "RabbitMQ"

    def __init__(self, places: Places, settings: InstanceSettings) -> None:
        self._home = places.data / "rabbitmq"
        self._settings = settings
        self._node = f"qslice-{places.name}-{places.checkout_id}@localhost"
        self._server = Daemon(
            title=self.title,
            mark=f"{places.mark}/rabbitmq",
            pid_file=places.processes / "rabbitmq.json",
            log=places.logs / "rabbitmq.log",
            user=USER,
        )
        # Erlang's port mapper would otherwise be one that other nodes of this machine share.
        self._epmd = Daemon(
            title="Erlang port mapper",
            mark=f"{places.mark}/epmd",
            pid_file=places.processes / "epmd.json",
            log=places.logs / "epmd.log",
            user=USER,
        )

    @property
    def ports(self) -> Ports:
        return Ports(*(self._settings.port(f"rabbitmq_{name}") for name in Ports.__annotations__))

    @property
    def console_url(self) -> str:
        """The management page, for a browser."""
        return f"http://{LOOPBACK}:{self.ports.management}"

    @property
    def management_url(self) -> str:
        """The management API, with the administrator's name and password in it."""
        password = quote(self.admin_password, safe="")
        return f"http://{ADMIN}:{password}@{LOOPBACK}:{self.ports.management}"

    @property
    def prometheus_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.prometheus}/metrics"

    @property
    def amqp_url(self) -> str:
        """The administrator's AMQP URL, virtual host `/`."""
        password = quote(self.admin_password, safe="")
        return f"amqp://{ADMIN}:{password}@{LOOPBACK}:{self.ports.amqp}/%2F"

    @property
    def admin_password(self) -> str:
        """The password of `ADMIN`."""
        return self._settings.secret("rabbitmq_admin_password")

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
        """Whether the node serves AMQP and knows the administrator."""
        try:
            for check in ("overview", f"health/checks/port-listener/{self.ports.amqp}"):
                httpx.get(
                    f"{self.console_url}/api/{check}",
                    auth=(ADMIN, self.admin_password),
                    timeout=5,
                    trust_env=False,
                ).raise_for_status()
        except httpx.HTTPError:
            return False
        return True

    def up(self) -> None:
        """Start the node unless it runs and answers."""
        if self._server.is_running():
            if self._server.answers(self.is_ready):
                say(self.title, f"running on port {self.ports.amqp}")
                return
            say(self.title, "runs but does not answer; it is started again")
        self._stop_both()
        if not _SERVER.exists():
            raise NativeError(f"RabbitMQ is not installed: {_SERVER} is missing")
        names = tuple(f"rabbitmq_{name}" for name in Ports.__annotations__)
        self._settings.repick_busy_ports(*names)
        with step(self.title, f"starting on port {self.ports.amqp}"):
            had_data = (self._home / "mnesia").exists()
            self._write_configuration()
            epmd_port = str(self.ports.epmd)
            self._epmd.start(["epmd", "-address", LOOPBACK, "-port", epmd_port], self._environment)
            self._server.start([str(_SERVER)], self._environment)
            self._server.wait_until_ready(self.is_ready, _START_TIMEOUT_S)
            if had_data:
                self._elect_leaders()

    def _elect_leaders(self) -> None:
        command = [str(_CONTROL), "--node", self._node, "eval", _ELECT_LEADERS]
        done = subprocess.run(
            command,
            user=USER,
            group=USER,
            env=self._environment,
            cwd=self._home,
            capture_output=True,
            text=True,
            check=False,
            timeout=_START_TIMEOUT_S,
        )
        if done.stdout.strip() != "0":
            said = (done.stdout + done.stderr).strip()[-500:]
            say(self.title, f"some quorum queues have no leader: {said}")

    def down(self) -> bool:
        """Stop the node; True when it ran."""
        return self._stop_both()

    def _stop_both(self) -> bool:
        stopped = self._server.stop(_STOP_TIMEOUT_S)
        self._epmd.stop()
        return stopped

    @property
    def _environment(self) -> dict[str, str]:
        home, ports = self._home, self.ports
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "HOSTNAME": "localhost",
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(ports.epmd),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(ports.distribution),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "node.pid"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "no-environment-file"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "no-advanced-file"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            # Distribution on loopback; idle schedulers sleep instead of spinning on few cores.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} "
                "+sbwt none +sbwtdcpu none +sbwtdio none "
                f"-qslice {self._server.mark}"
            ),
        }

    def _write_configuration(self) -> None:
        home, ports = private_directory(self._home, USER), self.ports
        for name in ("mnesia", "log"):
            private_directory(home / name, USER)
        own_tree(home, USER)
        # A cookie that a crash left empty stops Erlang; a new one is made for the node.
        cookie = home / ".erlang.cookie"
        if cookie.exists() and not cookie.stat().st_size:
            cookie.unlink()
        definitions_file = home / "definitions.json"
        write_private(definitions_file, json.dumps(definitions(self.admin_password)), USER)
        write_private(
            home / "enabled_plugins", "[rabbitmq_management,rabbitmq_prometheus].\n", USER
        )
        lines = (
            f"listeners.tcp.1 = {LOOPBACK}:{ports.amqp}",
            f"management.tcp.ip = {LOOPBACK}",
            f"management.tcp.port = {ports.management}",
            f"prometheus.tcp.ip = {LOOPBACK}",
            f"prometheus.tcp.port = {ports.prometheus}",
            f"load_definitions = {definitions_file}",
            "log.console = true",
            "log.console.level = info",
            "log.file = false",
            "disk_free_limit.absolute = 256MB",
            # RabbitMQ 4's default (16 MiB), on every version.
            "max_message_size = 16777216",
        )
        write_private(home / "rabbitmq.conf", "\n".join(lines) + "\n", USER)

    def remove(self) -> None:
        """Delete the node's data. Only for a node that was stopped."""
        shutil.rmtree(self._home, ignore_errors=True)
