"""A namespace in a service of AWS: a prefix of names. Closing it removes whatever has the prefix, whoever made it."""

from __future__ import annotations

import abc
import contextlib
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.services.aws.clients import AwsEndpoint

if TYPE_CHECKING:
    import re
    from contextlib import AbstractAsyncContextManager

    from pratique.testkit.services.aws.ledger import Foreign, Ledger

__all__ = ["AwsNamespace", "error_code"]

E = TypeVar("E", bound=AwsEndpoint)


class AwsNamespace(abc.ABC, Generic[E]):
    """Names with a prefix of their own."""

    kind: ClassVar[str]
    """What it holds, in the singular, for people."""
    valid: ClassVar[re.Pattern[str]]
    """Of full names."""

    def __init__(self, endpoint: E, name: str, ledger: Ledger) -> None:
        self.endpoint = endpoint
        self.name = name
        self.prefix = f"{name}-"
        self._ledger = ledger
        self._mark = 0
        self._listed: list[str] | None = None

    @property
    def url(self) -> str:
        """Where the server is: for the code under test."""
        return self.endpoint.url

    def environment(self) -> dict[str, str]:
        """Return the variables by which a process under test finds the server."""
        return self.endpoint.environment()

    def async_client(self, **options: Any) -> AbstractAsyncContextManager[Any]:  # noqa: ANN401 - aiobotocore's own
        """Return aiobotocore's client, as the endpoint does."""
        return self.endpoint.async_client(**options)

    def open(self) -> None:
        self._mark = self._ledger.mark()
        url = self.endpoint.url
        if self.endpoint.is_alone and not self._ledger.knows(url):
            self._ledger.learn(url, self._list())

    def leaks(self) -> list[str]:
        """Return what the test made outside of the namespace."""
        url = self.endpoint.url
        if not self.endpoint.is_alone and not self._ledger.made_since(url, self._mark):
            return []  # a listing would say nothing about this test
        self._listed = self._list()
        found = self._ledger.assess(url, self._mark, self._listed)
        return [_describe(self.kind, one) for one in found if one.is_ours or self.endpoint.is_alone]

    def close(self) -> None:
        listed = self._list() if self._listed is None else self._listed
        self._listed = None
        with contextlib.ExitStack() as stack:  # one that cannot be removed keeps no other
            for name in listed:
                if name.startswith(self.prefix):
                    stack.callback(self._remove, name)

    def full_name(self, name: str) -> str:
        """Return a name of this namespace.

        Raises:
            TestkitUsageError: with the prefix it is none that the service takes.
        """
        full = self.prefix + name
        if not name or self.valid.fullmatch(full) is None:
            raise TestkitUsageError(
                f"'{name}' cannot name a {self.kind}: with the prefix it is '{full}', of {len(full)} characters.",
                hint=f"A {self.kind}'s name must match {self.valid.pattern}.",
            )
        return full

    @abc.abstractmethod
    def _list(self) -> list[str]:
        """Return the full names of all that the server has, of others too."""

    @abc.abstractmethod
    def _remove(self, name: str) -> None:
        """Remove one with all that is in it; nothing where it is gone already."""


def error_code(error: Exception) -> str:
    """Return what a service calls the failure of a call, without its namespace and version."""
    response: Any = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", "")).rpartition("#")[2]


def _describe(kind: str, one: Foreign) -> str:
    if one.is_ours:
        return f"the {kind} '{one.name}', in no namespace"
    return f"the {kind} '{one.name}', in no namespace; it appeared meanwhile, not through a client that the kit sees"
