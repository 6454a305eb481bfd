"""Evaluates a model that is served: what it answers to a golden set, and how far its log-probabilities are off."""

from __future__ import annotations

__all__: list[str] = []
