"""How a service of AWS is reached: an endpoint that makes clients of it, whatever the machine's own AWS settings are.

Clients take nothing from the environment, profiles or the network: endpoint, region and credentials are given, and
every call has a deadline. Waiters ask every 50 ms; boto3's own ask every 20 s.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pratique.testkit.errors import ServiceMissingError
from pratique.testkit.services.interface import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from botocore.config import Config

__all__ = ["AwsEndpoint", "Credentials"]

_WAIT_EVERY_SECONDS: Final = 0.05
_WAIT_SECONDS: Final = 30.0
_CONNECT_SECONDS: Final = 5.0
_ATTEMPTS: Final = 2
_CONNECTIONS: Final = 50


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What clients sign with. The emulators check nothing."""

    access_key: str = "testing"
    secret_key: str = field(default="testing", repr=False)


@dataclass(frozen=True, kw_only=True)
class AwsEndpoint(Endpoint):
    """An emulator (or what a URL names), seen as one service."""

    read_seconds: ClassVar[float] = 10.0
    """How long a client waits for an answer, twice."""
    region: str = "us-east-1"
    credentials: Credentials = field(default_factory=Credentials)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def environment(self) -> dict[str, str]:
        """Return the variables by which a process under test finds this server, and no other account.

        Those of several services go together: `{**dynamodb.environment(), **s3.environment()}`.
        """
        return {
            f"AWS_ENDPOINT_URL_{self.service.upper()}": self.url,
            "AWS_ACCESS_KEY_ID": self.credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def async_client(self, **options: Any) -> AbstractAsyncContextManager[Any]:  # noqa: ANN401 - aiobotocore's own
        """Return aiobotocore's client, to be entered with `async with`.

        Raises:
            ServiceMissingError: aiobotocore is not installed.
        """
        try:
            from aiobotocore.config import AioConfig  # type: ignore[import-untyped]  # it has none
            from aiobotocore.session import AioSession  # type: ignore[import-untyped]  # as above
        except ImportError as error:
            raise ServiceMissingError(
                "the Python package 'aiobotocore' is not installed", hint="`pip install aiobotocore`."
            ) from error
        session = AioSession(session_vars=_UNCONFIGURED)
        made: AbstractAsyncContextManager[Any] = session.create_client(
            self.service, **self._arguments(AioConfig, options)
        )
        return made

    def _make_client(self, options: dict[str, Any]) -> Any:  # noqa: ANN401 - its service's own type
        """Return the client that this process shares, or one of its own where options are given."""
        return self._new_client(self.service, options) if options else self._shared_client

    def _make_resource(self, options: dict[str, Any]) -> Any:  # noqa: ANN401 - its service's own type
        from botocore.config import Config

        with self._lock:  # a session may not make two things at once
            return self._session.resource(self.service, **self._arguments(Config, options))

    @cached_property
    def _shared_client(self) -> Any:  # noqa: ANN401 - as above
        return self._new_client(self.service, {})

    @cached_property
    def _session(self) -> Any:  # noqa: ANN401 - its overloads take only literal names
        import boto3
        from botocore.session import Session as Core

        return boto3.Session(botocore_session=Core(session_vars=_UNCONFIGURED))

    def _new_client(self, service: str, options: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
        from botocore.config import Config

        with self._lock:
            client = self._session.client(service, **self._arguments(Config, options))
        client.get_waiter = _quick(client.get_waiter)
        return client

    def _arguments(self, config_type: type[Config], options: dict[str, Any]) -> dict[str, Any]:
        config = config_type(read_timeout=self.read_seconds, **_CONFIG)
        given = options.get("config")
        return {
            "endpoint_url": self.url,
            "region_name": self.region,
            "aws_access_key_id": self.credentials.access_key,
            "aws_secret_access_key": self.credentials.secret_key,
            **options,
            "config": config if given is None else config.merge(given),
        }


def _quick(get_waiter: Callable[[str], Any]) -> Callable[[str], Any]:
    def get_quick_waiter(name: str) -> Any:  # noqa: ANN401 - its service's own type
        waiter = get_waiter(name)
        waiter.config.delay = _WAIT_EVERY_SECONDS
        waiter.config.max_attempts = int(_WAIT_SECONDS / _WAIT_EVERY_SECONDS)
        return waiter

    return get_quick_waiter


_CONFIG: Final[dict[str, Any]] = {
    "connect_timeout": _CONNECT_SECONDS,
    "retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS},
    "max_pool_connections": _CONNECTIONS,
    "user_agent_extra": "pratique-testkit",
    "proxies": {},  # None would be: those of the environment
}
_UNCONFIGURED: Final[dict[str, Any]] = {
    "profile": (None, None, None, None),
    "config_file": (None, None, None, None),
    "credentials_file": (None, None, None, None),
}
"""botocore's variables: name → setting, environment variable, default, conversion. None: there is no such file."""
