"""Hash locks: whether a lock file pins everything that it would install, told offline and with the line."""

__all__: list[str] = []
