"""Silence counts only while the ledger listened."""

from qslice_gateway.ledger.listening import MAX_LAG_S, Listening


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_listening_begins_when_the_ledger_does() -> None:
    clock = Clock()
    listening = Listening(clock)
    assert listening.seconds == 0
    clock.now += 30
    assert listening.seconds == 30


def test_an_interruption_starts_it_anew() -> None:
    clock = Clock()
    listening = Listening(clock)
    clock.now += 30
    listening.interrupted()
    clock.now += 5
    assert listening.seconds == 5


def test_a_request_that_waited_for_long_is_an_interruption_and_a_short_wait_is_none() -> None:
    clock = Clock()
    listening = Listening(clock)
    clock.now += 30
    listening.waited(MAX_LAG_S)
    assert listening.seconds == 30
    listening.waited(MAX_LAG_S + 0.1)
    assert listening.seconds == 0
