"""Bring a database to this version's schema."""

from pathlib import Path

#: Of `pg_advisory_lock`: "qslice" as a number. Two that start at once migrate one after the other.
_LOCK = 0x71_73_6C_69_63_65


def upgrade(url: str) -> None:
    """Run the migrations that are missing; safe to call at every start, and by several at once."""
    # Slow imports, needed nowhere else.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, make_url, text
    from sqlalchemy.pool import NullPool

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as guard, engine.connect() as connection:
        guard.execution_options(isolation_level="AUTOCOMMIT")
        guard.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()
