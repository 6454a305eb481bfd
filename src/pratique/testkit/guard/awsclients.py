"""Clients of AWS, judged where they send: an explicit `endpoint_url` passes over everything that the environment says.

botocore and aiobotocore are wrapped when they are imported, or at once where they are already: clients that were made
before are judged as well, for it is the classes that are wrapped. Nothing is imported here, and what answers a request
before it is sent (a Stubber, moto in process) is left alone. It holds under uvloop, which audit hooks do not see.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import sys
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pratique.testkit.guard.credentials import DEAD_ENDPOINT
from pratique.testkit.guard.watch import current_guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["watch_aws_clients"]

_call: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("pratique_aws_call", default="")
_METADATA: Final = "A look-up of credentials or metadata (no operation of a service)"


def _judge(url: str) -> None:
    """Judge a request that is about to leave."""
    guard = current_guard()
    if guard is None:
        return
    call = _call.get() or _METADATA
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if shown.startswith(DEAD_ENDPOINT):
        guard.block(
            f"call AWS without an endpoint ({call})",
            "Give the client the endpoint of a service of the test kit, or set AWS_ENDPOINT_URL to it.",
        )
    guard.judge(parts.hostname or "", f"call AWS at {shown} ({call})")


def _sending(original: Callable[..., Any]) -> Callable[..., Any]:
    # The request may be signed: only where it goes is looked at, never shown whole.
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def send_later(self: Any, request: Any, *rest: Any, **named: Any) -> Any:  # noqa: ANN401 - as it is there
            _judge(request.url)
            return await original(self, request, *rest, **named)

        return send_later

    @functools.wraps(original)
    def send(self: Any, request: Any, *rest: Any, **named: Any) -> Any:  # noqa: ANN401 - as it is there
        _judge(request.url)
        return original(self, request, *rest, **named)

    return send


def _naming(original: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def respond_later(self: Any, request: Any, operation: Any, context: Any) -> Any:  # noqa: ANN401 - as there
            with _named(operation):
                return await original(self, request, operation, context)

        return respond_later

    @functools.wraps(original)
    def respond(self: Any, request: Any, operation: Any, context: Any) -> Any:  # noqa: ANN401 - as it is there
        with _named(operation):
            return original(self, request, operation, context)

    return respond


@contextlib.contextmanager
def _named(operation: Any) -> Iterator[None]:  # noqa: ANN401 - botocore has no types
    token = _call.set(f"{operation.service_model.service_name}.{operation.name}")
    try:
        yield
    finally:
        _call.reset(token)


_Wrap = tuple[str, str, "Callable[[Callable[..., Any]], Callable[..., Any]]"]
_TARGETS: Final[dict[str, _Wrap]] = {
    "botocore.httpsession": ("URLLib3Session", "send", _sending),
    "botocore.endpoint": ("Endpoint", "_do_get_response", _naming),
    "aiobotocore.httpsession": ("AIOHTTPSession", "send", _sending),
    "aiobotocore.httpxsession": ("HttpxSession", "send", _sending),
    "aiobotocore.endpoint": ("AioEndpoint", "_do_get_response", _naming),
}


@dataclass
class _Watcher(MetaPathFinder):
    """Wraps the targets as they are imported, and unwraps them."""

    wrapped: list[tuple[type, str, Any]] = field(default_factory=list)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Find one of the targets as the other finders do, to wrap it when it is loaded; nothing else."""
        if fullname not in _TARGETS:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((found for finder in others if (found := finder.find_spec(fullname, path, target))), None)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                self.wrap(fullname, module)

            setattr(spec.loader, "exec_module", exec_module)  # noqa: B010 - mypy refuses the assignment to a method
        return spec

    def wrap(self, name: str, module: ModuleType) -> None:
        class_name, method, wrap = _TARGETS[name]
        owner = getattr(module, class_name, None)
        # Other versions may lack one of them; sockets are still judged.
        if owner is not None and method in vars(owner):
            original = vars(owner)[method]
            self.wrapped.append((owner, method, original))
            setattr(owner, method, wrap(original))

    def unwrap(self) -> None:
        while self.wrapped:
            owner, method, original = self.wrapped.pop()
            setattr(owner, method, original)


_watchers: Final[list[_Watcher]] = []


@contextlib.contextmanager
def watch_aws_clients() -> Iterator[None]:
    """Wrap what is imported, and what will be. A session inside another finds the work done."""
    if _watchers:
        yield
        return
    watcher = _Watcher()
    _watchers.append(watcher)
    sys.meta_path.insert(0, watcher)
    for name in _TARGETS:
        if name in sys.modules:
            watcher.wrap(name, sys.modules[name])
    try:
        yield
    finally:
        sys.meta_path.remove(watcher)
        watcher.unwrap()
        _watchers.remove(watcher)
