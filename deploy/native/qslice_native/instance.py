"""One instance (`demo`, `tests`): its broker, its database, the engine, and what others read."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from filelock import FileLock, Timeout

from qslice_native import base_images, packages
from qslice_native.docker_engine import LABEL, DockerEngine
from qslice_native.files import read_json, write_json
from qslice_native.places import Places, checkout_root
from qslice_native.postgres import PostgreSQL
from qslice_native.rabbitmq import ADMIN, RabbitMQ
from qslice_native.say import say
from qslice_native.services import DATABASE, Services
from qslice_native.settings import InstanceSettings

#: Instances whose data stays after `down`.
_KEPT = {"demo"}
#: Instances that need not survive a crash of the machine: no fsync, so tests are fast.
_NOT_DURABLE = {"tests"}


@dataclass(frozen=True)
class Instance:
    """Brings the parts of one instance up and down. Every method can be repeated at any time."""

    places: Places
    #: Whether a Docker engine and the base images belong to it.
    with_docker: bool = True

    @property
    def engine(self) -> DockerEngine:
        return DockerEngine(self.places)

    @property
    def rabbitmq(self) -> RabbitMQ:
        return RabbitMQ(self.places, InstanceSettings(self.places.settings_file))

    @property
    def postgres(self) -> PostgreSQL:
        settings = InstanceSettings(self.places.settings_file)
        return PostgreSQL(self.places, settings, durable=self.places.name not in _NOT_DURABLE)

    @property
    def services(self) -> Services:
        return Services(self.places)

    def up(self) -> dict[str, Any]:
        """Install and start what is missing; returns what `state.json` holds.

        Raises NativeError with a message for people, naming the log, where a part cannot start.
        """
        wanted = [packages.RABBITMQ, packages.POSTGRESQL, packages.GIT, packages.CURL]
        with self._locked():
            if self.with_docker:
                wanted += [packages.COMPILER, packages.LIBC]
            packages.install(wanted)
            if self.with_docker:
                self.engine.up()
                base_images.provide(self.engine.host)
            self.postgres.up()
            self.rabbitmq.up()
            state = self.describe()
            if read_json(self.places.state_file) != state:
                write_json(self.places.state_file, state)
        return state

    def serve(self) -> None:
        """Start qslice itself on it; `up` ran before. Raises NativeError, as `up` does."""
        with self._locked():
            self.postgres.create_database(DATABASE)
            self.services.up(self.describe())

    def down(self) -> None:
        """Stop what this instance started. Its data goes, but for the demo's."""
        with self._locked():
            self.services.down()
            for part in (self.rabbitmq, self.postgres):
                say(part.title, "stopped" if part.down() else "was not running")
            if self.with_docker:
                self.engine.down()
            self.places.state_file.unlink(missing_ok=True)
            if self.places.name not in _KEPT:
                self.rabbitmq.remove()
                self.postgres.remove()

    def remove(self) -> None:
        """Stop it and delete all its files."""
        self.down()
        shutil.rmtree(self.places.data, ignore_errors=True)
        shutil.rmtree(self.places.run, ignore_errors=True)
        self.places.lock_file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            # Other instances of this checkout may still be there.
            self.places.data.parent.rmdir()

    def status(self) -> dict[str, bool]:
        """Part -> whether it runs and answers."""
        answers: dict[str, bool] = {}
        for part in (self.rabbitmq, self.postgres):
            answers[part.title] = part.is_running() and part.is_ready()
        if self.with_docker:
            answers[self.engine.title] = self.engine.is_ready()
        return answers

    def describe(self) -> dict[str, Any]:
        """What `state.json` holds: addresses with passwords, and where things are."""
        rabbitmq = self.rabbitmq
        return {
            "instance": self.places.name,
            "amqp_url": rabbitmq.amqp_url,
            "rabbitmq_admin": ADMIN,
            "rabbitmq_admin_password": rabbitmq.admin_password,
            "console_url": rabbitmq.console_url,
            "rabbitmq_data": str(self.places.data / "rabbitmq"),
            "management_url": rabbitmq.management_url,
            "prometheus_url": rabbitmq.prometheus_url,
            "postgres_url": self.postgres.url,
            "docker_host": self.engine.host if self.with_docker else None,
            # Containers with this label are removed by `down`.
            "docker_label": {LABEL: self.places.mark},
            "logs": str(self.places.logs),
        }

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One `up` or `down` of an instance at a time."""
        self.places.prepare()
        lock = FileLock(self.places.lock_file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(self.places.name, "waits for another run of this command")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def instance(name: str) -> Instance:
    """The instance of this name in this checkout."""
    return Instance(Places(checkout_root(), name))


def known_instances() -> list[str]:
    """The names of this checkout's instances that have data on this machine."""
    directory = Places(checkout_root(), "any").data.parent
    return sorted(path.name for path in directory.glob("*") if path.is_dir())
