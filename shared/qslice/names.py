"""Every name that goes over the broker: queues, exchanges, routing keys, headers."""

import re

RUN = "run"
OPENSTACK = "openstack"
K8S = "k8s"
KINDS = (RUN, OPENSTACK, K8S)

EXCHANGE_TODO = "qslice.todo"
EXCHANGE_EVENTS = "qslice.events"
EXCHANGE_DONE = "qslice.done"
EXCHANGE_CONTROL = "qslice.control"
EXCHANGE_DEAD = "qslice.dead"

#: Requests of workers to the ledger: claims, heartbeats, confirmations, the list of projects.
QUEUE_RPC = "qslice.ledger.rpc"
QUEUE_EVENTS = "qslice.ledger.events"
QUEUE_DONE = "qslice.ledger.done"
QUEUE_DEAD = "qslice.ledger.dead"
QUEUE_MRS = "qslice.mrs"
QUEUE_MRS_DEAD = "qslice.mrs.dead"

#: Header of a message on a ToDo queue that the ledger put there; a lab's message has none.
HEADER_JOB = "x-qslice-job"
HEADER_ATTEMPT = "x-qslice-attempt"
#: Headers of a message on a Dead queue.
HEADER_REASON = "x-qslice-reason"
HEADER_FIELD = "x-qslice-field"
HEADER_QUEUE = "x-qslice-queue"
HEADER_OWNER = "x-qslice-owner"

_PROJECT = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
PROJECT_RULE = "1 to 63 of a-z, 0-9 and '-', neither first nor last a '-'"
#: Projects that no one may make: their queues would be the system's own.
RESERVED = frozenset({"qslice", "amq"})


def check_project(name: str) -> str:
    """The name itself; raises `ValueError` that tells the rule where it breaks it."""
    if not _PROJECT.match(name):
        raise ValueError(f"{name[:80]!r} is no project name: {PROJECT_RULE}")
    if name in RESERVED:
        raise ValueError(f"{name!r} is a reserved name")
    return name


def todo(project: str, kind: str = RUN) -> str:
    """The queue that a project's jobs of a kind wait in; also their routing key."""
    return f"{project}.ToDo" if kind == RUN else f"{project}.ToDo.{kind}"


def done(project: str) -> str:
    return f"{project}.Done"


def dead(project: str) -> str:
    """The queue of what could not be done; also its routing key on `qslice.dead`."""
    return f"{project}.Dead"


def queues(project: str) -> tuple[str, ...]:
    """All queues of a project."""
    return (*(todo(project, kind) for kind in KINDS), done(project), dead(project))


def event_key(project: str, kind: str, event: str) -> str:
    return f"{project}.{kind}.{event}"


def done_key(project: str, kind: str, state: str) -> str:
    return f"{project}.{kind}.{state}"


def project_of(queue: str) -> str:
    """The project whose queue it is; raises `ValueError` for any other name."""
    project = queue.partition(".")[0]
    if queue not in queues(project):
        raise ValueError(f"{queue[:120]!r} is no queue of a project")
    return check_project(project)
