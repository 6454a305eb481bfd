"""What vLLM's engine tells of its iterations: counted here from the first on, given to its own metrics from `ready` on.

vLLM registers its collectors in the process-wide registry, and removes all of that name there when another engine is
built. They are moved into a registry of their engine's, so that two engines, or two lives of one, do not meet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

__all__ = ["Recorder", "collectors", "move_collectors"]


class Recorder:
    """Stands in the place of vLLM's StatLoggerManager. Everything happens on the event loop."""

    def __init__(self, inner: Any, *, is_counting: bool) -> None:  # noqa: ANN401 - vLLM's, which has no types
        self._inner = inner
        self.is_counting = is_counting
        """Whether vLLM's own metrics count; before, it is warmup."""
        self.num_iterations = 0
        self.num_running = 0
        self.num_waiting = 0
        self.num_preemptions = 0
        self.kv_usage = 0.0

    def record(self, scheduler_stats: Any, iteration_stats: Any, **options: Any) -> None:  # noqa: ANN401 - vLLM's
        """Called by vLLM for every iteration of the engine."""
        self.num_iterations += 1
        if scheduler_stats is not None:
            self.num_running = scheduler_stats.num_running_reqs
            self.num_waiting = scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs
            self.kv_usage = scheduler_stats.kv_cache_usage
        if iteration_stats is not None:
            self.num_preemptions += iteration_stats.num_preempted_reqs
        if self.is_counting:
            self._inner.record(scheduler_stats=scheduler_stats, iteration_stats=iteration_stats, **options)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - vLLM's
        return getattr(self._inner, name)


def collectors() -> list[Any]:
    """Return the collectors that are registered in the process-wide registry."""
    return list(REGISTRY._collector_to_names)  # noqa: SLF001 - prometheus_client has no public list; vLLM does the same


def move_collectors(build: Callable[[], Any], *, into: CollectorRegistry) -> Any:  # noqa: ANN401 - what `build` returns
    """Call `build`, and move what it registers process-wide into a registry of one's own. Return its result."""
    before: Collection[Any] = set(collectors())
    try:
        return build()
    finally:
        for collector in collectors():
            if collector not in before:
                REGISTRY.unregister(collector)
                into.register(collector)
