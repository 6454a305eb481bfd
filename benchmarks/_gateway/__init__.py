"""Parts of the gateway benchmark: the fake upstream, the load, the gateways, the figures."""

__all__: list[str] = []
