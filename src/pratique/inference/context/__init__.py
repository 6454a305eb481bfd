"""The context budget: what of a conversation goes into the prompt."""

__all__: list[str] = []
