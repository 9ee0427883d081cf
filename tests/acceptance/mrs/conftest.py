"""A broker with the platform's queues, a stand-in registry of its own, and a real publisher."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mrs import Mrs, start_mrs
from tests.support.processes import ProcessStarter, ServiceProcess
from tests.support.publications import Wire, open_wire


@pytest.fixture
def mrs(start_process: ProcessStarter, tmp_path: Path) -> Mrs:
    return start_mrs(start_process, tmp_path / "mrs")


@pytest.fixture
def wire(broker_url: str) -> Iterator[Wire]:
    with open_wire(broker_url) as opened:
        yield opened


class Publishers:
    """Starts publishers between one broker and one registry."""

    def __init__(self, start_process: ProcessStarter, mrs: Mrs, broker_url: str) -> None:
        self._start, self._mrs, self._broker_url = start_process, mrs, broker_url

    def __call__(self, **environment: str) -> ServiceProcess:
        process = self._start(
            "qslice-mrs", env=self._mrs.environment(self._broker_url, **environment)
        )
        process.wait_for_log("publishing")
        return process


@pytest.fixture
def publisher(start_process: ProcessStarter, mrs: Mrs, broker_url: str) -> Publishers:
    return Publishers(start_process, mrs, broker_url)
