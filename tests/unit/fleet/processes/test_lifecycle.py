"""The phases of a service."""

from __future__ import annotations

import pytest

from pratique.fleet.processes.lifecycle import IllegalPhaseError, Phase, follow

pytestmark = pytest.mark.unit


def test_life_with_a_crash() -> None:
    phase = Phase.WAITING
    for wanted in (
        Phase.STARTING,
        Phase.READY,
        Phase.UNREADY,
        Phase.READY,
        Phase.BACKING_OFF,
        Phase.STARTING,
        Phase.FAILED,
        Phase.STARTING,
        Phase.STOPPING,
        Phase.STOPPED,
        Phase.STARTING,
    ):
        phase = follow(phase, wanted)


def test_staying_is_no_step() -> None:
    assert follow(Phase.READY, Phase.READY) is Phase.READY


@pytest.mark.parametrize(
    ("current", "wanted"),
    [
        (Phase.WAITING, Phase.READY),
        (Phase.READY, Phase.STARTING),
        (Phase.STOPPED, Phase.READY),
        (Phase.STOPPING, Phase.READY),
    ],
)
def test_illegal_step_names_both(current: Phase, wanted: Phase) -> None:
    with pytest.raises(IllegalPhaseError, match=f"{current.value}.*not '{wanted.value}'"):
        follow(current, wanted)
