"""How a release reaches production, and how the one before comes back: canary, promotion, rollback, alerts."""

__all__: list[str] = []
