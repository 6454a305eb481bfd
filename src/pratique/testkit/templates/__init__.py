"""Files that `pratique testkit init` puts into a project: a compose file of the services, a CI workflow."""

__all__: list[str] = []
