"""Which model answers: pools, the adapters they hold, and the policy that chooses between them."""

__all__: list[str] = []
