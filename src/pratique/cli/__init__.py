"""The `pratique` command: one module per group, each of them parse, call, render."""

__all__: list[str] = []
