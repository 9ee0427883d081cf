"""What the tests of several parts start alike."""

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
    database_url: str,
    broker_url: str,
    management_url: str,
) -> Iterator[System]:
    """A gateway, running, where alice has the project `lab`."""
    system = System(
        start_process, tmp_path, broker_url, database_url, management_url, QSLICE_WORKERS="1"
    )
    system.gateway()
    system.make_project("lab")
    yield system
    system.close()
