"""The states of a job and the moves between them: one table, which everything else asks."""

from enum import StrEnum


class State(StrEnum):
    #: In the database, not yet on its queue.
    WAITING = "waiting"
    QUEUED = "queued"
    #: Claimed by a worker.
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    #: The user's fault, or the experiment's own failure.
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    #: The system tried as often as it may.
    DEAD = "dead"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.QUEUED, State.CANCELLED, State.DEAD}),
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED, State.DEAD, State.FAILED}),
    State.RUNNING: frozenset(
        {
            State.QUEUED,
            State.SUCCEEDED,
            State.FAILED,
            State.CANCELLED,
            State.TIMED_OUT,
            State.DEAD,
        }
    ),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.TIMED_OUT: frozenset(),
    State.DEAD: frozenset(),
}

FINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)
ACTIVE = frozenset(State) - FINAL


def may(before: State | str, after: State | str) -> bool:
    """Whether a job may go from one state to the other in one step."""
    return State(after) in TRANSITIONS[State(before)]


def before(after: State | str) -> tuple[State, ...]:
    """The states from which a job may come to this one, for the guard of an update."""
    return tuple(state for state in State if may(state, after))
