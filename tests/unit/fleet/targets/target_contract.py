"""What every target does, real or fake. A subclass gives a fresh target and digests that it can run."""

from __future__ import annotations

import pytest

from pratique.fleet.targets.interface import Deployment, Target, TargetError


class TargetContract:
    """Collected by the modules that subclass it."""

    first: str
    second: str

    def test_a_new_target_runs_nothing(self, target: Target) -> None:
        assert target.deployment() == Deployment(None)
        assert target.name

    def test_promote_gives_all_traffic(self, target: Target) -> None:
        target.promote(self.first)
        assert target.deployment() == Deployment(self.first)
        assert target.health(self.first).is_healthy

    def test_promote_again_changes_nothing(self, target: Target) -> None:
        target.promote(self.first)
        target.promote(self.first)
        assert target.deployment() == Deployment(self.first)

    def test_a_canary_runs_beside_the_stable_one(self, target: Target) -> None:
        target.promote(self.first)
        target.start_canary(self.second, share=0.25)
        target.start_canary(self.second, share=0.25)
        assert target.deployment() == Deployment(self.first, self.second, 0.25)
        assert target.health(self.second).is_healthy
        target.abort_canary()
        target.abort_canary()
        assert target.deployment() == Deployment(self.first)
        assert not target.health(self.second).is_healthy

    def test_a_promoted_canary_has_all_traffic_and_the_old_one_is_gone(self, target: Target) -> None:
        target.promote(self.first)
        target.start_canary(self.second, share=0.25)
        target.promote(self.second)
        assert target.deployment() == Deployment(self.second)
        assert not target.health(self.first).is_healthy

    def test_the_stable_one_promoted_during_a_canary_ends_the_canary(self, target: Target) -> None:
        target.promote(self.first)
        target.start_canary(self.second, share=0.25)
        target.promote(self.first)
        assert target.deployment() == Deployment(self.first)

    def test_a_canary_beside_nothing_is_refused(self, target: Target) -> None:
        with pytest.raises(TargetError, match="nothing to run a canary beside"):
            target.start_canary(self.first, share=0.25)
        assert target.deployment() == Deployment(None)

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
    def test_a_share_that_is_none_is_refused(self, target: Target, share: float) -> None:
        target.promote(self.first)
        with pytest.raises(TargetError, match="between 0 and 1"):
            target.start_canary(self.second, share=share)
        assert target.deployment() == Deployment(self.first)

    def test_abort_without_a_canary_changes_nothing(self, target: Target) -> None:
        target.abort_canary()
        target.promote(self.first)
        target.abort_canary()
        assert target.deployment() == Deployment(self.first)

    def test_what_does_not_run_is_not_healthy(self, target: Target) -> None:
        health = target.health(self.second)
        assert not health.is_healthy
        assert health.reason
