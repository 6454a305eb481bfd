"""The OpenAI API, for holders of a key: what is let through, what it costs whom, and how failure is said there."""

__all__: list[str] = []
