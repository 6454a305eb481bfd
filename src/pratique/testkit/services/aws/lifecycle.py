"""Tables and streams: what is being made or removed for a while, and is waited for."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from pratique.testkit.errors import UnexpectedAnswerError
from pratique.testkit.looks import looks
from pratique.testkit.services.aws.clients import AwsEndpoint
from pratique.testkit.services.aws.namespace import AwsNamespace, error_code

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LifecycleEndpoint", "LifecycleNamespace", "wait_until"]

_SECONDS: Final = 30.0
_POLL_SECONDS: Final = (0.005, 0.2)
"""First and longest pause between two looks."""
_GONE: Final = "ResourceNotFoundException"
_CHANGING: Final = "ResourceInUseException"


@dataclass(frozen=True, kw_only=True)
class LifecycleEndpoint(AwsEndpoint, abc.ABC):
    """A server of things that have a status."""

    kind: ClassVar[str]
    """What they are, in the singular, for people."""

    def wait_until_active(self, name: str, *, within_seconds: float = _SECONDS) -> None:
        """Return when it can be used.

        Raises:
            UnexpectedAnswerError: it is not active in time.
        """
        what = f"the {self.kind} '{name}' to be active"
        wait_until(lambda: self._status_of(name) == "ACTIVE", what, within_seconds=within_seconds)

    @abc.abstractmethod
    def _status_of(self, name: str) -> str | None:
        """Return its status."""


E = TypeVar("E", bound=LifecycleEndpoint)


class LifecycleNamespace(AwsNamespace[E]):
    """Removes what is still being made when it is made, and returns when it is being removed."""

    def _remove(self, name: str) -> None:
        wait_until(lambda: self._is_removed(name), f"the {self.kind} '{name}' to be deleted", within_seconds=_SECONDS)

    def _is_removed(self, name: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._delete(name)
        except ClientError as error:
            code = error_code(error)
            if code not in {_GONE, _CHANGING}:  # changing: it is being made, changed or deleted
                raise
            return code == _GONE
        return True

    @abc.abstractmethod
    def _delete(self, name: str) -> None:
        """Ask for its deletion."""


def wait_until(is_so: Callable[[], bool], what: str, *, within_seconds: float) -> None:
    """Look again and again, at first often.

    Raises:
        UnexpectedAnswerError: it did not become so in time.
    """
    first, longest = _POLL_SECONDS
    if not any(is_so() for _ in looks(within_seconds, first=first, longest=longest)):
        raise UnexpectedAnswerError(f"Expected {what} within {within_seconds:g} s; it is not.")
