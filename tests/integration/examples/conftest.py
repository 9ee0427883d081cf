"""A lab of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.lab import Lab, fresh_lab
from tests.support.platform import Platform


@pytest.fixture
def lab(platform: Platform, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    with fresh_lab(platform, broker_url) as lab:
        for name, value in lab.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("QSLICE_GIT_DIR", "/srv/git")
        yield lab
