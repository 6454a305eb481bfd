"""The model server's own HTTP interface beside the engine's OpenAI API."""

__all__: list[str] = []
