"""The plan of a stack: which services, how each is started, what waits for what. Pure.

Everything starts at once, except that one model server loads at a time: on a small machine two would fight for the
cores and both be late. Addresses are fixed for the life of the stack: a restarted service is found where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pratique.fleet.edge import Affinity, EdgeConfig, EdgeFiles, Endpoint, Gate, HealthCheck, Pool, Share
from pratique.fleet.edge.config import LOOPBACK
from pratique.fleet.processes.child import Program
from pratique.fleet.processes.marker import MARKER
from pratique.fleet.processes.service import ServiceSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pratique.fleet.stack.settings import StackPaths, StackSettings

__all__ = [
    "API_KEY",
    "EDGE",
    "MODEL_IMPORT",
    "VALKEY",
    "Plan",
    "PlannedService",
    "Ports",
    "Site",
    "make_plan",
    "ports_needed",
    "replica_bytes",
    "serves_small_model",
    "valkey_configuration",
]

EDGE: Final = "edge"
VALKEY: Final = "valkey"
MODEL_IMPORT: Final = "model"
API_KEY: Final = "api-key"
_VLLM_REPLICA_BYTES: Final = 2_500_000_000
_SIMULATED_REPLICA_BYTES: Final = 150_000_000
_READY_DEADLINE_SECONDS: Final = 60.0
"""Of services that are there in a second on a free machine; it may be a busy one."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Which service listens where."""

    public: int
    internal: int
    admin: int
    valkey: int
    orchestrators: tuple[int, ...]
    inference: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the plan is made for: this machine, its programs, this run."""

    paths: StackPaths
    ports: Ports
    config: Path | None
    python: str
    envoy: Path
    valkey_server: Path
    marker: str
    password: str = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    has_key: bool = False
    """The API key of this machine's own programs was made by an earlier run."""
    has_model: bool = False
    """The small model was imported by an earlier run."""


@dataclass(frozen=True, kw_only=True)
class PlannedService:
    """A service and what is awaited before its first start."""

    spec: ServiceSpec
    after: str = ""

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The whole stack."""

    url: str
    internal_url: str
    valkey_url: str = field(repr=False)
    password: str = field(repr=False)
    ports: Ports
    edge: EdgeConfig
    services: tuple[PlannedService, ...]
    model_import: Program | None
    """Imports the small model, which is not there yet."""
    create_key: Program | None
    """Makes the key of this machine's own programs, which is not there yet."""
    stop_order: tuple[tuple[str, ...], ...]
    """Kinds of services, those that stop together."""


def ports_needed(settings: StackSettings, replicas: int) -> int:
    """Return how many loopback ports the services take besides the public one."""
    return 3 + settings.orchestrators + replicas


def replica_bytes(settings: StackSettings) -> int:
    """Return what one model server is expected to take."""
    default = _VLLM_REPLICA_BYTES if settings.engine == "vllm" else _SIMULATED_REPLICA_BYTES
    return settings.replica_memory_bytes or default


def serves_small_model(settings: StackSettings) -> bool:
    """Whether the small model is what is served."""
    return settings.engine == "vllm" and not settings.model


def make_plan(settings: StackSettings, site: Site) -> Plan:
    """Return the plan for these settings on this site."""
    maker = _Maker(settings, site)
    imports = serves_small_model(settings) and not site.has_model
    root = str(site.paths.model_root)
    keys = str(site.paths.api_keys)
    return Plan(
        url=f"http://{_reachable(settings.host)}:{site.ports.public}",
        internal_url=maker.internal_url,
        valkey_url=maker.valkey_url,
        password=site.password,
        ports=site.ports,
        edge=_edge(settings, site.ports),
        # The model server takes longest, so it is started first.
        services=(*maker.inference(imports), maker.valkey(), maker.edge(), *maker.orchestrators()),
        model_import=maker.pratique("model", "import", "small", "--model-root", root, "--json") if imports else None,
        create_key=None
        if site.has_key
        else maker.pratique("apikey", "create", "--name", "local", "--file", keys, "--json"),
        # Replies that run need their model server and the edge to finish.
        stop_order=(("orchestrator",), ("inference",), (EDGE, VALKEY)),
    )


def valkey_configuration(site: Site, cache_bytes: int) -> str:
    """Return Valkey's configuration file.

    When memory is full, what was not used for longest goes: cached conversations, then logs of finished replies.
    Running replies and their leases are touched all the time and stay.
    """
    return "\n".join(
        [
            f"bind {LOOPBACK}",
            f"port {site.ports.valkey}",
            f"requirepass {site.password}",
            f'dir "{site.paths.valkey}"',
            'save ""',
            "appendonly no",
            f"maxmemory {cache_bytes}",
            "maxmemory-policy volatile-lru",
            "maxclients 2000",
            "client-output-buffer-limit pubsub 32mb 8mb 60",
            "loglevel notice",
            "",
        ]
    )


