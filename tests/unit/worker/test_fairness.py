"""The rotation: nobody starves, and nothing that waits is forgotten."""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from qslice.fairness import Rotation


class Broker:
    """Queues with so many messages each; one worker asks them by its rotation."""

    def __init__(self, waiting: dict[str, int], believed_s: float = 0.0) -> None:
        self.waiting = Counter(waiting)
        self.now = 0.0
        self.rotation = Rotation(believed_s, 0.0)
        self.asked = 0
        for queue in waiting:
            self.rotation.add(queue)

    def serve(self) -> str | None:
        """What one free slot gets; None when all is quiet. An ask takes a millisecond."""
        while (queue := self.rotation.next(self.now)) is not None:
            self.asked += 1
            self.now += 0.001
            if self.waiting[queue]:
                self.waiting[queue] -= 1
                self.rotation.found(queue)
                return queue
            self.rotation.empty(queue, self.now)
        assert self.rotation.quiet
        return None


def test_ten_thousand_of_one_project_delay_the_single_job_of_another_by_one() -> None:
    broker = Broker({"big": 10_000, "small": 0})
    for _ in range(50):
        assert broker.serve() == "big"
    broker.waiting["small"] += 1
    served = [broker.serve(), broker.serve()]
    assert "small" in served


def test_a_project_that_came_just_now_is_next() -> None:
    broker = Broker({"big": 10_000})
    broker.serve()
    broker.rotation.add("new")
    broker.waiting["new"] = 1
    assert broker.serve() == "new"


def test_an_empty_queue_is_not_asked_again_for_each_slot_while_others_are_busy() -> None:
    queues = {f"idle-{n}": 0 for n in range(100)}
    broker = Broker({"busy": 1000, **queues}, believed_s=1.0)
    for _ in range(500):
        assert broker.serve() == "busy"
    assert broker.asked <= 500 + 100


def test_an_empty_queue_is_asked_again_once_its_answer_is_old() -> None:
    broker = Broker({"busy": 1000, "idle": 0}, believed_s=1.0)
    while broker.asked < 10:
        broker.serve()
    broker.waiting["idle"] = 1
    assert broker.serve() == "busy"
    broker.now += 1.0
    assert broker.serve() == "idle"


def test_empty_queues_do_not_hold_up_the_busy_one_where_answers_take_long() -> None:
    rotation = Rotation(believed_s=0.02, believed_per_queue_s=0.0)
    for queue in ("idle-1", "busy", "idle-2", "idle-3"):
        rotation.add(queue)
    rotation.served("busy")
    now, asked = 0.0, []
    for _ in range(40):
        now += 1.0  # Each answer is out of date before the next comes.
        turn = rotation.next(now)
        assert turn is not None
        asked.append(turn)
        if turn == "busy":
            rotation.found(turn)
        else:
            rotation.empty(turn, now)
    assert asked.count("busy") == 10


def test_a_quiet_rotation_asks_nobody_until_something_arrives() -> None:
    broker = Broker({"a": 0, "b": 0})
    assert broker.serve() is None
    asked = broker.asked
    broker.now += 3600
    assert broker.serve() is None
    assert broker.asked == asked
    broker.rotation.served("b")  # As a consumer hears it.
    broker.waiting["b"] = 1
    assert broker.serve() == "b"


def test_several_asks_go_to_different_queues_unless_one_is_known_to_be_busy() -> None:
    rotation = Rotation()
    rotation.add("a")
    rotation.add("b")
    assert {rotation.next(0.0), rotation.next(0.0)} == {"a", "b"}
    assert rotation.next(0.0) is None
    rotation.found("a")
    rotation.empty("b", 0.0)
    assert [rotation.next(0.0), rotation.next(0.0)] == ["a", "a"]


def test_a_queue_that_is_gone_is_not_asked_and_its_late_answer_changes_nothing() -> None:
    rotation = Rotation()
    rotation.add("a")
    assert rotation.next(0.0) == "a"
    rotation.discard("a")
    rotation.found("a")
    assert "a" not in rotation
    assert rotation.next(0.0) is None
    assert rotation.quiet


