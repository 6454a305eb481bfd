"""The pools and the names that lead to them. Pure; built once from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pratique.core.settings import SettingsError
from pratique.orchestrator.models.interface import ModelNeededError, UnknownModelError
from pratique.orchestrator.models.settings import PoolSettings

if TYPE_CHECKING:
    from pratique.orchestrator.models.settings import ModelsSettings
    from pratique.orchestrator.protocol.events import ModelState

__all__ = ["DEFAULT_POOL", "NAMED_ONLY", "ModelCatalogue", "Named", "build_catalogue"]

DEFAULT_POOL = "default"
NAMED_ONLY = "named-only"


@dataclass(frozen=True, kw_only=True)
class Named:
    """Where a name leads."""

    pool: str
    adapter: str = ""


class ModelCatalogue:
    """What there is to answer with."""

    def __init__(self, pools: tuple[PoolSettings, ...], *, default: str, is_name_needed: bool = False) -> None:
        self.pools = {pool.name: pool for pool in pools}
        self.default = default
        self.order = (default, *(pool.name for pool in pools if pool.name != default))
        """The pools' names, the default first."""
        self._is_name_needed = is_name_needed
        self._names = {name: Named(pool=pool.name) for pool in reversed(pools) for name in pool.models}
        self._names |= {name: Named(pool=pool.name, adapter=name) for pool in reversed(pools) for name in pool.adapters}
        self._names |= {pool.name: Named(pool=pool.name) for pool in pools}

    @property
    def names(self) -> tuple[str, ...]:
        """All that a message may name: pools, then adapters, then models."""
        pools = [self.pools[name] for name in self.order]
        adapters = [name for pool in pools for name in pool.adapters]
        models = [name for pool in pools for name in pool.models]
        return tuple(dict.fromkeys([*self.order, *adapters, *models]))

    def find(self, name: str) -> Named | None:
        """Return where a name leads, if anywhere. Where several pools hold an adapter, to the first of them."""
        return self._names.get(name)

    def resolve(self, name: str) -> Named:
        """Return where a name leads; raises UnknownModelError."""
        found = self.find(name)
        if found is None:
            raise UnknownModelError(name, self.names)
        return found

    def verify_named(self, name: str | None) -> None:
        """Check what a message names before it is stored; raises UnknownModelError, ModelNeededError."""
        if name is not None:
            self.resolve(name)
        elif self._is_name_needed:
            raise ModelNeededError(self.names)

    def readiness(self, pool: str, state: ModelState) -> bool | None:
        """Say whether a pool takes traffic, by the model servers named after it ("pool" or "pool/0"); None: unknown."""
        if len(self.pools) == 1:
            return state.ready
        replicas = [one for one in state.replicas if one.name.split("/")[0] == pool]
        return any(one.takes_traffic for one in replicas) if replicas else None


def build_catalogue(settings: ModelsSettings, *, inference_url: str) -> ModelCatalogue:
    """Check the pools and return them.

    Raises:
        SettingsError: a name is given twice, or the default is none of them.
    """
    pools = settings.pools or (PoolSettings(name=DEFAULT_POOL, url=inference_url),)
    names = [pool.name for pool in pools]
    for pool in pools:
        for other in (*pool.adapters, *pool.models):
            if other in names and other != pool.name:
                raise SettingsError(f"Expected names of one meaning in models.pools; '{other}' is a pool and more.")
    if len(set(names)) != len(names):
        raise SettingsError(f"Expected pools of different names in models.pools; found {', '.join(names)}.")
    default = settings.default_pool or names[0]
    if default not in names:
        raise SettingsError(f"Expected models.default_pool to be one of {', '.join(names)}; found '{default}'.")
    return ModelCatalogue(pools, default=default, is_name_needed=settings.policy == NAMED_ONLY)
