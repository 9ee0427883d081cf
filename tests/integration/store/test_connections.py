"""Pools and the doorbell, over a database whose connections break."""

import threading
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from qslice_gateway.store import health
from qslice_gateway.store.doorbell import CHANNEL, Doorbell
from qslice_gateway.store.pool import Pool, open_pool

from tests.support.proxy import TcpProxy
from tests.support.store import Store
from tests.support.wait import wait_for


@pytest.fixture
def proxy(database_url: str) -> Iterator[TcpProxy]:
    parts = urlsplit(database_url)
    with TcpProxy(str(parts.hostname), int(parts.port or 5432)) as proxy:
        yield proxy


def through(proxy: TcpProxy, database_url: str) -> str:
    parts = urlsplit(database_url)
    place = f"{parts.username}:{parts.password}@{proxy.host}:{proxy.port}"
    return urlunsplit(parts._replace(netloc=place))


def test_a_broken_connection_is_replaced_before_anybody_gets_it(
    proxy: TcpProxy, database_url: str
) -> None:
    def ask(pool: Pool) -> object:
        with pool.connection() as conn:
            return conn.execute("SELECT 1 AS one").fetchone()

    with open_pool(through(proxy, database_url), size=3) as pool:
        assert ask(pool) == {"one": 1}
        proxy.cut()
        assert ask(pool) == {"one": 1}
        assert proxy.accepted >= 2


def test_many_rings_become_few_notifications_and_one_always_follows_the_last(
    store: Store, database_url: str
) -> None:
    bell = Doorbell(database_url)
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")

        def ring_often() -> None:
            for _ in range(500):
                bell.ring()

        threads = [threading.Thread(target=ring_often) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bell.ring()
        bell.close()
        rung = list(listener.notifies(timeout=1))
    assert 1 <= len(rung) < 2000


def test_the_doorbell_rings_again_after_the_database_was_away(
    proxy: TcpProxy, database_url: str
) -> None:
    bell = Doorbell(through(proxy, database_url))
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")

        def rings() -> bool:
            bell.ring()
            return bool(list(listener.notifies(timeout=0.2, stop_after=1)))

        wait_for(rings, what="a ring")
        proxy.cut()
        wait_for(rings, what="a ring after the cut")
    bell.close()


def test_a_doorbell_that_nobody_rang_closes(database_url: str) -> None:
    Doorbell(database_url).close()


def test_a_ledger_lives_while_its_row_is_fresh(store: Store) -> None:
    assert not health.ledger_alive(store.conn)
    store.sql("INSERT INTO ledgers (name) VALUES ('l1')")
    assert health.ledger_alive(store.conn)
    store.sql("UPDATE ledgers SET seen_at = now() - interval '1 minute'")
    assert not health.ledger_alive(store.conn)


def test_the_outbox_tells_its_depth_and_age(store: Store) -> None:
    assert health.outbox(store.conn) == {"depth": 0, "age_s": None}
    store.submit()
    store.sql("UPDATE outbox SET not_before = now() - interval '10 s'")
    found = health.outbox(store.conn)
    assert found["depth"] == 1
    assert found["age_s"] >= 10
