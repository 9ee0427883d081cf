"""The schema comes into an empty database, whoever asks for it and however often."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
from qslice_gateway.store.migrate import upgrade


def test_several_processes_may_migrate_at_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(upgrade, empty_database_url) for _ in range(3)]:
            done.result(120)
    with psycopg.connect(empty_database_url) as conn:
        tables = {name for (name,) in conn.execute("SELECT relname FROM pg_class")}
    assert {"projects", "batches", "jobs", "outbox", "job_events", "job_logs"} <= tables
    assert {"dead_letters", "workers", "ledgers"} <= tables


def test_migrating_again_changes_nothing(database_url: str) -> None:
    def fingerprint() -> list[tuple[object, ...]]:
        with psycopg.connect(database_url) as conn:
            return conn.execute(
                """SELECT table_name, column_name, data_type FROM information_schema.columns
                   WHERE table_schema = 'public' ORDER BY 1, 2"""
            ).fetchall()

    before = fingerprint()
    upgrade(database_url)
    assert fingerprint() == before
