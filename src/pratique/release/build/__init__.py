"""Builds images of a commit: base by digest, tests first, no network after the dependency step, the same bits twice."""

__all__: list[str] = []
