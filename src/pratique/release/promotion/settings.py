"""The settings of promotions: how long a canary runs, what is measured, and what counts as worse."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from pratique.core.errors import CallerError
from pratique.core.settings import Settings
from pratique.fleet.targets.ecs import EcsTargetSettings
from pratique.fleet.targets.interface import (
    BREAKER_OPEN,
    CLIENT_ERROR,
    ERROR,
    FIRST_TOKEN_SECONDS,
    GPU_BUSY,
    LATENCY_SECONDS,
)
from pratique.fleet.targets.local import LocalSettings
from pratique.fleet.targets.sagemaker import SageMakerTargetSettings

__all__ = ["CanarySettings", "MetricRule", "PromotionSettings"]

_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Probability = Annotated[float, msgspec.Meta(gt=0, lt=1)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class MetricRule(Settings, frozen=True, kw_only=True):
    """One metric of a canary. Higher is worse: measure seconds for each token, not tokens for each second."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    """As the target calls it, for example "latency_seconds"."""
    kind: Literal["rate", "level"]
    """A rate is 0 or 1 for each request; a level is any number from 0 on."""
    max_ratio: Annotated[float, msgspec.Meta(ge=1)] = 1.0
    """Of a level: how many times the old one's the new one's may be."""
    max_increase: _NotNegative = 0.0
    """By how much the new one may be higher, in the metric's unit; of a rate, of all requests. The larger counts."""
    limit: _Positive | None = None
    """Of a level: what the new one must keep, whatever the old one does. None: nothing."""
    limit_quantile: _Probability = 0.99
    """The part of the new one's samples that must keep the limit."""
    min_samples: Annotated[int, msgspec.Meta(ge=20)] = 200
    """On each side; with fewer the canary cannot pass."""
    is_required: bool = True
    """Not measured on either side is inconclusive; otherwise the metric is left out then."""


class CanarySettings(Settings, frozen=True, kw_only=True):
    """What a canary's statistics are held against."""

    false_alarms: Annotated[float, msgspec.Meta(gt=0, le=0.2)] = 0.01
    """The probability that a canary fails that is no worse than allowed, over all metrics and all looks."""
    doubt: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.05
    """A canary that is not worse for sure, but with a p-value below this, is inconclusive."""
    metrics: Annotated[tuple[MetricRule, ...], msgspec.Meta(min_length=1)] = (
        MetricRule(name=ERROR, kind="rate", max_increase=0.005),
        MetricRule(name=CLIENT_ERROR, kind="rate", max_increase=0.02, is_required=False),
        MetricRule(name=LATENCY_SECONDS, kind="level", max_ratio=1.1, max_increase=0.005, limit=0.5),
        MetricRule(
            name=FIRST_TOKEN_SECONDS, kind="level", max_ratio=1.1, max_increase=0.02, limit=10.0, is_required=False
        ),
        MetricRule(name=GPU_BUSY, kind="level", max_ratio=1.1, max_increase=0.05, min_samples=20, is_required=False),
        MetricRule(name=BREAKER_OPEN, kind="rate", max_increase=0.01, min_samples=20, is_required=False),
    )

    def __post_init__(self) -> None:
        """Refuse names that are there twice, and a doubt that is smaller than what fails."""
        names = [one.name for one in self.metrics]
        if len(set(names)) < len(names):
            raise CallerError(f"Each metric of a canary has one rule, got {', '.join(names)}.")
        if self.doubt < self.false_alarms:
            raise CallerError(f"doubt ({self.doubt:g}) must not be below false_alarms ({self.false_alarms:g}).")


class PromotionSettings(Settings, frozen=True, kw_only=True):
    """How a release gets the traffic."""

    targets: dict[str, LocalSettings] = msgspec.field(default_factory=dict)
    """Where each environment's releases run on this machine, by the environment's name."""
    ecs: dict[str, EcsTargetSettings] = msgspec.field(default_factory=dict)
    """The same for environments on Amazon ECS."""
    sagemaker: dict[str, SageMakerTargetSettings] = msgspec.field(default_factory=dict)
    """The same for environments that are a SageMaker endpoint."""
    canary: CanarySettings = CanarySettings()
    """What is measured, and what counts as worse."""
    share: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.05
    """Of the traffic, for the new release during its canary."""
    canary_seconds: Annotated[float, msgspec.Meta(ge=1)] = 900.0
    emergency_seconds: Annotated[float, msgspec.Meta(ge=1)] = 300.0
    """Of a canary on the emergency path. Never 0."""
    look_seconds: Annotated[float, msgspec.Meta(ge=0.1)] = 15.0
    """Between two looks at a running canary; a look can only end it early as failed."""
    health_seconds: _Positive = 60.0
    """How long a release that got all traffic may take to be healthy."""
    webhook: str | None = None
    """Where alerts are posted as JSON, beside the ledger and the log. None: nowhere."""
    webhook_seconds: _Positive = 5.0
    """How long that may take."""

    def __post_init__(self) -> None:
        """Refuse an environment in two places."""
        names = [*self.targets, *self.ecs, *self.sagemaker]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise CallerError(f"an environment has one target, got more for {', '.join(twice)}.")
