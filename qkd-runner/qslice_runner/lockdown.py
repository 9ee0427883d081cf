"""What a container of a run may do: nothing but compute, within its limits. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from docker.types import DriverConfig, LogConfig, Mount, Ulimit
from qslice.messages.run import Limits

NOBODY = "65534:65534"
INIT_FOLDER = "/.qslice"
INIT = f"{INIT_FOLDER}/init"
OUTPUT = "/output"
#: Writable, each with the size of the limit; emptied between the tasks of a warm container.
WRITABLE = (OUTPUT, "/tmp")  # noqa: S108 - the container's own
_INODES_PER_MB = 256
_OPEN_FILES = 8192


def user(wanted: str) -> str:
    """The image's own user unless that is root; a name may still turn out to be root's."""
    name = wanted.partition(":")[0].strip()
    is_root = name in ("", "root") or (name.isdigit() and int(name) == 0)
    return NOBODY if is_root else wanted


def declares_writable(declared: Sequence[str]) -> bool:
    """Whether an image declares one of the writable folders as a volume of its own."""
    return any(path.rstrip("/") in WRITABLE for path in declared)


def data_volumes(name: str, declared: Sequence[str]) -> dict[str, str]:
    """Volumes for the folders that an image declares as such, by their folders."""
    folders = [path for path in declared if path.rstrip("/") not in (*WRITABLE, INIT_FOLDER)]
    return {path: f"{name}-data-{number}" for number, path in enumerate(folders)}


def host_config(
    limits: Limits,
    *,
    network: str,
    init_volume: str,
    volumes: Mapping[str, str],
    as_volumes: bool,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """Arguments of `create_host_config`. `volumes`: see `data_volumes`.

    `as_volumes`: the writable folders become anonymous volumes on a tmpfs. They do not take the
    mode of the image's folder, as runc before 1.1.8 does it, nor make way for a volume that the
    image declares; but each takes the engine a moment more.
    """
    options = f"nosuid,nodev,mode=1777,size={limits.disk_mb}m"
    options += f",nr_inodes={limits.disk_mb * _INODES_PER_MB}"
    # With labels: where the volume is gone, the engine makes it, empty.
    mounts = [
        Mount(INIT_FOLDER, init_volume, type="volume", read_only=True, labels=dict(labels)),
    ]
    # A volume would be a way to fill the disk: its files are there, but only to be read.
    mounts += [
        Mount(path, volume, type="volume", read_only=True, labels=dict(labels))
        for path, volume in volumes.items()
    ]
    if as_volumes:
        room = DriverConfig("local", {"type": "tmpfs", "device": "tmpfs", "o": options})
        mounts += [
            Mount(path, None, type="volume", no_copy=True, driver_config=room, labels=dict(labels))
            for path in WRITABLE
        ]
    memory = limits.memory_mb * 1024 * 1024
    return {
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        "network_mode": network if limits.network else "none",
        "nano_cpus": max(10_000_000, int(limits.cpus * 1_000_000_000)),
        "mem_limit": memory,
        # The sum of memory and swap: no swap.
        "memswap_limit": memory,
        # The first process is one more.
        "pids_limit": limits.pids + 1,
        "shm_size": limits.disk_mb * 1024 * 1024,
        "tmpfs": {} if as_volumes else dict.fromkeys(WRITABLE, f"rw,exec,{options}"),
        "mounts": mounts,
        "ulimits": [
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="nofile", soft=_OPEN_FILES, hard=_OPEN_FILES),
        ],
        "ipc_mode": "private",
        "log_config": LogConfig(type="none"),
        "privileged": False,
        "auto_remove": False,
        "restart_policy": {"Name": "no"},
    }
