"""Every change of a job's state: one guarded update that writes its event in the same statement.

The guard comes from the table in `qslice.states`. Rows are locked in the order of their ids, so
that two batches with the same jobs cannot wait for each other.
"""

from collections.abc import Mapping

from qslice import names
from qslice.states import FINAL, State, before

#: The answer of a job that the ledger itself ends, over `j` (the job) and `error` (its SQL).
_RESULT = """jsonb_strip_nulls(jsonb_build_object(
    'job_id', j.id, 'id', coalesce(j.producer_id, j.payload->>'id'), 'project', j.project,
    'kind', j.kind, 'state', '{state}', 'attempt', j.attempt, 'batch_id', j.batch_id,
    'labels', j.labels, 'error', {error}, 'worker', j.worker, 'submitted_at', j.submitted_at,
    'started_at', j.started_at, 'finished_at', now(),
    'duration_s', round(extract(epoch FROM now() - j.started_at), 3),
    'ID_projet', j.payload->'ID_projet', 'ID_tache', j.payload->'ID_tache'))"""


def _in(states: tuple[State, ...]) -> str:
    return ", ".join(f"'{state}'" for state in states)


def change(
    to: State,
    items: str,
    *,
    sets: Mapping[str, str] | None = None,
    guard: str = "true",
    data: str = "NULL::jsonb",
    keep: str = "",
    through: State | None = None,
    first: Mapping[str, str] | None = None,
    steps: Mapping[str, str] | None = None,
    answer: str = "SELECT m.id AS job_id, m.attempt FROM moved m",
) -> str:
    """The statement that moves the jobs of `items` to a state, where the table allows it.

    items: a query with a column `job_id` and what `sets`, `guard` and `data` use, each job once.
    sets: further columns and their SQL, over `j` (the job before) and `i` (its item).
    guard: what must hold besides the state, over `j` and `i`.
    data: what the event says, over `j` (the job after) and `i`.
    keep: columns of `i` that `steps` and `answer` read in `moved`, beside the job after and `was`.
    through: a state that the job may still have to pass on the way (its event is written too).
    first: parts of the statement that come before `items` and may be used there.
    steps: further parts of the statement by name, over `moved`, such as rows for the outbox.
    """
    allowed = before(to)
    earlier: tuple[State, ...] = ()
    if through is not None:
        if through not in allowed:
            raise ValueError(f"no job goes from {through} to {to}")
        # Not from where it is going: a job that runs is not claimed a second time.
        earlier = tuple(state for state in before(through) if state not in (to, *allowed))
        allowed = (*earlier, *allowed)
    assignments = {"state": f"'{to}'", **(sets or {})}
    if to in FINAL:
        assignments = {"finished_at": "now()", "lease_until": "NULL", **assignments}
    written = ", ".join(f"{column} = {value}" for column, value in assignments.items())
    passed = (
        f"""SELECT m.id, m.attempt, '{through}', NULL::jsonb FROM moved m
    WHERE m.was IN ({_in(earlier)}) UNION ALL"""
        if earlier
        else ""
    )
    leading = "".join(f"{name} AS ({sql}),\n" for name, sql in (first or {}).items())
    more = "".join(f",\n{name} AS ({sql})" for name, sql in (steps or {}).items())
    return f"""
WITH {leading}items AS ({items}),
picked AS (
    SELECT j.id AS picked_id, j.state AS was, i.*
    FROM items i JOIN jobs j ON j.id = i.job_id
    WHERE j.state IN ({_in(allowed)}) AND {guard}
    ORDER BY j.id FOR NO KEY UPDATE OF j
),
moved AS (
    UPDATE jobs j SET {written} FROM picked i WHERE j.id = i.picked_id
    RETURNING j.*, i.was, {data} AS note{", " + keep if keep else ""}
),
noted AS (
    INSERT INTO job_events (job_id, attempt, type, data)
    {passed} SELECT m.id, m.attempt, m.state, m.note FROM moved m
){more}
{answer}"""


def ended_by_ledger(state: State, error: str) -> dict[str, str]:
    """Columns of a job that ends without a worker's result; `error` is SQL over `j` and `i`."""
    return {
        "result": _RESULT.format(state=state, error=error),
        "error_owner": f"{error}->>'owner'",
        "error_code": f"{error}->>'code'",
    }


#: A step of `change`: tells everybody the result, as a worker would.
TELL_DONE = f"""
    INSERT INTO outbox (lane, exchange, routing_key, body, message_id, job_id, attempt)
    SELECT 0, '{names.EXCHANGE_DONE}', m.project || '.' || m.kind || '.' || m.state,
           convert_to(m.result::text, 'UTF8'), m.id || ':' || m.attempt, m.id, m.attempt
    FROM moved m"""

#: A step of `change`: takes back what still waits to be put on a queue. Rows that a relay holds
#: at this moment are left to it: their message is refused when it is claimed.
TAKE_BACK = f"""
    DELETE FROM outbox WHERE id IN (
        SELECT o.id FROM outbox o JOIN moved m ON o.job_id = m.id
        WHERE o.exchange = '{names.EXCHANGE_TODO}' FOR UPDATE OF o SKIP LOCKED)"""

#: The queue of a job's kind, over the alias `m`; the same rule as `qslice.names.todo`.
QUEUE = f"m.project || CASE m.kind WHEN '{names.RUN}' THEN '.ToDo' ELSE '.ToDo.' || m.kind END"
