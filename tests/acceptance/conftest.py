"""The whole system as real processes, for tests that kill them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ProcessStarter
from tests.support.system import System


@pytest.fixture
def system(
    start_process: ProcessStarter,
    tmp_path: Path,
    broker_url: str,
    database_url: str,
    management_url: str,
) -> Iterator[System]:
    """Nothing of it runs yet."""
    system = System(start_process, tmp_path, broker_url, database_url, management_url)
    yield system
    system.close()
