"""What can go wrong with a registry, beyond the errors that all rooms share."""

from __future__ import annotations

from pratique.core.errors import CallerError, EnvironmentFaultError, RefusedError
from pratique.release.errors import ConflictError

__all__ = [
    "ListShrinksError",
    "ListenError",
    "ManifestError",
    "RegistryRefusedError",
    "RepositoryNameError",
    "StateError",
]


class RepositoryNameError(CallerError):
    """What should name a repository or a tag cannot name one."""

    code = "invalid_repository"


class RegistryRefusedError(RefusedError):
    """The registry understood, and said no: access, a limit, or something that it does not do."""

    code = "registry_refused"


class ManifestError(RefusedError):
    """A manifest that cannot be read, or that says of itself what it is not."""

    code = "malformed_manifest"


class ListShrinksError(ConflictError):
    """A list of referrers would lose some."""

    code = "referrers_shrink"


class ListenError(EnvironmentFaultError):
    """The front's address cannot be listened on."""

    code = "listen_failed"


class StateError(EnvironmentFaultError):
    """The front's state cannot be used: another program's file, another upstream's, or a disk that fails."""

    code = "front_state"