class _Maker:
    """Builds the services of one plan."""

    def __init__(self, settings: StackSettings, site: Site) -> None:
        self._settings = settings
        self._site = site
        self._paths = site.paths
        self.internal_url = f"http://{LOOPBACK}:{site.ports.internal}"
        self.valkey_url = f"redis://:{site.password}@{LOOPBACK}:{site.ports.valkey}/0"
        self._config = ("--config", str(site.config)) if site.config else ()
        # Relative names in the configuration file mean files beside it.
        self._folder = site.config.parent if site.config else site.paths.root

    def pratique(self, *arguments: str, **variables: str) -> Program:
        """Return one of our own commands. -P: nothing is imported from the folder it runs in."""
        command = (self._site.python, "-P", "-m", "pratique.cli.main", *arguments)
        return self._program(command, PYTHONUNBUFFERED="1", **variables)

    def inference(self, imports: bool) -> list[PlannedService]:
        ports = self._site.ports.inference
        first = MODEL_IMPORT if imports else ""
        return [
            PlannedService(spec=self._inference(number, port), after=f"inference-{number - 1}" if number else first)
            for number, port in enumerate(ports)
        ]

    def orchestrators(self) -> list[PlannedService]:
        statuses: list[str] = []
        for number, port in enumerate(self._site.ports.inference):
            statuses += ["--inference-status", f"inference-{number}=http://{LOOPBACK}:{port}"]
        return [
            PlannedService(spec=self._orchestrator(f"orchestrator-{number}", port, tuple(statuses)))
            for number, port in enumerate(self._site.ports.orchestrators)
        ]

    def valkey(self) -> PlannedService:
        command = (str(self._site.valkey_server), str(self._paths.valkey / "valkey.conf"))
        return PlannedService(
            spec=ServiceSpec(
                name=VALKEY,
                kind=VALKEY,
                program=self._program(command),
                address=f"{LOOPBACK}:{self._site.ports.valkey}",
                ready_deadline_seconds=_READY_DEADLINE_SECONDS,
            )
        )

    def edge(self) -> PlannedService:
        command = EdgeFiles(self._paths.envoy).command(self._site.envoy)
        return PlannedService(
            spec=ServiceSpec(
                name=EDGE,
                kind=EDGE,
                program=self._program(command),
                address=f"http://{self._settings.host}:{self._site.ports.public}",
                ready_deadline_seconds=_READY_DEADLINE_SECONDS,
            )
        )

    def _inference(self, number: int, port: int) -> ServiceSpec:
        name = f"inference-{number}"
        options = ["--name", name, "--host", LOOPBACK, "--port", str(port), "--engine", self._settings.engine]
        options += ["--model-root", str(self._paths.model_root)]
        options += ["--model", self._settings.model] if self._settings.model else []
        return ServiceSpec(
            name=name,
            kind="inference",
            program=self.pratique("serve", "inference", *options, *self._config),
            address=f"http://{LOOPBACK}:{port}",
            grace_seconds=self._settings.inference_grace_seconds,
            ready_deadline_seconds=None,
        )

    def _orchestrator(self, name: str, port: int, statuses: tuple[str, ...]) -> ServiceSpec:
        options = ["--name", name, "--host", LOOPBACK, "--port", str(port), "--state-dir", str(self._paths.root)]
        options += ["--inference-url", self.internal_url, *statuses]
        # By the environment, because every user of the machine can read a command line.
        return ServiceSpec(
            name=name,
            kind="orchestrator",
            program=self.pratique(
                "serve", "orchestrator", *options, *self._config, PRATIQUE_ORCHESTRATOR_VALKEY_URL=self.valkey_url
            ),
            address=f"http://{LOOPBACK}:{port}",
            grace_seconds=self._settings.orchestrator_grace_seconds,
            ready_deadline_seconds=_READY_DEADLINE_SECONDS,
        )

    def _program(self, command: tuple[str, ...], **variables: str) -> Program:
        environment = {**self._site.environment, **variables, MARKER: self._site.marker}
        return Program(command=command, environment=environment, folder=self._folder)


def _edge(settings: StackSettings, ports: Ports) -> EdgeConfig:
    orchestrators = Pool(
        name="orchestrators",
        endpoints=_endpoints("orchestrator", ports.orchestrators),
        health=HealthCheck(path="/readyz"),
    )
    inference = Pool(
        name="inference",
        endpoints=_endpoints("inference", ports.inference),
        # A model server that computes on every core answers late without being broken.
        health=HealthCheck(path="/ping", timeout_seconds=2.0),
    )
    public = Gate(
        name="public",
        host=settings.host,
        port=ports.public,
        shares=(Share(pool=orchestrators.name),),
        affinity=Affinity(header="x-pratique-affinity", cookie="pratique_affinity"),
        is_public=True,
        unavailable_message="No replica of the chat service takes traffic right now.",
    )
    internal = Gate(
        name="internal",
        port=ports.internal,
        shares=(Share(pool=inference.name),),
        affinity=Affinity(header="x-pratique-conversation"),
        unavailable_message="No model server takes traffic right now.",
    )
    return EdgeConfig(gates=(public, internal), pools=(orchestrators, inference), admin_port=ports.admin)


def _endpoints(kind: str, ports: tuple[int, ...]) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(name=f"{kind}-{number}", port=port) for number, port in enumerate(ports))


def _reachable(host: str) -> str:
    return LOOPBACK if host in {"0.0.0.0", "::", ""} else host
