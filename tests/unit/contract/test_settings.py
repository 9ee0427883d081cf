from pathlib import Path

import pytest
from qslice.settings import Settings, load


def test_a_missing_setting_is_named_as_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QSLICE_AMQP_URL", raising=False)
    with pytest.raises(SystemExit, match="QSLICE_AMQP_URL: required, but missing"):
        load(Settings)


def test_a_wrong_setting_is_named_and_its_value_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QSLICE_AMQP_URL", "amqp://a:hunter2@h/")
    monkeypatch.setenv("QSLICE_LOG_FORMAT", "xml")
    with pytest.raises(SystemExit, match="QSLICE_LOG_FORMAT") as ended:
        load(Settings)
    assert "hunter2" not in str(ended.value)


def test_a_secret_comes_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("QSLICE_AMQP_URL", raising=False)
    (tmp_path / "qslice_amqp_url").write_text("amqp://a:hunter2@h/\n")
    monkeypatch.setenv("QSLICE_SECRETS_DIR", str(tmp_path))
    settings = load(Settings)
    assert settings.amqp_url.get_secret_value() == "amqp://a:hunter2@h/"
    assert "hunter2" not in repr(settings)
