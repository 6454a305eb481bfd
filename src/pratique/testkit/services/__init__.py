"""The services that tests can ask for: who provides each, its endpoint, its namespaces."""

__all__: list[str] = []
