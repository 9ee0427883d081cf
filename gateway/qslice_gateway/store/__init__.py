"""The database: every table's reads and writes, each SQL statement beside its function.

Functions take a psycopg connection (autocommit, of `pool.open_pool`) and plain values; those that
write more than one statement open their own transaction, so they may also be called inside one.
"""
