"""A database of the test's own with one project."""

from collections.abc import Iterator

import pytest

from tests.support.store import Store, open_store


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with open_store(database_url) as opened:
        yield opened
