"""The OpenAI API over several pools: each request goes, untouched, to the pool of the model that its body names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from pratique.orchestrator.forward.interface import ForwardAnswer, Forwarder, ForwardRequest
    from pratique.orchestrator.models.catalogue import ModelCatalogue

__all__ = ["PooledForwarder", "pool_of"]


class _Body(msgspec.Struct):
    model: str = ""


class PooledForwarder:
    """A `Forwarder` over pools, by name.

    What names no model, or one that is not known here, goes to the default pool: its servers say what is wrong with it,
    in OpenAI's shape.
    """

    def __init__(self, pools: Mapping[str, Forwarder], catalogue: ModelCatalogue) -> None:
        self._pools = pools
        self._catalogue = catalogue

    def open(self, request: ForwardRequest) -> AbstractAsyncContextManager[ForwardAnswer]:
        return self._pools[pool_of(request.body, self._catalogue)].open(request)


def pool_of(body: bytes, catalogue: ModelCatalogue) -> str:
    """Return the pool that a body is for."""
    if len(catalogue.pools) == 1 or not body:
        return catalogue.default
    try:
        name = msgspec.json.decode(body, type=_Body).model
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return catalogue.default
    named = catalogue.find(name)
    return named.pool if named else catalogue.default
