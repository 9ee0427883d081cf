"""Settings of a runner for tests without I/O."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qslice_runner.settings import RunnerSettings


def settings(**given: Any) -> RunnerSettings:
    """The defaults, but for what is given."""
    return RunnerSettings(amqp_url="amqp://host", runner_state_dir=Path("/state"), **given)
