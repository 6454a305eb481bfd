"""The ledger: what was decided about which digest, in an order that nobody can change afterwards."""

__all__: list[str] = []
