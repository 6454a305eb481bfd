"""Assertions on time: a block that must be quick, a condition that must come true.

    with within(0.5):
        answer = client.get(url)
    eventually(lambda: queue.depth() == 0, within=2.0)

Both work in coroutines too: `async with within(0.5)`, `await eventually_async(check, within=2.0)`. What is late is told
with how late it was; what did not come true, with the last value or error. Nothing is interrupted but an awaited check.
A failure's traceback ends at the line of the test: what is in here hides itself.
"""

from __future__ import annotations

import inspect
import math
import time
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, overload

from pratique.testkit.errors import TestkitUsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["SlaError", "Within", "eventually", "eventually_async", "is_number", "require_seconds", "within"]

T = TypeVar("T")

_EVERY_SECONDS: Final = 0.02
_WITHIN_SECONDS: Final = 5.0


class SlaError(AssertionError):
    """Something took longer than it may."""


def is_number(value: object) -> bool:
    """Whether it is a finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def require_seconds(name: str, value: float) -> float:
    """Return a duration that can be waited for.

    Raises:
        TestkitUsageError: it is negative, or no number.
    """
    __tracebackhide__ = True
    if not is_number(value) or value < 0:
        raise TestkitUsageError(f"{name} is {value!r}.", hint="Expected seconds, zero or more.")
    return float(value)


class Within:
    """A block that must end within some seconds. `elapsed_seconds` says how long it took."""

    def __init__(self, seconds: float, what: str, clock: Callable[[], float]) -> None:
        __tracebackhide__ = True
        self.seconds = require_seconds("within", seconds)
        self.elapsed_seconds = 0.0
        self._what = what
        self._clock = clock
        self._started = 0.0

    def __enter__(self) -> Self:
        self._started = self._clock()
        return self

    def __exit__(self, kind: type[BaseException] | None, *ended: object) -> None:
        __tracebackhide__ = True
        self.elapsed_seconds = self._clock() - self._started
        if kind is None and self.elapsed_seconds > self.seconds:
            raise SlaError(f"Expected {self._what} within {self.seconds:g} s, it took {self.elapsed_seconds:.3f} s.")

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *ended: object) -> None:
        __tracebackhide__ = True
        self.__exit__(kind)


def within(seconds: float, *, what: str = "the block", clock: Callable[[], float] = time.monotonic) -> Within:
    """Return a context manager that raises `SlaError` where its block took longer.

    An error of the block itself goes through as it is.
    """
    __tracebackhide__ = True
    return Within(seconds, what, clock)


class _Wait:
    """The books of one wait: what was seen last, and how much time is left."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        __tracebackhide__ = True
        self._seconds = require_seconds("within", seconds)
        self._clock = clock
        self._until = clock() + self._seconds
        self._last = "it was not asked once"
        self._error: Exception | None = None

    def left_seconds(self) -> float:
        return max(0.0, self._until - self._clock())

    def note_value(self, value: object) -> None:
        self._last, self._error = f"the last value was {value!r}", None

    def note_error(self, error: Exception) -> None:
        self._last, self._error = f"the last error was {type(error).__name__}: {error}", error

    def give_up(self) -> SlaError:
        problem = SlaError(f"It did not come true within {self._seconds:g} s: {self._last}.")
        problem.__cause__ = self._error
        return problem


def eventually(
    check: Callable[[], T],
    *,
    within: float = _WITHIN_SECONDS,
    every: float = _EVERY_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Any] = time.sleep,
) -> T:
    """Ask until the answer is true, and return it. An error counts as "not yet". The last time at the deadline.

    Raises:
        SlaError: it did not come true; the last value or error is in the message.
    """
    __tracebackhide__ = True
    wait = _Wait(within, clock)
    require_seconds("every", every)
    while True:
        left = wait.left_seconds()
        try:
            value = check()
        except Exception as error:  # noqa: BLE001 - what is not ready yet may fail in any way; the last is told
            wait.note_error(error)
        else:
            if value:
                return value
            wait.note_value(value)
        if not left:
            raise wait.give_up()
        sleep(min(every, wait.left_seconds()))


@overload
async def eventually_async(
    check: Callable[[], Awaitable[T]],
    *,
    within: float = ...,
    every: float = ...,
    clock: Callable[[], float] = ...,
    sleep: Callable[[float], Awaitable[Any]] = ...,
) -> T: ...
@overload
async def eventually_async(
    check: Callable[[], T],
    *,
    within: float = ...,
    every: float = ...,
    clock: Callable[[], float] = ...,
    sleep: Callable[[float], Awaitable[Any]] = ...,
) -> T: ...
async def eventually_async(
    check: Callable[[], Any],
    *,
    within: float = _WITHIN_SECONDS,
    every: float = _EVERY_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[Any]] | None = None,
) -> Any:
    """As `eventually`, in a coroutine; a check that is awaited is ended at the deadline.

    Raises:
        SlaError: it did not come true; the last value or error is in the message.
    """
    __tracebackhide__ = True
    import asyncio  # not at the top: the plugin imports this module in every run

    wait = _Wait(within, clock)
    require_seconds("every", every)
    while True:
        left = wait.left_seconds()
        try:
            value = await _ask(check, left)
        except Exception as error:  # noqa: BLE001 - as above
            wait.note_error(error)
        else:
            if value:
                return value
            wait.note_value(value)
        if not left:
            raise wait.give_up()
        await (sleep or asyncio.sleep)(min(every, wait.left_seconds()))


async def _ask(check: Callable[[], Any], left_seconds: float) -> Any:  # noqa: ANN401 - whatever the check answers
    __tracebackhide__ = True
    answer = check()
    if not inspect.isawaitable(answer):
        return answer
    import asyncio

    limit = asyncio.timeout(left_seconds)
    try:
        async with limit:
            return await answer
    except TimeoutError:
        if not limit.expired():
            raise
    raise TimeoutError("the check was still awaited")
