"""The engines: one interface, one contract suite, one module per implementation."""

__all__: list[str] = []
