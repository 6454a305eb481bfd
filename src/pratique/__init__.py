"""pratique: a self-hosted LLM chat platform for teams that answer for their models in production."""

__all__: list[str] = []
