"""The test kit: a pytest plugin that puts each dependency on the cheapest tier that still shows its behaviour.

What tests import is here; the fixtures need no import. Failure scripts have a room of their own:
`from pratique.testkit.choreography import fail, ok, sse`.

Nothing is imported before it is named: the host of a run's servers is a module of this package too, and starts with
every run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pratique.testkit.choreography.tcp import TcpFaults
    from pratique.testkit.choreography.upstream import Upstream
    from pratique.testkit.fixtures import Launcher, namespace_fixture, server_fixture
    from pratique.testkit.kit import PrivateServer
    from pratique.testkit.ports import reserved_port
    from pratique.testkit.services.aws.dynamodb import DynamoDBEndpoint, DynamoDBNamespace
    from pratique.testkit.services.aws.kinesis import KinesisEndpoint, KinesisNamespace
    from pratique.testkit.services.aws.s3 import S3Endpoint, S3Namespace
    from pratique.testkit.services.aws.sqs import SQSEndpoint, SQSNamespace
    from pratique.testkit.services.interface import Backend, Endpoint, Namespace
    from pratique.testkit.services.modelserver import ModelServerEndpoint, ModelServerNamespace
    from pratique.testkit.services.opensearch import OpenSearchEndpoint, OpenSearchNamespace
    from pratique.testkit.services.registry import RegistryEndpoint, RegistryNamespace
    from pratique.testkit.services.valkey import ValkeyEndpoint, ValkeyNamespace
    from pratique.testkit.services.wiremock import WireMockEndpoint
    from pratique.testkit.timing import SlaError, eventually, eventually_async, within

__all__ = [
    "Backend",
    "DynamoDBEndpoint",
    "DynamoDBNamespace",
    "Endpoint",
    "KinesisEndpoint",
    "KinesisNamespace",
    "Launcher",
    "ModelServerEndpoint",
    "ModelServerNamespace",
    "Namespace",
    "OpenSearchEndpoint",
    "OpenSearchNamespace",
    "PrivateServer",
    "RegistryEndpoint",
    "RegistryNamespace",
    "S3Endpoint",
    "S3Namespace",
    "SQSEndpoint",
    "SQSNamespace",
    "SlaError",
    "TcpFaults",
    "Upstream",
    "ValkeyEndpoint",
    "ValkeyNamespace",
    "WireMockEndpoint",
    "eventually",
    "eventually_async",
    "namespace_fixture",
    "reserved_port",
    "server_fixture",
    "within",
]

_ROOMS: Final = {
    "choreography.tcp": ("TcpFaults",),
    "choreography.upstream": ("Upstream",),
    "fixtures": ("Launcher", "namespace_fixture", "server_fixture"),
    "kit": ("PrivateServer",),
    "ports": ("reserved_port",),
    "services.aws.dynamodb": ("DynamoDBEndpoint", "DynamoDBNamespace"),
    "services.aws.kinesis": ("KinesisEndpoint", "KinesisNamespace"),
    "services.aws.s3": ("S3Endpoint", "S3Namespace"),
    "services.aws.sqs": ("SQSEndpoint", "SQSNamespace"),
    "services.interface": ("Backend", "Endpoint", "Namespace"),
    "services.modelserver": ("ModelServerEndpoint", "ModelServerNamespace"),
    "services.opensearch": ("OpenSearchEndpoint", "OpenSearchNamespace"),
    "services.registry": ("RegistryEndpoint", "RegistryNamespace"),
    "services.valkey": ("ValkeyEndpoint", "ValkeyNamespace"),
    "services.wiremock": ("WireMockEndpoint",),
    "timing": ("SlaError", "eventually", "eventually_async", "within"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for (PEP 562)
    """Import the room that a public name is in."""
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{room}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
