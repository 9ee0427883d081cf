"""The statements that change states ask the one table."""

import pytest
from qslice.states import FINAL, State, before
from qslice_gateway.store.transitions import change


@pytest.mark.parametrize("state", [state for state in State if before(state)])
def test_the_guard_of_a_change_holds_the_states_that_the_table_allows(state: State) -> None:
    statement = change(state, "SELECT 'j' AS job_id")
    guard = statement.split("j.state IN (")[1].split(")")[0]
    assert guard == ", ".join(f"'{one}'" for one in before(state))


@pytest.mark.parametrize("state", [state for state in State if before(state)])
def test_every_change_writes_an_event_in_the_same_statement(state: State) -> None:
    statement = change(state, "SELECT 'j' AS job_id")
    assert statement.count("INSERT INTO job_events") == 1
    assert ";" not in statement


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_state_sets_the_end_and_drops_the_lease(state: State) -> None:
    statement = change(state, "SELECT 'j' AS job_id")
    assert "finished_at = now()" in statement
    assert "lease_until = NULL" in statement


def test_a_claim_may_pass_a_state_that_the_table_allows_on_the_way() -> None:
    statement = change(State.RUNNING, "SELECT 'j' AS job_id", through=State.QUEUED)
    assert "j.state IN ('waiting', 'queued')" in statement
    assert "'queued', NULL::jsonb FROM moved m\n    WHERE m.was IN ('waiting')" in statement


def test_a_way_that_the_table_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="no job goes from waiting to succeeded"):
        change(State.SUCCEEDED, "SELECT 'j' AS job_id", through=State.WAITING)


def test_no_change_leads_back_to_waiting() -> None:
    assert before(State.WAITING) == ()
