"""Governed releases: proves what is in an image and how it came about, decides, and remembers what was decided."""

__all__: list[str] = []