def test_after_a_new_connection_every_queue_is_asked_again() -> None:
    broker = Broker({"a": 0, "b": 1, "c": 0})
    while broker.serve():
        pass
    broker.rotation.forget()
    asked = {broker.rotation.next(broker.now) for _ in range(3)}
    assert asked == {"a", "b", "c"}


@given(
    waiting=st.lists(st.integers(0, 30), min_size=2, max_size=6),
    arrivals=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=40),
)
def test_between_two_jobs_of_one_project_each_other_that_has_some_gets_one(
    waiting: list[int], arrivals: list[tuple[int, int]]
) -> None:
    """The bound that no project starves follows: after n-1 jobs of others it is one's turn."""
    names = [f"q{n}" for n in range(len(waiting))]
    broker = Broker(dict(zip(names, waiting, strict=True)))
    to_come = deque(sorted(arrivals))
    passed_over: dict[str, Counter[str]] = {name: Counter() for name in names}
    served = 0
    while True:
        while to_come and to_come[0][0] <= served:
            queue = names[to_come.popleft()[1] % len(names)]
            broker.waiting[queue] += 1
            if broker.rotation.quiet:
                broker.rotation.served(queue)
        queue_served = broker.serve()
        if queue_served is None:
            if not to_come:
                break
            served = to_come[0][0]
            continue
        served += 1
        for name in names:
            if name == queue_served or not broker.waiting[name]:
                passed_over[name].clear()
            else:
                passed_over[name][queue_served] += 1
                # Once more where its turn had just passed when its job came.
                assert passed_over[name][queue_served] <= 2
    assert not +broker.waiting


class RotationMachine(RuleBasedStateMachine):
    """Concurrent asks, arrivals, queues that come and go, cuts: no message is forgotten."""

    queue_names = st.sampled_from(["a", "b", "c", "d"])

    def __init__(self) -> None:
        super().__init__()
        self.rotation = Rotation(believed_s=0.5, believed_per_queue_s=0.0)
        self.waiting: Counter[str] = Counter()
        self.asks: list[str] = []
        self.now = 0.0

    @rule(queue=queue_names)
    def add(self, queue: str) -> None:
        self.rotation.add(queue)
        assert queue in self.rotation

    @rule(queue=queue_names)
    def discard(self, queue: str) -> None:
        self.rotation.discard(queue)
        assert queue not in self.rotation

    @rule(queue=queue_names, count=st.integers(1, 3))
    def arrive(self, queue: str, count: int) -> None:
        self.waiting[queue] += count

    @rule(seconds=st.floats(0, 2))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: len(self.asks) < 8)
    @rule()
    def ask(self) -> None:
        queue = self.rotation.next(self.now)
        if queue is not None:
            assert queue in self.rotation
            self.asks.append(queue)

    @precondition(lambda self: self.asks)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        queue = self.asks.pop(data.draw(st.integers(0, len(self.asks) - 1)))
        if self.waiting[queue]:
            self.waiting[queue] -= 1
            self.rotation.found(queue)
        else:
            self.rotation.empty(queue, self.now)

    @rule()
    def cut(self) -> None:
        for queue in self.asks:
            self.rotation.unanswered(queue)
        self.asks.clear()
        self.rotation.forget()

    @invariant()
    def it_is_quiet_only_when_all_is_known(self) -> None:
        if self.asks:
            assert not self.rotation.quiet
        assert len(list(self.rotation)) == len(set(self.rotation)) == len(self.rotation)

    def teardown(self) -> None:
        """From any state, asking once more gets everything that waits in a known queue."""
        for queue in self.asks:
            self.rotation.unanswered(queue)
        self.rotation.forget()
        while (turn := self.rotation.next(self.now)) is not None:
            if self.waiting[turn]:
                self.waiting[turn] -= 1
                self.rotation.found(turn)
            else:
                self.rotation.empty(turn, self.now)
        assert self.rotation.quiet
        assert not any(self.waiting[queue] for queue in self.rotation)


TestRotationMachine = RotationMachine.TestCase
