"""Tiers: which tests run first, how long each tier and each test may take, and what becomes of overruns."""

__all__: list[str] = []
