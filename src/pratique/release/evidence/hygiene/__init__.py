"""What an image carries that it should not: secrets, privileges, tools, caches, waste."""

__all__: list[str] = []
