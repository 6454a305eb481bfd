"""The rollout story on this machine: a slow release gets 5 % of real traffic, and is off again before anybody asks."""

from __future__ import annotations

import time

import pytest
from tests.integration.fleet.targets.conftest import Load, Stage, load, stage, target
from tests.unit.release.promotion.rollout_parts import A, Answers, B, C, Heard, MemoryLedger, subject

from pratique.fleet.targets.local import LocalTarget
from pratique.release.promotion.desk import Desk
from pratique.release.promotion.errors import CanaryFailedError
from pratique.release.promotion.interface import SystemPace
from pratique.release.promotion.promote import promote
from pratique.release.promotion.rollback import roll_back
from pratique.release.promotion.settings import CanarySettings, MetricRule, PromotionSettings

pytestmark = [pytest.mark.integration, pytest.mark.slow]
__all__ = ["load", "stage", "target"]  # fixtures of the target's own tests

SETTINGS = PromotionSettings(
    canary=CanarySettings(
        metrics=(
            MetricRule(name="error", kind="rate", max_increase=0.02, min_samples=20),
            MetricRule(
                name="latency_seconds", kind="level", max_ratio=2.0, max_increase=0.1, limit=0.5, min_samples=20
            ),
        )
    ),
    share=0.2,
    look_seconds=1.5,
)


def test_a_slow_release_is_taken_off_at_once_and_a_good_one_is_promoted_and_rolled_back(
    target: LocalTarget, stage: Stage, load: Load
) -> None:
    ledger, heard = MemoryLedger(), Heard()
    desk = Desk("production", "somebody", target, ledger, Answers(), (heard,), SystemPace(), SETTINGS)
    promote(desk, subject(A), canary_seconds=6)

    stage.make(B, "slow", "0.7")
    began = time.monotonic()
    with pytest.raises(CanaryFailedError, match="latency_seconds: worse than allowed"):
        promote(desk, subject(B), canary_seconds=60)
    assert time.monotonic() - began < 30
    assert (target.deployment().stable, target.deployment().candidate) == (A, None)
    assert [one.event for one in heard.alerts] == ["canary_failed"]
    load.answers.clear()
    time.sleep(0.5)
    assert set(load.answers) == {A}

    assert promote(desk, subject(C), canary_seconds=4).result == "promoted"
    outcome = roll_back(desk, reason="to try it")
    assert (outcome.result, outcome.subject.digest) == ("rolled_back", A)
    assert outcome.seconds < 180  # a promise of the specification; it is about a second here
    assert target.health(A).is_healthy
    assert not [answer for answer in load.answers if answer not in {A, C}]
