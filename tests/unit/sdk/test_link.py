"""The address of a broker, before anything is connected."""

import pytest
from qslice.sdk import BrokerError, Lab, Unconfigured


@pytest.mark.parametrize(
    "url",
    [
        "amqp://u:sesame@h:notaport/v",
        "amqp://u:sesame@h:5672/v?heartbeat=soon",
        "ftp://u:sesame@h/v",
    ],
)
def test_a_wrong_address_is_told_without_its_password(url: str) -> None:
    with pytest.raises(BrokerError, match="no address of a broker") as told:
        Lab(url, "lab")
    assert "sesame" not in str(told.value)


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QSLICE_AMQP_URL", "QSLICE_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Unconfigured, match="QSLICE_AMQP_URL"):
        Lab()
    with pytest.raises(Unconfigured, match="QSLICE_PROJECT"):
        Lab("amqp://h")
    with pytest.raises(ValueError, match="no project name"):
        Lab("amqp://h", "No Name")
