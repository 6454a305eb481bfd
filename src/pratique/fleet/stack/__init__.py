"""This machine's stack: what runs, in which order, and how it is talked to."""

__all__: list[str] = []
