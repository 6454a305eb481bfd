"""`pratique secrets`: finds secrets in files, in what is staged, and in the history. Needs nothing but the core."""

__all__: list[str] = []
