"""What a container of a run may do: nothing but compute, within its limits. Pure."""

from collections.abc import Sequence
from typing import Any

from docker.types import LogConfig, Mount, Ulimit
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


def host_config(
    limits: Limits, *, network: str, init_volume: str, volumes: Sequence[str]
) -> dict[str, Any]:
    """Arguments of `create_host_config`. `volumes`: what the image declares as its own."""
    room = f"rw,nosuid,nodev,exec,mode=1777,size={limits.disk_mb}m"
    room += f",nr_inodes={limits.disk_mb * _INODES_PER_MB}"
    mounts = [Mount(INIT_FOLDER, init_volume, type="volume", read_only=True)]
    # A volume would be a way to fill the disk: its files are there, but only to be read.
    mounts += [
        Mount(path, None, type="volume", read_only=True)
        for path in volumes
        if path.rstrip("/") not in WRITABLE
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
        "tmpfs": dict.fromkeys(WRITABLE, room),
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
