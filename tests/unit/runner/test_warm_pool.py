"""Idle containers: who gets one, and when it goes."""

from __future__ import annotations

from dataclasses import dataclass

from qslice_runner.warm import WarmPool

from tests.support.wait import wait_for_async


@dataclass(eq=False)
class Idle:
    is_alive: bool = True


class Removed(list[Idle]):
    def __call__(self, container: Idle) -> None:
        self.append(container)


async def test_a_container_is_given_again_to_the_same_key_only() -> None:
    removed = Removed()
    pool: WarmPool[Idle] = WarmPool(2, 60, removed)
    kept = Idle()
    pool.give("batch 1", kept)
    assert pool.take("batch 2") is None
    assert pool.take("batch 1") is kept
    assert pool.take("batch 1") is None
    assert removed == []


async def test_one_that_died_while_it_waited_is_not_given() -> None:
    removed = Removed()
    pool: WarmPool[Idle] = WarmPool(2, 60, removed)
    dead = Idle()
    pool.give("batch", dead)
    dead.is_alive = False
    assert pool.take("batch") is None
    assert removed == [dead]


async def test_there_is_room_for_so_many_and_the_oldest_makes_way() -> None:
    removed = Removed()
    pool: WarmPool[Idle] = WarmPool(2, 60, removed)
    containers = [Idle(), Idle(), Idle()]
    for container in containers:
        pool.give("batch", container)
    assert removed == containers[:1]
    pool.clear()
    assert removed == containers
    assert len(pool) == 0


async def test_an_idle_container_goes_after_its_time() -> None:
    removed = Removed()
    pool: WarmPool[Idle] = WarmPool(2, 0.05, removed)
    pool.give("batch", Idle())
    await wait_for_async(lambda: len(removed) == 1, what="the idle container removed")
    assert len(pool) == 0
