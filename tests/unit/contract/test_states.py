import pytest
from qslice import states
from qslice.states import ACTIVE, FINAL, State, may


def test_the_final_states_are_those_of_the_contract() -> None:
    assert {"succeeded", "failed", "cancelled", "timed_out", "dead"} == FINAL
    assert {"waiting", "queued", "running"} == ACTIVE


@pytest.mark.parametrize("state", sorted(FINAL))
def test_nothing_follows_a_final_state(state: State) -> None:
    assert not any(may(state, following) for following in State)


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_whatever_is_active_can_be_cancelled_and_given_up(state: State) -> None:
    assert may(state, State.CANCELLED)
    assert may(state, State.DEAD)


def test_a_lost_or_failed_attempt_goes_back_to_its_queue() -> None:
    assert may("running", "queued")


@pytest.mark.parametrize(("before", "after"), [("waiting", "running"), ("queued", "succeeded")])
def test_no_step_is_skipped(before: str, after: str) -> None:
    assert not may(before, after)


def test_the_guard_of_an_update_is_the_table_read_backwards() -> None:
    assert set(states.before(State.RUNNING)) == {State.QUEUED}
    assert set(states.before(State.SUCCEEDED)) == {State.RUNNING}
    for after in State:
        assert all(may(state, after) for state in states.before(after))


def test_an_unknown_state_is_an_error() -> None:
    with pytest.raises(ValueError, match="paused"):
        may("paused", "running")
