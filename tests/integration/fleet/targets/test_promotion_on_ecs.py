"""A promotion by the engine, with its canary's statistics, on ECS services: to its end, and given up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from tests.unit.release.promotion.rollout_parts import A, B, World, subject

from pratique.core.errors import EnvironmentFaultError, RefusedError
from pratique.fleet.targets.ecs import open_ecs_target
from pratique.fleet.targets.interface import Deployment
from pratique.release.promotion.promote import promote
from pratique.release.promotion.rollback import roll_back
from pratique.release.promotion.settings import CanarySettings, MetricRule, PromotionSettings

pytestmark = pytest.mark.integration
stages = pytest.importorskip("tests.integration.fleet.targets.test_ecs_target", exc_type=ImportError)
ground, stage = stages.ground, stages.stage

RULES = (
    MetricRule(name="error", kind="rate", max_increase=0.005, min_samples=100),
    MetricRule(name="first_token_seconds", kind="level", max_ratio=1.1, limit=1.0, min_samples=100),
)
STARTED = datetime(2026, 11, 26, 12, tzinfo=UTC)


@dataclass
class Play:
    """The engine's world, with an ECS target in it."""

    world: World
    stage: Any

    def measure(self, *, slower: float, minutes: int = 15) -> None:
        """Have CloudWatch know 20 requests a second, one of 20 of the candidate's in the second slot."""
        random = np.random.default_rng(7)
        for number in range(minutes):
            minute = STARTED + timedelta(minutes=number)
            for group, count, factor in zip(self.stage.groups, (1140, 60), (1.0, slower), strict=True):
                name = group.rpartition(":")[2]
                seconds = tuple(random.lognormal(np.log(0.08), 0.4, count) * factor)
                self.stage.aws.measured += [
                    stages.Measured("RequestCount", name, minute, (count,)),
                    stages.Measured("TargetResponseTime", name, minute, seconds),
                ]


@pytest.fixture
def play(stage: Any) -> Play:
    world = World(settings=PromotionSettings(canary=CanarySettings(metrics=RULES), look_seconds=300.0))
    world.time.started = STARTED.timestamp()
    target = replace(open_ecs_target(stage.settings), clock=world.time.epoch)
    target.promote(A)
    world.released(A)
    world.target = target  # type: ignore[assignment]  # any target plays this part
    return Play(world, stage)


def test_a_release_as_good_as_the_old_one_gets_all_traffic_and_is_rolled_back(play: Play) -> None:
    play.measure(slower=1.0)
    promote(play.world.desk(), subject(B), canary_seconds=900)
    assert play.world.target.deployment() == Deployment(B)
    (canary,) = play.world.gate.attested
    assert {one.metric: one.num_new for one in canary.metrics} == {"error": 780, "first_token_seconds": 780}
    roll_back(play.world.desk(), reason="a test")
    assert play.world.target.deployment() == Deployment(A)


def test_a_slower_release_is_found_out_and_loses_its_traffic(play: Play) -> None:
    play.measure(slower=1.6)
    with pytest.raises(RefusedError, match="first_token_seconds: worse than allowed"):
        promote(play.world.desk(), subject(B), canary_seconds=900)
    assert play.world.time.elapsed < 600
    assert play.world.target.deployment() == Deployment(A)
    assert play.world.heard.events == ["canary_failed"]


def test_without_data_in_cloudwatch_nothing_is_promoted(play: Play) -> None:
    with pytest.raises(EnvironmentFaultError, match="0 old and 0 new samples"):
        promote(play.world.desk(), subject(B), canary_seconds=300)
    assert play.world.target.deployment() == Deployment(A)
    assert play.world.heard.events == ["canary_inconclusive"]
