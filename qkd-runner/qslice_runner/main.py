"""`qslice-runner`: the service."""

from qslice.worker.service import run_service

from qslice_runner.handler import RunHandler
from qslice_runner.settings import RunnerSettings


def main() -> None:
    """Runs until it is told to stop (SIGTERM)."""
    run_service(RunHandler, RunnerSettings)
