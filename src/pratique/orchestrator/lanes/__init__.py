"""Where stateless work runs: the baseline replicas, or a burst lane when they are behind."""

__all__: list[str] = []
