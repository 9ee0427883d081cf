"""A template database with the gateway's schema: migrated once, copied for each test."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from pathlib import Path

import psycopg
from filelock import FileLock
from psycopg import sql

from tests.support.platform import Platform, create_database, database_url, drop_database

_PREFIX = "schema_"


def schema_template(platform: Platform, lock: Path) -> str:
    """The name of the template for the present migrations; made under `lock` where missing.

    It appears by a rename once all migrations are applied: a killed run leaves no half of it.
    """
    name = f"{_PREFIX}{_digest()}"
    admin = platform.postgres_url
    with FileLock(lock):
        known = _templates(admin)
        if name in known:
            return name
        for stale in known:
            drop_database(admin, stale)
        scratch = f"{name}_new"
        create_database(admin, scratch)
        # Imported here: unit tests of other parts do without the gateway.
        upgrade = importlib.import_module("qslice_gateway.store.migrate").upgrade
        upgrade(database_url(admin, scratch))
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(rename.format(sql.Identifier(scratch), sql.Identifier(name)))
    return name


def _templates(admin_url: str) -> list[str]:
    query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
    with psycopg.connect(admin_url) as connection:
        return [str(row[0]) for row in connection.execute(query, (_PREFIX,))]


def _digest() -> str:
    spec = importlib.util.find_spec("qslice_gateway.store")
    assert spec is not None, "qslice_gateway.store is not installed"
    assert spec.origin is not None
    digest = hashlib.sha256()
    for path in sorted(Path(spec.origin).parent.rglob("*")):
        if path.suffix in {".py", ".sql", ".mako", ".ini"}:
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]
