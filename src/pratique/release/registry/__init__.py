"""OCI registries: asking them, and a front that keeps tags immutable and writes conditional."""

__all__: list[str] = []
