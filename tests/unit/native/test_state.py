"""Files of an instance: whole, private, and made anew where a crash damaged them."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest
from qslice_native.files import read_json, write_json
from qslice_native.places import Places
from qslice_native.say import NativeError
from qslice_native.settings import LOOPBACK, InstanceSettings, pick_free_port, port_is_free


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    return tmp_path / "settings.json"


def test_a_port_and_a_secret_stay_the_same_for_every_later_run(settings_file: Path) -> None:
    first = InstanceSettings(settings_file)
    port, secret = first.port("amqp"), first.secret("admin")
    again = InstanceSettings(settings_file)
    assert (again.port("amqp"), again.secret("admin")) == (port, secret)
    assert again.port("other") != port
    assert again.secret("other") != secret


@pytest.mark.parametrize("damage", ["", "{", '["a list"]', '{"amqp": 12, "admin": "short"}'])
def test_a_damaged_settings_file_is_made_anew(settings_file: Path, damage: str) -> None:
    settings_file.write_text(damage)
    settings = InstanceSettings(settings_file)
    port, secret = settings.port("amqp"), settings.secret("admin")
    assert port > 1024
    assert len(secret) >= 24
    assert read_json(settings_file) == {"amqp": port, "admin": secret}


def test_a_port_that_somebody_took_meanwhile_is_replaced(settings_file: Path) -> None:
    settings = InstanceSettings(settings_file)
    port = settings.port("amqp")
    with socket.socket() as stranger:
        stranger.bind((LOOPBACK, port))
        stranger.listen()
        assert not port_is_free(port)
        settings.repick_busy_ports("amqp")
        assert settings.port("amqp") != port


def test_picked_ports_leave_out_the_taken_ones() -> None:
    assert pick_free_port(taken={1, "not a port"}) >= 20_000


def test_files_with_secrets_are_for_us_alone_and_leave_no_scratch_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("old")
    path.chmod(0o644)
    write_json(path, {"password": "x"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("content", [None, "", "{half", "[1]", "\x00\x01"])
def test_what_is_no_json_object_reads_as_empty(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "state.json"
    if content is not None:
        path.write_text(content)
    assert read_json(path) == {}


def test_two_checkouts_share_no_file(tmp_path: Path) -> None:
    one, two = (Places(tmp_path / name, "demo", tmp_path / "data") for name in "ab")
    assert one.checkout_id != two.checkout_id
    assert one.data != two.data
    assert one.mark == f"{one.checkout_id}/demo"


def test_an_instance_directory_is_private_and_its_links_are_repaired(tmp_path: Path) -> None:
    places = Places(tmp_path / "checkout", "demo", tmp_path / "data")
    places.run.mkdir(parents=True)
    (places.run / "logs").symlink_to(tmp_path / "elsewhere")
    places.prepare()
    places.prepare()
    assert stat.S_IMODE(places.run.stat().st_mode) == 0o700
    assert (places.run / "logs").readlink() == places.logs


@pytest.mark.parametrize("name", ["", "../x", "Demo", "a b", "x" * 17])
def test_an_instance_name_that_could_be_a_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(NativeError, match="instance name"):
        Places(tmp_path, name)
