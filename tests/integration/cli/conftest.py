"""The command line of somebody who has a gateway and a project."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from qslice.cli import main
from qslice.sdk import Client

from tests.support.system import System


@dataclass(frozen=True)
class Done:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [orjson.loads(line) for line in self.lines]


Qslice = Callable[..., Done]


@pytest.fixture
def qslice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Qslice:
    """Runs `qslice WORDS…` in this process, with its own exit code and output."""

    def run(*words: str, stdin: str = "") -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["qslice", *words])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run


@pytest.fixture
def system(system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    """The same, and alice's environment."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("QSLICE_URL", system.url)
    monkeypatch.setenv("QSLICE_TOKEN", system.tokens.make("alice"))
    monkeypatch.setenv("QSLICE_PROJECT", "lab")
    monkeypatch.setenv("COLUMNS", "200")
    return system


@pytest.fixture
def client(system: System) -> Iterator[Client]:
    with system.client("lab") as client:
        yield client
