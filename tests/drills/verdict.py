"""What a drill expects of each run that was accepted, and what it found. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from qslice.states import FINAL, State


class Ending(Protocol):
    """A job in REST, or a result on Done."""

    @property
    def id(self) -> str | None: ...
    @property
    def job_id(self) -> str: ...
    @property
    def state(self) -> State: ...
    @property
    def attempt(self) -> int: ...


@dataclass
class Verdict:
    accepted: int
    finished: int = 0
    #: What is wrong, one line each.
    faults: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.faults and self.finished == self.accepted


def judge(
    expected: Mapping[str, frozenset[State]], jobs: Iterable[Ending], results: Iterable[Ending]
) -> Verdict:
    """Accepted = finished, each once and as its command says, in REST and on Done alike.

    `expected`: of each accepted run, by the producer's id, the states that it may end in. A result
    may be on Done more than once, but then it is the same one.
    """
    verdict = Verdict(len(expected))
    by_id, on_done = _by_id(jobs), _by_id(results)
    for id_, states in expected.items():
        ends, told = by_id.get(id_, set()), on_done.get(id_, set())
        if len(ends) != 1:
            verdict.faults.append(f"{id_}: {len(ends)} jobs of it, not one")
            continue
        [(job_id, state, attempt)] = ends
        if state not in FINAL:
            verdict.faults.append(f"{id_}: {job_id} is not over: {state}, attempt {attempt}")
            continue
        verdict.finished += 1
        if state not in states:
            verdict.faults.append(f"{id_}: {job_id} ended as {state}, not {_list(states)}")
        if told != ends:
            verdict.faults.append(f"{id_}: in REST {_tell(ends)}, on Done {_tell(told)}")
    for id_ in sorted((by_id.keys() | on_done.keys()) - expected.keys()):
        verdict.faults.append(f"{id_}: nobody handed it in")
    return verdict


def _by_id(found: Iterable[Ending]) -> dict[str, set[tuple[str, State, int]]]:
    grouped = defaultdict(set)
    for one in found:
        grouped[one.id or one.job_id].add((one.job_id, one.state, one.attempt))
    return grouped


def _list(states: Iterable[State]) -> str:
    return " or ".join(sorted(states))


def _tell(ends: Iterable[tuple[str, State, int]]) -> str:
    told = [f"{job_id} {state} (attempt {attempt})" for job_id, state, attempt in sorted(ends)]
    return ", ".join(told) or "nothing"
