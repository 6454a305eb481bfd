"""The embedded index: tantivy's files in a folder, with a manifest that says what made them."""

__all__: list[str] = []
