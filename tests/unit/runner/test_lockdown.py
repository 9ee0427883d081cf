"""What a container may do, and how much of it."""

from __future__ import annotations

import pytest
from qslice.faults import UserFault
from qslice.messages.run import Limits, Run
from qslice_runner import limits, lockdown

from tests.unit.runner.settings import settings


def config(*declared: str, **given: object) -> dict[str, object]:
    return lockdown.host_config(
        Limits.of(given),
        network="lab",
        init_volume="init",
        volumes=lockdown.data_volumes("name", declared),
        as_volumes=lockdown.declares_writable(declared),
        labels={"a": "b"},
    )


@pytest.mark.parametrize("wanted", ["", "root", "0", "0:0", "00", "root:staff", "0:1000"])
def test_root_becomes_nobody(wanted: str) -> None:
    assert lockdown.user(wanted) == lockdown.NOBODY


@pytest.mark.parametrize("wanted", ["app", "1000", "1000:1000", "app:staff"])
def test_another_user_stays(wanted: str) -> None:
    assert lockdown.user(wanted) == wanted


def test_a_container_has_no_capability_no_network_and_nothing_to_write_but_tmpfs() -> None:
    given = config("/data", disk_mb=3)
    assert given["cap_drop"] == ["ALL"]
    assert given["security_opt"] == ["no-new-privileges:true"]
    assert given["read_only"] is True
    assert given["network_mode"] == "none"
    assert given["privileged"] is False
    room = given["tmpfs"]
    assert isinstance(room, dict)
    assert set(room) == {"/output", "/tmp"}
    assert all("size=3m" in options and "nosuid" in options for options in room.values())
    mounts = given["mounts"]
    assert isinstance(mounts, list)
    assert {mount["Target"]: mount["Source"] for mount in mounts} == {
        "/.qslice": "init",
        "/data": "name-data-0",
    }
    assert all(mount["ReadOnly"] for mount in mounts)


def test_a_volume_that_the_image_declares_for_a_writable_folder_stays_bounded() -> None:
    given = config("/tmp", "/output/", "/.qslice", disk_mb=3)
    assert given["tmpfs"] == {}
    mounts = given["mounts"]
    assert isinstance(mounts, list)
    rooms = {
        mount["Target"]: mount["VolumeOptions"]["DriverConfig"]["Options"]
        for mount in mounts
        if not mount["ReadOnly"]
    }
    assert set(rooms) == {"/output", "/tmp"}
    assert all(room["type"] == "tmpfs" and "size=3m" in room["o"] for room in rooms.values())
    assert [mount["Target"] for mount in mounts].count("/.qslice") == 1


def test_limits_are_the_runs_and_there_is_no_swap() -> None:
    given = config(cpus=0.001, memory_mb=64, pids=7, network=True)
    assert given["nano_cpus"] == 10_000_000
    assert given["mem_limit"] == given["memswap_limit"] == 64 * 1024 * 1024
    assert given["pids_limit"] == 8
    assert given["network_mode"] == "lab"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"limits": {"cpus": 2.5}}, "limits.cpus"),
        ({"limits": {"memory_mb": 2049}}, "limits.memory_mb"),
        ({"limits": {"pids": 4097}}, "limits.pids"),
        ({"limits": {"disk_mb": 4097}}, "limits.disk_mb"),
        ({"walltime_s": 61}, "walltime_s"),
    ],
)
def test_more_than_the_runner_gives_is_refused_naming_the_field(
    asked: dict[str, object], field: str
) -> None:
    given = settings(max_memory_mb=2048, max_walltime_s=60)
    offer = limits.offer(given, cpus=2.0, memory_mb=8192)
    base = {"repository": "https://h/x", "command": ["x"], "walltime_s": 60}
    limits.check(Run.of(base), given, offer)
    with pytest.raises(UserFault, match=field) as refused:
        limits.check(Run.of({**base, **asked}), given, offer)
    assert refused.value.code == "limits_exceeded"


def test_a_network_is_given_only_where_the_operator_allows_it() -> None:
    run = Run.of({"repository": "https://h/x", "command": ["x"], "limits": {"network": True}})
    offer = limits.offer(settings(), cpus=2.0, memory_mb=8192)
    with pytest.raises(UserFault) as refused:
        limits.check(run, settings(), offer)
    assert refused.value.code == "network_forbidden"
    limits.check(run, settings(allow_network=True), offer)
