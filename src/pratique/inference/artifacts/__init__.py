"""Model artifacts: safetensors with a manifest of checksums, imported once and verified before every load."""

__all__: list[str] = []
