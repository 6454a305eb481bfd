"""The Python client of the chat service: streams replies, reconnects and resumes by itself."""

__all__: list[str] = []
