"""The target in memory keeps the contract."""

from __future__ import annotations

import pytest
from tests.unit.fleet.targets.target_contract import TargetContract

from pratique.fleet.targets.fake import FakeTarget
from pratique.fleet.targets.interface import TargetError

pytestmark = pytest.mark.unit


class TestFakeTarget(TargetContract):
    first = "sha256:" + "1" * 64
    second = "sha256:" + "2" * 64

    @pytest.fixture
    def target(self) -> FakeTarget:
        return FakeTarget()


def test_a_scripted_fault_is_raised_before_anything_is_done() -> None:
    target = FakeTarget(failing={"promote"})
    with pytest.raises(TargetError):
        target.promote("sha256:1")
    assert (target.stable, target.calls) == (None, [])


def test_what_is_measured_is_scripted_by_digest() -> None:
    target = FakeTarget(stable="a", candidate="b", script={"a": lambda seconds: {"error": [0.0] * int(seconds)}})
    window = target.measure(seconds=3)
    assert (list(window.stable["error"]), dict(window.candidate)) == ([0.0] * 3, {})


def test_an_unhealthy_digest_says_so() -> None:
    target = FakeTarget(stable="a", unhealthy={"a"})
    assert not target.health("a").is_healthy
