"""Connections to PostgreSQL: pools for the gateway's threads and for the ledger's tasks."""

import select
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

Row = dict[str, Any]
Connection = psycopg.Connection[DictRow]
AsyncConnection = psycopg.AsyncConnection[DictRow]
Pool = ConnectionPool[Connection]
AsyncPool = AsyncConnectionPool[AsyncConnection]

#: JIT compiles for longer than these statements run.
_OPTIONS = "-c jit=off -c TimeZone=UTC"
#: The ledger's statements all go by an index. A plan made while a table was small or its statistics
#: were old would read all of it once it has grown, so those plans are ruled out.
_LEDGER_OPTIONS = f"{_OPTIONS} -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"


def _settings(options: str, name: str) -> dict[str, Any]:
    return {
        "autocommit": True,
        "row_factory": dict_row,
        "options": options,
        "application_name": name,
        "connect_timeout": 10,
        # A host that vanished without a word is noticed within half a minute.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 4,
        "tcp_user_timeout": 30_000,
    }


def _quiet(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether the server said nothing since the last answer; when it goes, it says so.

    Costs a system call where `check_connection` alone costs a round trip for each request.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


def _check(connection: Connection) -> None:
    if not _quiet(connection):
        ConnectionPool.check_connection(connection)


async def _check_async(connection: AsyncConnection) -> None:
    if not _quiet(connection):
        await AsyncConnectionPool.check_connection(connection)


def open_pool(url: str, *, size: int = 8, name: str = "qslice-gateway", wait_s: float = 10) -> Pool:
    """A pool for threads; connections in autocommit, rows as dictionaries, times in UTC.

    A connection that the server closed is noticed when it is taken, and replaced. `wait_s`: how
    long a caller waits for a connection before `psycopg_pool.PoolTimeout`.
    """
    pool: Pool = ConnectionPool(
        url,
        connection_class=Connection,
        min_size=1,
        max_size=size,
        timeout=wait_s,
        kwargs=_settings(_OPTIONS, name),
        check=_check,
        open=False,
        name=name,
    )
    pool.open(wait=False)
    return pool


def open_async_pool(url: str, *, size: int = 8, name: str = "qslice-ledger") -> AsyncPool:
    """The same for asyncio, not yet open (`await pool.open()`), with plans that go by indexes."""
    return AsyncConnectionPool(
        url,
        connection_class=AsyncConnection,
        min_size=1,
        max_size=size,
        timeout=30,
        kwargs=_settings(_LEDGER_OPTIONS, name),
        check=_check_async,
        open=False,
        name=name,
    )
