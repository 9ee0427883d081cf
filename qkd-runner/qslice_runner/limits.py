"""Whether this runner may give a run what it asks for. Pure."""

from qslice.faults import UserFault
from qslice.messages.run import Run

from qslice_runner.engine import Offer
from qslice_runner.settings import RunnerSettings


def offer(settings: RunnerSettings, cpus: float, memory_mb: int) -> Offer:
    """What one run gets at the most: what the engine has, or less by the operator's word."""
    return Offer(
        cpus=min(settings.max_cpus or cpus, cpus),
        memory_mb=min(settings.max_memory_mb or memory_mb, memory_mb),
    )


def check(run: Run, settings: RunnerSettings, offer: Offer) -> None:
    """Raises `UserFault` `limits_exceeded` or `network_forbidden`."""
    asked = (
        ("limits.cpus", run.limits.cpus, offer.cpus),
        ("limits.memory_mb", run.limits.memory_mb, offer.memory_mb),
        ("limits.pids", run.limits.pids, settings.max_pids),
        ("limits.disk_mb", run.limits.disk_mb, settings.max_disk_mb),
        ("walltime_s", run.walltime_s, settings.max_walltime_s),
    )
    for field, wanted, most in asked:
        if wanted > most:
            raise UserFault(
                "limits_exceeded", f"{field}: {wanted:g} is asked for, this runner gives {most:g}"
            )
    if run.limits.network and not settings.allow_network:
        raise UserFault("network_forbidden", "limits.network: this runner gives runs no network")
