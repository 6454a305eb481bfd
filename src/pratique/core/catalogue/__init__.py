"""The catalogue of metrics, a module per part: the one place where their names stand."""

__all__: list[str] = []
