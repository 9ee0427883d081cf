"""The services of qslice on an instance: gateway, ledger, runner, publisher and a registry.

Each is a process of this checkout's virtual environment. `up` leaves `.run/env`, a shell file with
everything that the command line and a lab script need.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from qslice_native.files import failure, private_directory, write_private
from qslice_native.places import Places
from qslice_native.processes import Daemon
from qslice_native.say import NativeError, say, step
from qslice_native.settings import LOOPBACK, InstanceSettings

PROJECT = "demo"
SUBJECT = "demo"
#: The broker's user of workers and publisher; the gateway alone administers.
WORKER_USER = "qslice-worker"
VHOST = "qslice"
DATABASE = "qslice"
REGISTRY_CLIENT = "slices-mrs-backend-swagger"
TOKEN_LIFE_S = 7 * 24 * 3600
_READY_S = 120
_TITLES = {
    "gateway": "gateway",
    "ledger": "ledger",
    "runner": "QKD runner",
    "registry": "stand-in for the MRS",
    "publisher": "MRS publisher",
}


@dataclass(frozen=True)
class Services:
    """Brings the services of one instance up and down; its broker and database run already."""

    places: Places

    @property
    def env_file(self) -> Path:
        return self.places.checkout / ".run" / "env"

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._settings.port('gateway')}"

    def up(self, state: Mapping[str, Any]) -> None:
        """Start what does not run, make the demo's project, write `.run/env`.

        Raises NativeError, naming the log, where a service does not become ready.
        """
        for folder in (self._home, self._git, self._home / "registry", self._home / "runner"):
            private_directory(folder)
        self._prepare_broker(state)
        self._prepare_database(state)
        token = self._token()
        ready: dict[str, Callable[[], bool]] = {
            "registry": lambda: _answers(f"{self._registry_url}/"),
            "gateway": lambda: _answers(f"{self.url}/healthz"),
            "ledger": lambda: _answers(f"{self.url}/readyz"),
        }
        for name in self._commands():
            self._start(name, state, ready.get(name))
        self._write_env(state, token)
        say("services", f"ready; `. {self.env_file}` for the command line and lab scripts")

    def down(self) -> None:
        """Stop them, the first one last."""
        for name in reversed(self._commands()):
            daemon = self._daemon(name)
            if daemon.stop(timeout_s=60):
                say(daemon.title, "stopped")
        self.env_file.unlink(missing_ok=True)

    @property
    def _home(self) -> Path:
        return self.places.data / "services"

    @property
    def _git(self) -> Path:
        """Bare repositories put here can be cloned by the runner."""
        return self.places.run / "git"

    @property
    def _settings(self) -> InstanceSettings:
        return InstanceSettings(self.places.settings_file)

    @property
    def _registry_url(self) -> str:
        return f"http://{LOOPBACK}:{self._settings.port('registry')}"

    @property
    def _key_file(self) -> Path:
        return self._home / "issuer.pem"

    def _daemon(self, name: str) -> Daemon:
        return Daemon(
            title=_TITLES[name],
            mark=f"{self.places.mark}/{name}",
            pid_file=self.places.processes / f"{name}.json",
            log=self.places.logs / f"{name}.log",
        )

    def _commands(self) -> dict[str, list[str]]:
        registry = [sys.executable, "-m", "qslice_mrs_testbed"]
        port = self._settings.port("registry")
        return {
            "registry": [
                *registry,
                *("--listen", f"{LOOPBACK}:{port}", "--state", str(self._home / "registry")),
            ],
            "gateway": [_program("qslice-gateway"), "serve"],
            "ledger": [_program("qslice-gateway"), "ledger"],
            "runner": [_program("qslice-runner")],
            "publisher": [_program("qslice-mrs")],
        }

    def _environments(self, state: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        worker = {"QSLICE_AMQP_URL": self._worker_url(state)}
        ledger = {
            "QSLICE_AMQP_URL": _with_path(state["amqp_url"], VHOST),
            "QSLICE_DATABASE_URL": _with_path(state["postgres_url"], DATABASE),
        }
        return {
            "registry": {
                "QSLICE_MRS_TESTBED_CLIENT_SECRET": self._settings.secret("registry_client_secret")
            },
            "ledger": ledger,
            "gateway": {
                **ledger,
                "QSLICE_LISTEN": f"{LOOPBACK}:{self._settings.port('gateway')}",
                "QSLICE_RABBITMQ_MANAGEMENT_URL": state["management_url"],
                "QSLICE_DEV_ISSUER_KEY": str(self._key_file),
            },
            "runner": {
                **worker,
                "QSLICE_RUNNER_STATE_DIR": str(self._home / "runner"),
                "QSLICE_ALLOW_FILE_REPOSITORIES": str(self._git),
                "QSLICE_CHECKOUT": self.places.mark,
                "QSLICE_DOCKER_HOST": state["docker_host"],
                "QSLICE_SLOTS": str(max(2, os.cpu_count() or 2)),
                "QSLICE_AIR_GAPPED": "true",
            },
            "publisher": {
                **worker,
                "QSLICE_MRS_URL": self._registry_url,
                "QSLICE_MRS_CLIENT_ID": REGISTRY_CLIENT,
                "QSLICE_MRS_CLIENT_SECRET": self._settings.secret("registry_client_secret"),
            },
        }

    def _start(
        self, name: str, state: Mapping[str, Any], is_ready: Callable[[], bool] | None
    ) -> None:
        daemon = self._daemon(name)
        if daemon.is_running():
            say(daemon.title, "runs")
            return
        if name in ("gateway", "registry"):
            self._settings.repick_busy_ports(name)
        with step(daemon.title, "starting"):
            environment = {**_inherited(), **self._environments(state)[name]}
            daemon.start(self._commands()[name], environment)
            daemon.wait_until_ready(is_ready or daemon.is_running, _READY_S)

    def _prepare_broker(self, state: Mapping[str, Any]) -> None:
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        password = self._settings.secret("worker_password")
        administrator = urlsplit(state["management_url"]).username
        with httpx.Client(base_url=state["management_url"], timeout=60, trust_env=False) as api:
            for path, body in (
                (f"/api/vhosts/{VHOST}", {}),
                (f"/api/users/{WORKER_USER}", {"password": password, "tags": ""}),
                (f"/api/permissions/{VHOST}/{administrator}", everything),
                (f"/api/permissions/{VHOST}/{WORKER_USER}", everything),
            ):
                answer = api.put(path, json=body)
                if answer.is_error:
                    raise NativeError(f"RabbitMQ refused {path}: {answer.text}")

    def _prepare_database(self, state: Mapping[str, Any]) -> None:
        environment = {**_inherited(), **self._environments(state)["ledger"]}
        log = self.places.logs / "migrate.log"
        with step("database", "bringing it to this version's schema"), log.open("wb") as output:
            done = subprocess.run(
                [_program("qslice-gateway"), "migrate"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode != 0:
            raise failure("database", "cannot be brought to this version's schema", log)

    def _worker_url(self, state: Mapping[str, Any]) -> str:
        parts = urlsplit(str(state["amqp_url"]))
        password = quote(self._settings.secret("worker_password"), safe="")
        netloc = f"{WORKER_USER}:{password}@{parts.hostname}:{parts.port}"
        return urlunsplit(parts._replace(netloc=netloc, path=f"/{VHOST}"))

    def _write_env(self, state: Mapping[str, Any], token: str) -> None:
        user = self._project_user(token)
        values = {
            "QSLICE_URL": self.url,
            "QSLICE_TOKEN": token,
            "QSLICE_PROJECT": PROJECT,
            "QSLICE_AMQP_URL": user["amqp_url"],
            # With the login: a lab's own user may not look, since the page shows every project.
            "QSLICE_RABBITMQ_CONSOLE": state["management_url"],
            "QSLICE_GIT_DIR": str(self._git),
            "QSLICE_MRS_URL": self._registry_url,
        }
        lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
        write_private(self.env_file, "\n".join([*lines, ""]))

    def _token(self) -> str:
        """A token of the development issuer, whose key the gateway then starts with."""
        made = subprocess.run(
            [
                *(_program("qslice-gateway"), "token", "--subject", SUBJECT),
                *("--project", PROJECT, "--life", str(TOKEN_LIFE_S), "--make-key"),
            ],
            env={**_inherited(), "QSLICE_DEV_ISSUER_KEY": str(self._key_file)},
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise NativeError(f"no token could be made: {made.stderr.strip()}")
        return made.stdout.strip()

    def _project_user(self, token: str) -> dict[str, Any]:
        """Make the project where it is missing; its RabbitMQ user, with a new password."""
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(
            base_url=self.url, headers=headers, timeout=60, trust_env=False
        ) as client:
            made = client.post("/api/v1/projects", json={"name": PROJECT})
            if made.is_error and made.status_code != httpx.codes.CONFLICT:
                raise NativeError(f"the project {PROJECT!r} cannot be made: {made.text}")
            answer = client.post(f"/api/v1/projects/{PROJECT}/broker-user")
            if answer.is_error:
                raise NativeError(f"the project's RabbitMQ user cannot be made: {answer.text}")
            user: dict[str, Any] = answer.json()
            return user


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _inherited() -> dict[str, str]:
    """This environment without settings of qslice that somebody had exported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QSLICE_")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"}


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _with_path(url: str, name: str) -> str:
    """The same server's other database, or virtual host."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
