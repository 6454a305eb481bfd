"""The chat service: streaming, resumable, cached, durable."""

__all__: list[str] = []
