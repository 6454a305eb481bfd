"""What the four services have in common towards the kit: providers, the ledger, an endpoint's version."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

from pratique.testkit.services.aws.clients import AwsEndpoint
from pratique.testkit.services.aws.ledger import Ledger
from pratique.testkit.services.http import exchange, nobody_answers
from pratique.testkit.services.interface import Backend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pratique.testkit.services.aws.namespace import AwsNamespace
    from pratique.testkit.services.interface import Connection, Provider

__all__ = ["AwsService"]

E = TypeVar("E", bound=AwsEndpoint)

_CONNECT_SECONDS: Final = 5.0


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
        return Ledger(operation=f"{self.name}.{operation}", parameter=parameter)

    def connect(self, connection: Connection) -> E:
        """Make an endpoint. What a URL leads to has to speak HTTP; there is no common way to ask for a version.

        Raises:
            ServiceStartError: nobody answers at the URL.
        """
        if connection.backend is Backend.URL:
            self._look(connection.url)
        self._ledger.install()
        known = connection if connection.version else replace(connection, version="unknown")
        return self.endpoint_type(service=self.name, connection=known)

    def _look(self, url: str) -> None:
        try:
            with exchange("GET", url, seconds=_CONNECT_SECONDS):
                pass  # whatever it says
        except OSError as error:
            raise nobody_answers(self.title, url, error) from error

    def namespace(self, endpoint: E, name: str) -> AwsNamespace[E]:
        """Return a namespace, not opened yet."""
        return self.namespace_type(endpoint, name, self._ledger)
