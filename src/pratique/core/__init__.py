"""What every part shares: clock, ids, errors, settings, metrics, events. Small, and without network I/O."""

__all__: list[str] = []
