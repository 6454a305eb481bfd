"""The model server: an engine behind readiness, warmup and a context budget. Ready means ready."""

__all__: list[str] = []
