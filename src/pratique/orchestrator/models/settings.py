"""The table [orchestrator.models]."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from pratique.core.settings import Settings
from pratique.orchestrator.protocol.frames import ModelName

__all__ = ["ComplexitySettings", "ModelsSettings", "PoolSettings"]

_Points: TypeAlias = Annotated[int, Meta(ge=0, le=100)]
_PoolName: TypeAlias = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,62}$")]


class PoolSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Model servers that are alike, behind one address."""

    name: _PoolName
    url: Annotated[str, Meta(pattern="^https?://")]
    """The edge's internal listener for this pool, or one model server."""
    adapters: tuple[ModelName, ...] = ()
    """LoRA adapters that its servers hold; a message may name one."""
    models: tuple[ModelName, ...] = ()
    """Other names for the pool: those under which its servers answer on /v1."""
    description: str = ""
    """For people who choose."""
    max_prompt_tokens: Annotated[int, Meta(ge=1)] | None = None
    """No longer prompt is sent here by a policy, as far as can be estimated."""


class ComplexitySettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of the policy "complexity": points for what makes a question hard."""

    small: str = "small"
    """The pool of simple questions."""
    large: str = "large"
    """The pool of complex ones."""
    threshold: _Points = 2
    """With so many points a question is complex."""
    long_tokens: Annotated[int, Meta(ge=1)] = 150
    """A longer question has a point, one four times as long has two; estimated."""
    long_history_tokens: Annotated[int, Meta(ge=1)] = 2000
    """A longer conversation has a point; estimated."""
    many_sentences: Annotated[int, Meta(ge=1)] = 5
    """From so many sentences on there is a point."""
    code_points: _Points = 2
    mathematics_points: _Points = 2
    instruction_points: _Points = 2
    """For "step by step", "compare", "prove" and their like, in English and Japanese."""
    steps_points: _Points = 1
    """For a list of steps, or several questions at once."""
    japanese_points: _Points = 0
    """For Japanese, where the small model is weak in it."""


class ModelsSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pools, and how one is chosen."""

    pools: tuple[PoolSettings, ...] = ()
    """By default one, "default", at `inference_url`."""
    default_pool: str = ""
    """Answers where nothing else is said. By default the first one."""
    policy: Annotated[str, Meta(min_length=1, max_length=256)] = "fixed"
    """fixed: the default pool; complexity; named-only: messages must name a model; or "package.module:factory"."""
    policy_options: dict[str, str | int | float | bool] = {}  # noqa: RUF012 - msgspec copies an empty default
    """For a factory of one's own."""
    complexity: ComplexitySettings = ComplexitySettings()
    """The table [orchestrator.models.complexity]."""
    fallback: bool = True
    """Where the chosen pool is unavailable, another one answers; never where the message named a model."""
