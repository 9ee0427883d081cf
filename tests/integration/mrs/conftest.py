"""One stand-in registry for all tests of a worker, as new for each."""

from collections.abc import Iterator

import pytest

from tests.support.mrs import Mrs, shared_mrs


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mrs]:
    with shared_mrs(tmp_path_factory.mktemp("mrs")) as running:
        yield running


@pytest.fixture
def mrs(_shared: Mrs) -> Iterator[Mrs]:
    """The stand-in, without faults."""
    yield _shared
    _shared.reset()
