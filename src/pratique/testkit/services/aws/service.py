"""What the four services have in common towards the kit: providers, the ledger, an endpoint's version."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from pratique.testkit.services.aws.clients import AwsEndpoint
from pratique.testkit.services.aws.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pratique.testkit.services.aws.namespace import AwsNamespace
    from pratique.testkit.services.interface import Connection, Provider

__all__ = ["AwsService"]

E = TypeVar("E", bound=AwsEndpoint)


class AwsService(Generic[E]):
    """Base of the four."""

    name: ClassVar[str]
    title: ClassVar[str]
    starts_early = True
    capabilities: Mapping[str, str]
    providers: tuple[Provider, ...]
    creates: ClassVar[tuple[str, str]]
    """The operation that makes what namespaces hold, in botocore's words, and its parameter with the name."""
    endpoint_type: type[E]
    namespace_type: type[AwsNamespace[E]]

    @cached_property
    def _ledger(self) -> Ledger:
        operation, parameter = self.creates
        is_worker = "PYTEST_XDIST_WORKER" in os.environ
        return Ledger(operation=f"{self.name}.{operation}", parameter=parameter, is_worker=is_worker)

    def connect(self, connection: Connection) -> E:
        """Make an endpoint. What a URL leads to has no common way to tell its version."""
        self._ledger.install()
        known = connection if connection.version else replace(connection, version="unknown")
        return self.endpoint_type(service=self.name, connection=known)

    def namespace(self, endpoint: E, name: str) -> AwsNamespace[E]:
        """Return a namespace, not opened yet."""
        return self.namespace_type(endpoint, name, self._ledger)
