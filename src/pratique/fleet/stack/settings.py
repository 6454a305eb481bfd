"""Settings of the stack, the table `[stack]` of a configuration file; and where its files are.

Precedence: defaults < file < PRATIQUE_STACK_… in the environment < flags.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

import pratique
from pratique.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StackPaths", "StackSettings", "default_config", "default_state_dir"]

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
_EXAMPLE: Final = Path("examples", "manga-assistant", "pratique.toml")


class StackSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What runs on this machine."""

    host: str = "127.0.0.1"
    """Where the edge listens. Anything but a loopback address lets other machines in."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 8080
    """Of the edge; 0: any free one."""
    engine: Literal["vllm", "simulated"] = "vllm"
    inference: Annotated[int, msgspec.Meta(ge=0, le=8)] = 0
    """Model servers; 0: 2 where memory allows, else 1."""
    orchestrators: Annotated[int, msgspec.Meta(ge=1, le=8)] = 2
    model: str = ""
    """Folder of a model in safetensors. Empty: the small model, imported at the first start."""
    model_root: str = ""
    """Where imported models are kept. Empty: models in the state folder."""
    replica_memory_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] | None = None
    """What one model server takes, for the decision how many fit. Empty: a measured value for the small model."""
    cache_memory_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 256 * 2**20
    """Of Valkey: cached conversations and the logs of running replies."""
    start_deadline_seconds: _Seconds = 1800.0
    """Until the first model server takes traffic, the model's import included."""
    orchestrator_grace_seconds: _Seconds = 25.0
    inference_grace_seconds: _Seconds = 25.0


@dataclass(frozen=True, kw_only=True)
class StackPaths:
    """The layout of a state folder."""

    root: Path
    model_root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def description(self) -> Path:
        return self.root / "stack.json"

    @property
    def control(self) -> Path:
        return self.root / "supervisor.sock"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def valkey(self) -> Path:
        return self.root / "valkey"

    @property
    def envoy(self) -> Path:
        return self.root / "envoy"

    @property
    def api_key(self) -> Path:
        return self.root / "api-key"

    @property
    def api_keys(self) -> Path:
        return self.root / "api-keys.json"

    def log_of(self, service: str) -> Path:
        """Return the log file of a service."""
        return self.logs / f"{service}.log"


def default_state_dir(environment: Mapping[str, str]) -> Path:
    """Return where state is kept unless told otherwise (XDG)."""
    base = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "pratique"


def default_config() -> Path | None:
    """Return the reference application's file, from this package or from the checkout it is installed from."""
    package = Path(pratique.__file__).parent
    found = [path for path in (package / _EXAMPLE, package.parents[1] / _EXAMPLE) if path.is_file()]
    return found[0] if found else None
