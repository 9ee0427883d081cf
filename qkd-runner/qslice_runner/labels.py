"""The labels on everything that the runner makes, by which it and an operator find it again."""

from collections.abc import Mapping

JOB = "qslice.job"
BATCH = "qslice.batch"
HOST = "qslice.worker-host"
#: The state folder, and the process among all that used it.
STATE = "qslice.state"
RUNNER = "qslice.runner"
CHECKOUT = "qslice.checkout"


def filters(labels: Mapping[str, str]) -> dict[str, list[str]]:
    """The filter for things that have all of these labels."""
    return {"label": [f"{name}={value}" for name, value in labels.items()]}


def own_labels(host: str, state: str, checkout: str | None) -> dict[str, str]:
    """On every image, container, volume and network of the runners of one state folder."""
    given = {HOST: host, STATE: state}
    return {**given, CHECKOUT: checkout} if checkout else given
