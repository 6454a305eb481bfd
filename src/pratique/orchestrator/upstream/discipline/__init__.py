"""How calls to one pool are kept from doing harm: budgets of time and of retries, breakers, hedges."""

__all__: list[str] = []
