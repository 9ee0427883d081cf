"""A worker's settings."""

from __future__ import annotations

import pytest
from qslice.settings import load
from qslice.worker.settings import WorkerSettings


@pytest.fixture(autouse=True)
def _broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QSLICE_AMQP_URL", "amqp://worker:secret@127.0.0.1/")


def test_each_process_has_a_name_of_its_own() -> None:
    """Two with one name would take each other's leases for their own."""
    assert load(WorkerSettings).worker_name != load(WorkerSettings).worker_name


def test_metrics_are_off_unless_asked_for() -> None:
    assert load(WorkerSettings).metrics_listen is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QSLICE_SLOTS", "0"),
        ("QSLICE_WORKER_NAME", "a b"),
        ("QSLICE_METRICS_LISTEN", "9464"),
        ("QSLICE_LEASE_S", "0"),
        ("QSLICE_AMQP_URL", "localhost:5672"),
        ("QSLICE_AMQP_URL", "amqp://"),
    ],
)
def test_a_wrong_setting_ends_the_program_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=name):
        load(WorkerSettings)


def test_the_brokers_password_is_not_shown() -> None:
    assert "secret" not in repr(load(WorkerSettings))
