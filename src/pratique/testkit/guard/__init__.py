"""The credential guard: no test run reaches a real account, and no secret gets into a repository."""

__all__: list[str] = []
