"""What the documents say of settings and commands is complete."""

from pathlib import Path

import pytest
from qslice.settings import Settings
from qslice.worker.settings import WorkerSettings
from qslice_gateway.ledger.settings import LedgerSettings
from qslice_gateway.settings import GatewaySettings
from qslice_mrs.settings import MrsSettings
from qslice_runner.settings import RunnerSettings

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = (ROOT / "docs" / "OPERATIONS.md").read_text()


@pytest.mark.parametrize(
    "model", [GatewaySettings, LedgerSettings, WorkerSettings, RunnerSettings, MrsSettings]
)
def test_every_setting_is_documented(model: type[Settings]) -> None:
    names = [f"`QSLICE_{name.upper()}`" for name in model.model_fields]
    assert [name for name in names if name not in OPERATIONS] == []


def test_no_setting_is_documented_that_does_not_exist() -> None:
    models = (GatewaySettings, LedgerSettings, WorkerSettings, RunnerSettings, MrsSettings)
    known = {f"QSLICE_{name.upper()}" for model in models for name in model.model_fields}
    rows = [line.split("`")[1] for line in OPERATIONS.splitlines() if line.startswith("| `QSLICE_")]
    assert sorted(set(rows) - known) == []


def test_every_make_target_has_a_line_of_help() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    phony = {
        target
        for line in lines
        if line.startswith(".PHONY:")
        for target in line.removeprefix(".PHONY:").split()
    }
    helped = {line.split(":")[0] for line in lines if "  ## " in line}
    assert phony <= helped
