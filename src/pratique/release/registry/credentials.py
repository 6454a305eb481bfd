"""Logins, from the files that podman and Docker write: who we are to a registry.

Read anew for each challenge, so that a login made meanwhile counts. Programs that keep logins elsewhere ("credHelpers",
"credsStore") are not run. Source: containers-auth.json(5).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import msgspec

from pratique.core.errors import EnvironmentFaultError
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.registry.names import RepositoryName

__all__ = ["AuthFileError", "AuthFiles", "Credentials", "Login", "default_auth_files"]

_MAX_BYTES: Final = 1024 * 1024
_DOCKER_HUB: Final = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")


class AuthFileError(EnvironmentFaultError):
    """A file of logins is there and cannot be read."""

    code = "auth_file"


@dataclass(frozen=True, slots=True)
class Login:
    """A name and a password; or a token to get others with, where there is one."""

    user: str
    password: str
    refresh_token: str = ""

    def __repr__(self) -> str:
        return "Login(…)"  # a password is never shown

    @property
    def basic(self) -> str:
        """The value of the header Authorization (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


class Credentials(Protocol):
    """Where logins come from."""

    def login(self, repository: RepositoryName) -> Login | None:
        """Return the login for a repository, None where there is none.

        Raises:
            AuthFileError: it cannot be found out.
        """
        ...


class _Entry(msgspec.Struct, frozen=True):
    auth: str = ""
    identitytoken: str = ""


class _File(msgspec.Struct, frozen=True):
    auths: dict[str, _Entry] = {}


class AuthFiles:
    """Logins from files; one that does not exist has none."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)

    def login(self, repository: RepositoryName) -> Login | None:
        for file in self._files:
            entries = _read(file).auths
            for key in _keys(repository):
                if key in entries:
                    return _login(entries[key], file, key)
        return None


def default_auth_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where podman and Docker keep logins, in the order in which podman looks."""
    home = Path(environment.get("HOME", "/nonexistent"))
    if environment.get("REGISTRY_AUTH_FILE"):
        return (Path(environment["REGISTRY_AUTH_FILE"]),)
    runtime = environment.get("XDG_RUNTIME_DIR")
    return (
        *((Path(runtime) / "containers" / "auth.json",) if runtime else ()),
        Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers" / "auth.json",
        Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json",
    )


def _keys(repository: RepositoryName) -> list[str]:
    """Return the names a login may stand under, the most special one first."""
    parts = str(repository).split("/")
    keys = ["/".join(parts[:size]) for size in range(len(parts), 0, -1)]
    keys += [f"https://{repository.host}", f"https://{repository.host}/v1/", f"https://{repository.host}/v2/"]
    return [*keys, *(_DOCKER_HUB if repository.host in _DOCKER_HUB else ())]


def _read(file: Path) -> _File:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return _File()
    except OSError as error:
        raise AuthFileError(f"the logins in {file} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise AuthFileError(f"the logins in {file} have more than {_MAX_BYTES} bytes")
    try:
        return decode_json(content, _File)
    except MalformedError as error:
        # Its text stays out of the message: it could quote the file.
        raise AuthFileError(f"the logins in {file} are not as podman and Docker write them") from error


def _login(entry: _Entry, file: Path, key: str) -> Login:
    try:
        user, separator, password = base64.b64decode(entry.auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise AuthFileError(f"the login for '{key}' in {file} is not base64 of name:password") from error
    if not separator and not entry.identitytoken:
        raise AuthFileError(
            f"{file} names '{key}' but holds no login for it",
            hint="A program keeps it, and none is run. Log in with: podman login --authfile FILE",
        )
    return Login(user, password, entry.identitytoken)
