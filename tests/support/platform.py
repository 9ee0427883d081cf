"""The real parts that tests run against: a broker, a database server and a Docker engine."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
from psycopg import sql
from qslice_native.instance import Instance


@dataclass(frozen=True)
class Platform:
    """Addresses of the parts; each URL holds the administrator's name and password."""

    amqp_url: str
    management_url: str
    postgres_url: str
    docker_host: str
    #: To put on every container that a test makes.
    docker_label: dict[str, str]

    @classmethod
    def of(cls, instance: Instance) -> Platform:
        """The platform of an instance, started where it does not run."""
        state = instance.describe() if all(instance.status().values()) else instance.up()
        return cls(**{field.name: state[field.name] for field in fields(cls)})


@contextmanager
def fresh_vhost(platform: Platform) -> Iterator[str]:
    """An AMQP URL with a virtual host of its own, removed with its connections at the end."""
    name = f"test-{secrets.token_hex(6)}"
    user = urlsplit(platform.amqp_url).username
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    with httpx.Client(base_url=platform.management_url, timeout=60, trust_env=False) as api:
        api.put(f"/api/vhosts/{name}").raise_for_status()
        try:
            api.put(f"/api/permissions/{name}/{user}", json=everything).raise_for_status()
            yield f"{platform.amqp_url.removesuffix('/%2F')}/{name}"
        finally:
            api.delete(f"/api/vhosts/{name}").raise_for_status()


@contextmanager
def fresh_database(platform: Platform, template: str = "template0") -> Iterator[str]:
    """The URL of a database of its own, a copy of `template`, dropped at the end."""
    name = f"test_{secrets.token_hex(6)}"
    create_database(platform.postgres_url, name, template)
    try:
        yield database_url(platform.postgres_url, name)
    finally:
        drop_database(platform.postgres_url, name)


def database_url(admin_url: str, name: str) -> str:
    """`admin_url` with another database."""
    return urlunsplit(urlsplit(admin_url)._replace(path=f"/{name}"))


def create_database(admin_url: str, name: str, template: str = "template0") -> None:
    """Make a database; without a checkpoint, which would wait for the disk."""
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY wal_log")
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))


def drop_database(admin_url: str, name: str) -> None:
    """Drop a database, and end the sessions that a killed process left in it."""
    statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(statement.format(sql.Identifier(name)))
