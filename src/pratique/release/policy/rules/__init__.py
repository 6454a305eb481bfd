"""One module for each rule of the gate: what has to be there, who may have said it, and what it has to say."""

__all__: list[str] = []
