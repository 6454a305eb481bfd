"""The edge: Envoy's configuration as values, rendered to files that Envoy watches."""

from pratique.fleet.edge.binary import find_envoy
from pratique.fleet.edge.config import Affinity, EdgeConfig, Endpoint, Gate, HealthCheck, Pool, Share
from pratique.fleet.edge.files import EdgeFiles

__all__ = [
    "Affinity",
    "EdgeConfig",
    "EdgeFiles",
    "Endpoint",
    "Gate",
    "HealthCheck",
    "Pool",
    "Share",
    "find_envoy",
]
