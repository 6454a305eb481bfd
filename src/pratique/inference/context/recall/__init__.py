"""What comes back of the turns that were left out of a prompt: by relevance to the query, or as a summary."""

__all__: list[str] = []
