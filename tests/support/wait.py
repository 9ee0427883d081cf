"""Waiting for a condition instead of sleeping: generous, since the machine may be loaded."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_POLL_S = 0.05


def wait_for(
    condition: Callable[[], T],
    timeout: float = 60,
    what: str = "",
    ignoring: tuple[type[Exception], ...] = (),
) -> T:
    """Call `condition` until it is true, and return what it gave.

    Raises AssertionError that tells the last value once `timeout` seconds are over. Exceptions
    pass through, but for the `ignoring` ones, which count as "not yet".
    """
    deadline = time.monotonic() + timeout
    while True:
        last: object
        try:
            value = condition()
        except ignoring as error:
            last = error
        else:
            if value:
                return value
            last = value
        if time.monotonic() > deadline:
            raise _too_late(what or _name(condition), timeout, last)
        time.sleep(_POLL_S)


@overload
async def wait_for_async(
    condition: Callable[[], Awaitable[T]],
    timeout: float = ...,
    what: str = ...,
    ignoring: tuple[type[Exception], ...] = ...,
) -> T: ...


@overload
async def wait_for_async(
    condition: Callable[[], T],
    timeout: float = ...,
    what: str = ...,
    ignoring: tuple[type[Exception], ...] = ...,
) -> T: ...


async def wait_for_async(
    condition: Callable[[], Any],
    timeout: float = 60,
    what: str = "",
    ignoring: tuple[type[Exception], ...] = (),
) -> Any:
    """As `wait_for`, for a coroutine function or a plain one; the event loop goes on."""
    deadline = time.monotonic() + timeout
    while True:
        last: object
        try:
            result = condition()
            value = await result if inspect.isawaitable(result) else result
        except ignoring as error:
            last = error
        else:
            if value:
                return value
            last = value
        if time.monotonic() > deadline:
            raise _too_late(what or _name(condition), timeout, last)
        await asyncio.sleep(_POLL_S)


def _too_late(what: str, timeout: float, last: object) -> AssertionError:
    return AssertionError(f"waited {timeout:g} s for: {what}; the last value was {last!r}")


def _name(condition: Callable[..., object]) -> str:
    return getattr(condition, "__qualname__", repr(condition))
