import random

from hypothesis import given
from hypothesis import strategies as st
from qslice.backoff import Backoff


@given(st.integers(1, 10_000), st.integers())
def test_a_delay_lies_between_half_and_all_of_its_ceiling(faults: int, seed: int) -> None:
    backoff = Backoff()
    delay = backoff.delay(faults, random.Random(seed))
    assert backoff.ceiling(faults) / 2 <= delay <= backoff.ceiling(faults) <= backoff.cap


@given(st.integers(1, 100))
def test_delays_grow_until_the_cap(faults: int) -> None:
    backoff = Backoff()
    assert backoff.ceiling(faults) <= backoff.ceiling(faults + 1)


def test_a_job_is_tried_for_more_than_ten_minutes_even_with_the_shortest_delays() -> None:
    assert Backoff().shortest_total() > 600


def test_it_is_given_up_at_the_limit_and_not_before() -> None:
    backoff = Backoff(limit=3)
    assert [backoff.exhausted(faults) for faults in (1, 2, 3, 4)] == [False, False, True, True]
