"""Which tiers have failed, known to every process of a run.

A worker tells the others by an empty file in the folder that pytest makes for the run, and removes some runs later.
Workers on other machines, and runs without pytest's plugin for temporary folders, have no such folder: each knows its
own failures only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pratique.testkit.tiers.policy import Tier

__all__ = ["FailedTiers"]


class FailedTiers:
    """Add a tier in one process, and all see it."""

    def __init__(self, shared: Path | None) -> None:
        self._shared = shared
        self._known: set[Tier] = set()

    def add(self, tier: Tier) -> None:
        """Note that a test of the tier failed."""
        if tier not in self._known and self._shared is not None:
            self._shared.mkdir(parents=True, exist_ok=True)
            self._file(self._shared, tier).touch()
        self._known.add(tier)

    def first_of(self, tiers: Iterable[Tier]) -> Tier | None:
        """Return the first of these that has failed."""
        return next((tier for tier in tiers if self._has_failed(tier)), None)

    def _has_failed(self, tier: Tier) -> bool:
        if tier in self._known:
            return True
        if self._shared is None or not self._file(self._shared, tier).exists():
            return False
        self._known.add(tier)
        return True

    @staticmethod
    def _file(folder: Path, tier: Tier) -> Path:
        return folder / f"pratique-failed-{tier.value}"
