"""From the end of a job to what is told of it: a result, an event, or nothing. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from qslice.faults import Error, Fault, Owner, SystemFault, UserFault
from qslice.messages.ledger import Event, EventType
from qslice.messages.result import MAX_MESSAGE, MAX_OUTPUT, MAX_RESULT, Result, tail
from qslice.states import State
from qslice.worker.handler import CancelReason, Failed, Outcome, TimedOut

INTERNAL = "internal"
CANCELLED = Error(owner=Owner.USER, code="cancelled", message="cancelled on request")
#: Characters of each output and bytes of the result, where the broker takes no more.
_SHORT = 2 * 1024
#: Levels of a result; serialisers give up at some hundred.
_MAX_DEPTH = 100


@dataclass(frozen=True)
class About:
    """What every report of one attempt repeats."""

    job_id: str
    project: str
    kind: str
    attempt: int
    worker: str
    producer_id: str | None = None
    batch_id: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    submitted_at: datetime | None = None
    started_at: datetime | None = None


def clean(text: str) -> str:
    """Text that JSON and PostgreSQL can hold: without NUL and lone surrogates."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def verdict(
    about: About,
    ended: Outcome | BaseException,
    stopped: CancelReason | None,
    at: datetime,
    duration_s: float,
) -> Result | Event | None:
    """What to tell of an attempt that returned an outcome, or raised.

    An outcome counts even where the job was to be cancelled in that moment: it is done. Whatever
    a stopped job raises is put down to the stopping.
    """
    if stopped == "lost":
        return None
    if isinstance(ended, Outcome):
        return _result(about, ended, at, duration_s)
    if stopped == "shutdown":
        return event(about, EventType.RELEASED, at)
    partial = ended.outcome if isinstance(ended, Failed) else Outcome()
    if stopped == "cancelled":
        return _result(about, partial, at, duration_s, State.CANCELLED, CANCELLED)
    if isinstance(ended, UserFault):
        state = State.TIMED_OUT if isinstance(ended, TimedOut) else State.FAILED
        return _result(about, partial, at, duration_s, state, ended.error)
    fault = ended if isinstance(ended, SystemFault) else _internal(ended)
    return event(about, EventType.FAULT, at, error=_bounded(fault.error))


def event(about: About, type_: EventType, at: datetime, **fields: Any) -> Event:
    """An event of this attempt."""
    return Event(
        type=type_,
        job_id=about.job_id,
        project=about.project,
        kind=about.kind,
        attempt=about.attempt,
        worker=about.worker,
        at=at,
        **fields,
    )


def cut_down(result: Result) -> Result:
    """The same result in at most some 30 KiB, for a broker that takes no more."""
    note = "[the broker did not take the result in full; it was shortened]"
    stdout, _ = tail(result.stdout, _SHORT)
    stderr, _ = tail(result.stderr, _SHORT)
    return result.model_copy(
        update={
            "stdout": stdout,
            "stderr": f"{stderr}\n{note}" if stderr else note,
            "result": result.result if len(_dump(result.result)) <= _SHORT else None,
            "Resultat": tail(result.Resultat, _SHORT)[0] if result.Resultat else None,
            "commit": result.commit and result.commit[:_SHORT],
            "image": result.image and result.image[:_SHORT],
            "truncated": True,
            "error": result.error
            and result.error.model_copy(update={"message": result.error.message[:_SHORT]}),
        }
    )


def _internal(raised: BaseException) -> Fault:
    return SystemFault(
        INTERNAL,
        f"the worker failed with {type(raised).__name__}; its log tells where. The job is tried "
        "again.",
    )


def _result(
    about: About,
    outcome: Outcome,
    at: datetime,
    duration_s: float,
    state: State | None = None,
    error: Error | None = None,
) -> Result:
    stdout, cut_stdout = tail(outcome.stdout, MAX_OUTPUT)
    stderr, cut_stderr = tail(outcome.stderr, MAX_OUTPUT)
    stdout, stderr = clean(stdout), clean(stderr)
    value, left_out = _value(outcome.result)
    if left_out:
        stderr = tail(f"{stderr}\n{left_out}" if stderr else left_out, MAX_OUTPUT)[0]
    error = error or outcome.error
    extra = {**about.extra, **outcome.extra}
    if isinstance(extra.get("Resultat"), str):
        extra["Resultat"] = clean(tail(extra["Resultat"], MAX_OUTPUT)[0])
    return Result(
        job_id=about.job_id,
        id=about.producer_id,
        project=about.project,
        kind=about.kind,
        state=state or outcome.state,
        attempt=about.attempt,
        batch_id=about.batch_id,
        exit_code=outcome.exit_code,
        stdout=stdout,
        stderr=stderr,
        truncated=outcome.truncated or cut_stdout or cut_stderr or left_out is not None,
        result=value,
        error=_bounded(error) if error else None,
        commit=outcome.commit,
        image=outcome.image,
        worker=about.worker,
        labels=about.labels,
        submitted_at=about.submitted_at,
        started_at=about.started_at,
        finished_at=at,
        duration_s=round(duration_s, 6),
        **extra,
    )


def _bounded(error: Error) -> Error:
    message = clean(error.message)
    if len(message) > MAX_MESSAGE:
        message = message[: MAX_MESSAGE - 1] + "…"
    return error if message == error.message else error.model_copy(update={"message": message})


def _value(value: Any) -> tuple[Any, str | None]:
    """The `result` that is kept, or None and why it was left out."""
    try:
        kept = json_value(value)
        size = len(_dump(kept))
    except (TypeError, ValueError) as wrong:
        return None, f"[the result was left out: {wrong}]"
    if size > MAX_RESULT:
        return None, f"[the result was left out: {size} bytes, at most {MAX_RESULT} are kept]"
    return kept, None


def json_value(value: Any, depth: int = 0) -> Any:
    """The value as JSON and PostgreSQL can hold it; raises `ValueError` where they cannot."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return {clean(str(key)): json_value(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(inner, depth + 1) for inner in value]
    raise ValueError(f"{type(value).__name__} is no JSON value")


def _dump(value: Any) -> bytes:
    return orjson.dumps(value)
