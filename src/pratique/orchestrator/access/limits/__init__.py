"""How much one principal may ask: rates, streams at once, tokens; shared by all replicas."""

__all__: list[str] = []
