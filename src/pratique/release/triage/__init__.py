"""Which images an advisory concerns, where they run, and who hears of it."""

from __future__ import annotations

__all__: list[str] = []
