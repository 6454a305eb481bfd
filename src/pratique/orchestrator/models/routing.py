"""Which pool answers, and why. Pure but for the policy, which is trusted with nothing: its failure costs no reply.

In this order: where an earlier attempt of the same reply went; the model that the message names; the policy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pratique.core.events import get_logger
from pratique.orchestrator.models.features import estimate_tokens
from pratique.orchestrator.models.interface import Choice, Question
from pratique.orchestrator.protocol.events import Route

if TYPE_CHECKING:
    from pratique.orchestrator.models.catalogue import ModelCatalogue
    from pratique.orchestrator.models.interface import RoutingPolicy
    from pratique.orchestrator.upstream.interface import UpstreamRequest

__all__ = ["Routed", "Router"]

_logger = get_logger("models")
_DEGRADED: Final = ("routing",)
_MAX_REASON_CHARACTERS: Final = 300


@dataclass(frozen=True, kw_only=True)
class Routed:
    """Where one attempt goes."""

    pool: str
    adapter: str = ""
    route: Route | None = None
    """What the reader is told; None where there was nothing to choose."""
    others: tuple[str, ...] = ()
    """Pools that may answer in its place, in this order."""
    degraded: tuple[str, ...] = ()


class Router:
    """Routes the attempts of one replica."""

    def __init__(self, catalogue: ModelCatalogue, policy: RoutingPolicy, *, has_fallback: bool = True) -> None:
        self._catalogue = catalogue
        self._policy = policy
        self._has_fallback = has_fallback

    def route(self, request: UpstreamRequest) -> Routed:
        """Say where an attempt goes.

        Raises:
            UnknownModelError, ModelNeededError: the message was stored under other settings than these.
        """
        if request.route is not None and request.route.pool in self._catalogue.pools:
            return Routed(pool=request.route.pool, adapter=self._adapter_of(request.route), route=request.route)
        self._catalogue.verify_named(request.model or None)
        if request.model:
            return self._named(request.model)
        if len(self._catalogue.pools) == 1:
            return Routed(pool=self._catalogue.default)
        choice, degraded = self._choose(request)
        roomy = self._with_room_for(request)
        if choice.pool not in roomy and roomy:
            choice = Choice(pool=roomy[0], reason=f"{choice.reason}; too long for '{choice.pool}'")
        route = Route(pool=choice.pool, model=choice.adapter, policy=self._policy.name, reason=choice.reason)
        # What has begun to speak is not gone on with by another model.
        may_fall_back = self._has_fallback and not request.prefix
        others = tuple(name for name in roomy if name != choice.pool) if may_fall_back else ()
        return Routed(pool=choice.pool, adapter=choice.adapter, route=route, others=others, degraded=degraded)

    def _adapter_of(self, route: Route) -> str:
        return route.model if route.model in self._catalogue.pools[route.pool].adapters else ""

    def _named(self, name: str) -> Routed:
        named = self._catalogue.resolve(name)
        route = Route(pool=named.pool, model=named.adapter, policy="named", reason=f"the message asks for '{name}'")
        return Routed(pool=named.pool, adapter=named.adapter, route=route)

    def _choose(self, request: UpstreamRequest) -> tuple[Choice, tuple[str, ...]]:
        question = Question(
            text=request.query, history=request.history, passages=request.passages, pools=self._catalogue.order
        )
        try:
            choice = self._policy.choose(question)
        except Exception:
            # A policy may be anybody's code: whatever it raises, the default pool answers, and the reply says so.
            _logger.exception("routing_policy_failed", policy=self._policy.name)
            return self._instead("failed"), _DEGRADED
        if not self._is_sound(choice):
            _logger.error("routing_policy_chose_nonsense", policy=self._policy.name, choice=repr(choice)[:200])
            return self._instead("chose what there is not"), _DEGRADED
        return replace(choice, reason=choice.reason[:_MAX_REASON_CHARACTERS]), ()

    def _instead(self, what: str) -> Choice:
        return Choice(pool=self._catalogue.default, reason=f"the policy {what}; the default pool answers")

    def _is_sound(self, choice: object) -> bool:
        if not isinstance(choice, Choice):
            return False
        if not all(isinstance(said, str) for said in (choice.pool, choice.reason, choice.adapter)):
            return False
        pool = self._catalogue.pools.get(choice.pool)
        return pool is not None and (choice.adapter == "" or choice.adapter in pool.adapters)

    def _with_room_for(self, request: UpstreamRequest) -> tuple[str, ...]:
        """Return the pools whose prompts may be so long, the default first."""
        limits = {name: self._catalogue.pools[name].max_prompt_tokens for name in self._catalogue.order}
        if not any(limits.values()):
            return self._catalogue.order
        parts = [request.query, request.system_prompt, request.prefix, *request.passages]
        num_tokens = sum(map(estimate_tokens, (*parts, *(turn.content for turn in request.history))))
        return tuple(name for name, limit in limits.items() if limit is None or num_tokens <= limit)
