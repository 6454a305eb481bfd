"""The front before a plain OCI registry: immutable tags, conditional writes, referrers."""

__all__: list[str] = []
