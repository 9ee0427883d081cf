"""The registry's database: PostgreSQL by its address, or a SQLite file."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from qslice_mrs_testbed.contract import METADATA_PROFILE

_META = sa.MetaData()
#: Not unique on `identifier`: like the real registry this one does not know a repetition.
OBJECTS = sa.Table(
    "digital_objects",
    _META,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("type", sa.String(32), nullable=False),
    sa.Column("identifier", sa.String(512), nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)
KEYWORDS = sa.Table(
    "keywords",
    _META,
    sa.Column(
        "object_id", sa.Integer, sa.ForeignKey("digital_objects.id", ondelete="CASCADE"), index=True
    ),
    sa.Column("keyword", sa.String(512), nullable=False, index=True),
)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _quick_sqlite(connection: Any, record: Any) -> None:
    del record
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


class Store:
    """Digital objects as whole documents, with the three indexed fields beside them."""

    def __init__(self, database: str | None, folder: Path) -> None:
        if database:
            url = sa.make_url(database).set(drivername="postgresql+psycopg")
            self._engine = sa.create_engine(url, pool_size=16, pool_pre_ping=True)
        else:
            self._engine = sa.create_engine(
                f"sqlite:///{folder / 'registry.sqlite'}",
                poolclass=QueuePool,
                pool_size=16,
                connect_args={"timeout": 30, "check_same_thread": False},
            )
            sa.event.listen(self._engine, "connect", _quick_sqlite)
        _META.create_all(self._engine)

    def create(self, document: dict[str, Any]) -> dict[str, Any]:
        """Store a new object; its document with what the server sets."""
        with self._engine.begin() as connection:
            row = connection.execute(
                OBJECTS.insert().values(
                    type=document["$type"],
                    identifier=document["identifier"],
                    name=document["name"],
                    document="",
                )
            )
            number = int(row.inserted_primary_key[0])  # type: ignore[index]
            whole = document | {
                "internalIdentifier": number,
                "systemCreationDate": _now(),
                "metadataProfile": METADATA_PROFILE,
            }
            self._write(connection, number, whole)
        return whole

    def get(self, number: int) -> dict[str, Any] | None:
        with self._engine.connect() as connection:
            found = connection.execute(
                sa.select(OBJECTS.c.document).where(OBJECTS.c.id == number)
            ).scalar()
        return None if found is None else dict(orjson.loads(found))

    def update(self, number: int, document: dict[str, Any]) -> dict[str, Any] | None:
        """Replace an object; the server's own properties stay. None where there is none."""
        with self._engine.begin() as connection:
            found = connection.execute(
                sa.select(OBJECTS.c.document).where(OBJECTS.c.id == number).with_for_update()
            ).scalar()
            if found is None:
                return None
            before = orjson.loads(found)
            kept = ("internalIdentifier", "systemCreationDate", "metadataProfile")
            whole = document | {name: before[name] for name in kept}
            connection.execute(KEYWORDS.delete().where(KEYWORDS.c.object_id == number))
            self._write(connection, number, whole)
        return whole

    def delete(self, number: int) -> bool:
        with self._engine.begin() as connection:
            connection.execute(KEYWORDS.delete().where(KEYWORDS.c.object_id == number))
            gone = connection.execute(OBJECTS.delete().where(OBJECTS.c.id == number))
        return gone.rowcount > 0

    def find(
        self, where: Sequence[sa.ColumnElement[bool]], first: int, count: int
    ) -> tuple[list[dict[str, Any]], int]:
        """One page of what matches, by id, and how many there are in all."""
        with self._engine.connect() as connection:
            total = connection.execute(
                sa.select(sa.func.count()).select_from(OBJECTS).where(*where)
            ).scalar_one()
            rows = connection.execute(
                sa.select(OBJECTS.c.document)
                .where(*where)
                .order_by(OBJECTS.c.id)
                .offset(first)
                .limit(count)
            ).scalars()
            return [orjson.loads(row) for row in rows], total

    def by_type(self) -> dict[str, int]:
        with self._engine.connect() as connection:
            rows = connection.execute(
                sa.select(OBJECTS.c.type, sa.func.count()).group_by(OBJECTS.c.type)
            )
            return {row[0]: row[1] for row in rows}

    def close(self) -> None:
        self._engine.dispose()

    @staticmethod
    def _write(connection: sa.Connection, number: int, whole: dict[str, Any]) -> None:
        connection.execute(
            OBJECTS.update()
            .where(OBJECTS.c.id == number)
            .values(
                type=whole["$type"],
                identifier=whole["identifier"],
                name=whole["name"],
                document=orjson.dumps(whole).decode(),
            )
        )
        words = sorted({word.lower() for word in whole["keywords"]})
        if words:
            connection.execute(
                KEYWORDS.insert(), [{"object_id": number, "keyword": word} for word in words]
            )
