"""Keep the engine from running out of memory, and the server from going down with it when it does."""

__all__: list[str] = []
