"""The first day: the database and the virtual host, each with its own user, from admins' URLs."""

from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql

from qslice_gateway.broker import Broker
from qslice_gateway.management import Management, vhost_of
from qslice_gateway.settings import SetupSettings
from qslice_gateway.store.migrate import upgrade


def set_up(settings: SetupSettings) -> Iterator[str]:
    """Make what is missing, and tell each step once it is done.

    Names and passwords are those in the URLs that gateway and ledger are given: they get a
    database and a virtual host of their own, and no right beyond.
    """
    database_url = settings.database_url.get_secret_value()
    parts = urlsplit(database_url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    name = unquote(parts.path[1:])
    if not user or not password or not name:
        raise SystemExit("QSLICE_DATABASE_URL: must name user, password and database")
    with psycopg.connect(settings.database_admin_url.get_secret_value(), autocommit=True) as admin:
        _make_role(admin, user, password)
        _make_database(admin, name, user)
    yield f"database {name} of {user}"
    upgrade(database_url)
    yield "its schema"

    amqp_url = settings.amqp_url.get_secret_value()
    broker = urlsplit(amqp_url)
    management = Management(settings.rabbitmq_management_url.get_secret_value(), vhost_of(amqp_url))
    management.make_vhost()
    management.make_service_user(unquote(broker.username or ""), unquote(broker.password or ""))
    management.close()
    yield f"virtual host {vhost_of(amqp_url)} of {unquote(broker.username or '')}"
    connections = Broker(amqp_url)
    connections.declare_system()
    connections.close()
    yield "its exchanges and queues"


def _make_role(admin: psycopg.Connection[tuple[object, ...]], user: str, password: str) -> None:
    """Who is the administrator keeps the password that they came with."""
    if user == admin.info.user:
        return
    known = admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [user]).fetchone()
    statement = sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
        sql.SQL("ALTER" if known else "CREATE"), sql.Identifier(user), sql.Literal(password)
    )
    admin.execute(statement)


def _make_database(admin: psycopg.Connection[tuple[object, ...]], name: str, owner: str) -> None:
    known = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
    if known is None:
        # To give a database away one must be a member of who gets it.
        admin.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(owner)))
        statement = sql.SQL("CREATE DATABASE {} OWNER {}")
        admin.execute(statement.format(sql.Identifier(name), sql.Identifier(owner)))
        revoke = sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC")
        admin.execute(revoke.format(sql.Identifier(name)))
