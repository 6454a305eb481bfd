"""The test kit: a pytest plugin that puts each dependency on the cheapest tier that still shows its behaviour."""

__all__: list[str] = []
