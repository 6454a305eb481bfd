"""Which tiers have failed: in one process, and in several that share a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pratique.testkit.tiers.failures import FailedTiers
from pratique.testkit.tiers.policy import Tier

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


def test_one_process_knows_its_own() -> None:
    failed = FailedTiers(None)
    assert failed.first_of(Tier) is None
    failed.add(Tier.INTEGRATION)
    failed.add(Tier.INTEGRATION)
    assert failed.first_of(Tier) is Tier.INTEGRATION
    assert failed.first_of([Tier.UNIT]) is None
    assert FailedTiers(None).first_of(Tier) is None


def test_processes_that_share_a_folder_know_of_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "not there yet"
    one, other = FailedTiers(folder), FailedTiers(folder)
    assert other.first_of(Tier) is None
    one.add(Tier.UNIT)
    assert other.first_of(Tier) is Tier.UNIT
    for file in folder.iterdir():
        file.unlink()
    assert other.first_of(Tier) is Tier.UNIT  # what is known is not asked again
