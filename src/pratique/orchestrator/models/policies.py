"""The policies that come with the house, and how one from elsewhere is found."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from pratique.core.settings import SettingsError
from pratique.orchestrator.models.catalogue import NAMED_ONLY
from pratique.orchestrator.models.features import read_features
from pratique.orchestrator.models.interface import Choice, Question, RoutingPolicy

if TYPE_CHECKING:
    from pratique.orchestrator.models.catalogue import ModelCatalogue
    from pratique.orchestrator.models.features import Features
    from pratique.orchestrator.models.settings import ComplexitySettings, ModelsSettings

__all__ = ["ComplexityPolicy", "FixedPolicy", "PolicyFactory", "open_policy"]

PolicyFactory: TypeAlias = Callable[[Mapping[str, str | int | float | bool], tuple[str, ...]], RoutingPolicy]
"""What "package.module:factory" names: of the options and the pools' names it makes a policy."""

_VERY_LONG = 4
_SEVERAL = 2


class FixedPolicy:
    """One pool for everything."""

    name = "fixed"

    def __init__(self, pool: str) -> None:
        self._pool = pool

    def choose(self, question: Question) -> Choice:
        del question
        return Choice(pool=self._pool, reason="the default pool")


class ComplexityPolicy:
    """Simple questions to the small pool, complex ones to the large one; the reason says what was seen."""

    name = "complexity"

    def __init__(self, settings: ComplexitySettings) -> None:
        self._settings = settings

    def choose(self, question: Question) -> Choice:
        settings = self._settings
        found = self.weigh(read_features(question.text, (turn.content for turn in question.history)))
        points = sum(number for number, _ in found)
        seen = ", ".join(words for _, words in found) or "nothing that makes it hard"
        is_complex = points >= settings.threshold
        return Choice(
            pool=settings.large if is_complex else settings.small,
            reason=f"{'complex' if is_complex else 'simple'} question ({points} of {settings.threshold}): {seen}",
        )

    def weigh(self, features: Features) -> list[tuple[int, str]]:
        """Return the points of a question, each with its reason in words."""
        settings = self._settings
        is_very_long = features.num_tokens >= _VERY_LONG * settings.long_tokens
        weights = [
            (2, "very long", is_very_long),
            (1, "long", not is_very_long and features.num_tokens >= settings.long_tokens),
            (1, "long conversation", features.num_history_tokens >= settings.long_history_tokens),
            (1, f"{features.num_sentences} sentences", features.num_sentences >= settings.many_sentences),
            (settings.code_points, "code", features.has_code),
            (settings.mathematics_points, "mathematics", features.has_mathematics),
            (settings.instruction_points, f'"{features.instruction}"', bool(features.instruction)),
            (settings.steps_points, "several steps", features.num_steps >= _SEVERAL),
            (settings.steps_points, "several questions", features.num_questions >= _SEVERAL),
            (settings.japanese_points, "Japanese", features.is_japanese),
        ]
        return [(points, words) for points, words, is_seen in weights if is_seen and points]


def open_policy(settings: ModelsSettings, catalogue: ModelCatalogue) -> RoutingPolicy:
    """Return the policy that the settings name.

    Raises:
        SettingsError: there is none of that name, it cannot be made, or it needs a pool that there is not.
    """
    if settings.policy in {FixedPolicy.name, NAMED_ONLY}:
        # Where messages must name a model, it is never asked.
        return FixedPolicy(catalogue.default)
    if settings.policy == ComplexityPolicy.name:
        for pool in (settings.complexity.small, settings.complexity.large):
            if pool not in catalogue.pools:
                raise SettingsError(
                    f"The policy 'complexity' needs a pool '{pool}'; there are: {', '.join(catalogue.order)}.",
                    hint="Name the pools in [orchestrator.models.complexity]: small, large.",
                )
        return ComplexityPolicy(settings.complexity)
    return _open_foreign(settings, catalogue)


def _open_foreign(settings: ModelsSettings, catalogue: ModelCatalogue) -> RoutingPolicy:
    module_name, separator, factory_name = settings.policy.partition(":")
    if not (separator and module_name and factory_name):
        raise SettingsError(
            f"Expected models.policy to be 'fixed', 'complexity', 'named-only' or 'package.module:factory'; "
            f"found '{settings.policy}'."
        )
    try:
        factory: PolicyFactory = getattr(importlib.import_module(module_name), factory_name)
        policy = factory(settings.policy_options, catalogue.order)
    except Exception as error:
        # Somebody else's code, at start: whatever it raises is a reason not to start, said with where it came from.
        raise SettingsError(
            f"The routing policy '{settings.policy}' cannot be made: {type(error).__name__}: {error}."
        ) from error
    if not isinstance(getattr(policy, "name", None), str) or not callable(getattr(policy, "choose", None)):
        raise SettingsError(
            f"Expected '{settings.policy}' to make an object with `name` and `choose(question)`; found {policy!r}."
        )
    return policy
