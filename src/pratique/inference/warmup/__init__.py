"""Warmup: synthetic requests through the very path that customers use, before any of them may."""

__all__: list[str] = []
