"""A package index that serves only what a reviewed file in Git allows, and the check of what is to be allowed."""

__all__: list[str] = []
