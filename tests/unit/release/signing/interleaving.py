"""Runs several callables step by step, one at a time, in orders that are chosen: every race is found again."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Choose = Callable[[list[int], int | None], int]
"""Given who can go on and who went last: who goes next."""


@dataclass
class Interleaving:
    """`step` stands in the shared object; a thread that is not of this run passes it at once."""

    choose: Choose
    errors: list[BaseException] = field(default_factory=list)
    _me: threading.local = field(default_factory=threading.local)
    _turns: dict[int, threading.Semaphore] = field(default_factory=dict)
    _arrivals: queue.SimpleQueue[tuple[int, bool]] = field(default_factory=queue.SimpleQueue)

    def step(self, _what: str) -> None:
        """Wait for one's turn."""
        number = getattr(self._me, "number", None)
        if number is not None:
            self._arrivals.put((number, False))
            self._turns[number].acquire()

    def run(self, callables: list[Callable[[], object]]) -> None:
        """Run them all to their ends. What they raise is in `errors`."""
        threads = [threading.Thread(target=self._run, args=(number, call)) for number, call in enumerate(callables)]
        waiting: set[int] = set()
        for number, thread in enumerate(threads):
            self._turns[number] = threading.Semaphore(0)
            thread.start()
            self._arrived(waiting)
        last: int | None = None
        while waiting:
            last = self.choose(sorted(waiting), last)
            waiting.remove(last)
            self._turns[last].release()
            self._arrived(waiting)
        for thread in threads:
            thread.join()

    def _arrived(self, waiting: set[int]) -> None:
        number, is_done = self._arrivals.get(timeout=10)
        if not is_done:
            waiting.add(number)

    def _run(self, number: int, call: Callable[[], object]) -> None:
        self._me.number = number
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - the run's to judge
            self.errors.append(error)
        finally:
            self._arrivals.put((number, True))


@dataclass
class _Order:
    """One order: the first choices as forced, the usual ones from there on. Keeps what could have been chosen."""

    forced: list[int]
    max_switches: int
    taken: list[tuple[int, list[int]]] = field(default_factory=list)
    switches: int = 0

    def __call__(self, able: list[int], last: int | None) -> int:
        goes_on = last in able
        usual = last if last is not None and goes_on else able[0]
        may_switch = not goes_on or self.switches < self.max_switches
        options = [usual, *(one for one in able if one != usual and may_switch)]
        position = len(self.taken)
        choice = self.forced[position] if position < len(self.forced) else 0
        self.switches += goes_on and options[choice] != last
        self.taken.append((choice, options))
        return options[choice]

    def next(self) -> _Order | None:
        """Return the order after this one, depth first; None after the last."""
        taken = list(self.taken)
        while taken and taken[-1][0] + 1 >= len(taken[-1][1]):
            taken.pop()
        if not taken:
            return None
        return _Order([*(choice for choice, _ in taken[:-1]), taken[-1][0] + 1], self.max_switches)


def all_orders(*, max_switches: int) -> Iterator[Choose]:
    """Yield one chooser after the other until every order with so many forced switches was run.

    Source: Musuvathi and Qadeer, "Iterative context bounding for systematic testing of multithreaded programs" (2007):
    most races need few switches, so these orders are all tried, and not just many.
    """
    order: _Order | None = _Order([], max_switches)
    while order is not None:
        yield order
        order = order.next()
