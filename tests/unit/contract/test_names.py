import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qslice import names, topology

PROJECTS = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z").filter(
    lambda name: name not in names.RESERVED
)


@given(PROJECTS)
def test_the_project_is_read_from_each_of_its_queues(project: str) -> None:
    for queue in names.queues(project):
        assert names.project_of(queue) == project


@pytest.mark.parametrize(
    "wrong", ["", "-a", "a-", "A", "a.b", "a_b", "a" * 64, "a\n", "é", "qslice", "a b"]
)
def test_a_name_that_breaks_the_rule_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="name"):
        names.check_project(wrong)


@pytest.mark.parametrize(
    "queue",
    ["", "p", "p.", "p.Todo", "p.ToDo.vm", "p.ToDo.run", "qslice.ToDo", "P.Done", "a.b.Done"],
)
def test_other_queues_belong_to_no_project(queue: str) -> None:
    with pytest.raises(ValueError, match=r"name|no queue"):
        names.project_of(queue)


@given(PROJECTS, PROJECTS)
def test_a_lab_may_touch_its_own_queues_and_nobody_elses(own: str, other: str) -> None:
    rights = topology.lab_permissions(own)
    for kind in names.KINDS:
        assert re.search(rights.topic_write, names.todo(own, kind))
    assert re.search(rights.read, names.done(own))
    assert re.search(rights.read, names.dead(own))
    assert not re.search(rights.read, names.todo(own))
    assert re.search(rights.write, names.EXCHANGE_TODO)
    for exchange in (names.EXCHANGE_DONE, names.EXCHANGE_EVENTS, names.EXCHANGE_DEAD, ""):
        assert not re.search(rights.write, exchange)
    for name in (names.EXCHANGE_TODO, "x", ""):
        assert bool(re.search(rights.configure, name)) == (name == "")
    if own != other:
        for queue in names.queues(other):
            assert not re.search(rights.read, queue)
            assert not re.search(rights.topic_write, queue)


def test_every_todo_queue_loses_nothing_at_its_delivery_limit() -> None:
    todo = [queue for queue in topology.project_queues("p") if ".ToDo" in queue.name]
    assert {queue.name for queue in todo} == {"p.ToDo", "p.ToDo.openstack", "p.ToDo.k8s"}
    for queue in todo:
        assert queue.arguments["x-queue-type"] == "quorum"
        assert queue.arguments["x-delivery-limit"] > 0
        assert queue.arguments["x-dead-letter-exchange"] == names.EXCHANGE_DEAD
        assert queue.arguments["x-dead-letter-routing-key"] == "p.Dead"
        assert queue.arguments["x-dead-letter-strategy"] == "at-least-once"
        assert queue.arguments["x-overflow"] == "reject-publish"
        assert queue.bindings == (topology.Binding(names.EXCHANGE_TODO, queue.name),)


@pytest.mark.parametrize("name", [names.QUEUE_EVENTS, names.QUEUE_DONE, names.QUEUE_DEAD])
def test_the_ledgers_queues_drop_nothing_also_where_the_broker_has_a_limit_of_its_own(
    name: str,
) -> None:
    queue = next(queue for queue in topology.QUEUES if queue.name == name)
    assert queue.arguments["x-delivery-limit"] >= 1_000_000
    assert "x-max-length" not in queue.arguments
    assert queue.bindings[0].key == "#"


def test_a_project_sees_only_its_own_results() -> None:
    done = next(queue for queue in topology.project_queues("p") if queue.name == "p.Done")
    assert done.bindings == (topology.Binding(names.EXCHANGE_DONE, "p.#"),)
