"""Context for the model: passages out of an index, found by the words of the question."""

__all__: list[str] = []
