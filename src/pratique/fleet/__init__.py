"""Runs the services: this machine's stack, its edge, its processes."""

__all__: list[str] = []
