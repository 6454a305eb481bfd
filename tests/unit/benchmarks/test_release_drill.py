"""The 2 a.m. drill's pure parts: what its team has written down is what the product reads; what the report says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.release_drill.desk import Desk, DrillError, Part, Step, expect
from benchmarks.release_drill.report import as_json, render_table
from benchmarks.release_drill.texts import (
    FIXED,
    OLD_RECORDS,
    VULNERABLE,
    Pace,
    Places,
    advisory,
    approved_text,
    config_text,
    lock_text,
    policy_text,
)

from pratique.cli._signing import release_settings
from pratique.release.advisories.records import parse_record
from pratique.release.lock.requirements import read_requirements
from pratique.release.lock.settings import LockSettings
from pratique.release.mirror.approved import parse_approved
from pratique.release.policy.parse import parse_policy

pytestmark = pytest.mark.unit

HONEST = Pace(300.0)
SHORT = Pace(20.0, 40.0)
SIGNERS = ("builder", "scanner", "rollout", "ana", "ben")
PLACES = Places(
    folder="/drill",
    registry="127.0.0.1:5080",
    mirror_port=5081,
    target_ports=(1, 2, 3, 4),
    podman=("podman",),
    keys={name: f"sha256:{number:064x}" for number, name in enumerate(SIGNERS, start=1)},
    bases=(f"localhost/a@sha256:{'a' * 64}", f"localhost/b@sha256:{'b' * 64}"),
)


@pytest.mark.parametrize("pace", [HONEST, SHORT])
def test_the_policy_asks_for_what_the_canary_of_the_settings_gives(tmp_path: Path, pace: Pace) -> None:
    file = tmp_path / "pratique.toml"
    file.write_text(config_text(PLACES, pace), encoding="utf-8")
    promotion = release_settings(file).promotion
    asked = parse_policy(policy_text(PLACES, pace).encode()).document.rules.canary
    assert asked is not None
    assert asked.min_seconds == promotion.emergency_seconds == pace.canary_seconds
    assert asked.min_share == promotion.share
    assert list(asked.metrics) == [one.name for one in promotion.canary.metrics]
    assert {one.min_samples for one in promotion.canary.metrics} == {asked.min_samples} == {pace.min_samples}


def test_a_canary_can_reach_its_samples_and_not_by_a_few_requests() -> None:
    assert HONEST.min_samples == 150
    assert not HONEST.is_shortened
    for pace in (HONEST, SHORT):
        assert 20 <= pace.min_samples <= pace.requests_per_second * pace.share * pace.canary_seconds
    assert Pace(3600.0, 500.0).min_samples == 200


def test_a_lock_without_its_hash_is_the_one_that_is_refused() -> None:
    for text, holds in ((lock_text(FIXED), True), (lock_text(FIXED, has_hash=False), False)):
        read = read_requirements(text, "requirements.txt", LockSettings())
        assert (not read.problems) is holds


def test_only_approved_versions_stand_in_the_approved_file() -> None:
    before, after = (parse_approved(approved_text(one)) for one in (VULNERABLE, FIXED))
    assert VULNERABLE.wheel in str(before)
    assert FIXED.wheel not in str(before)
    assert FIXED.wheel in str(after)


@pytest.mark.parametrize("record", [advisory("2026-01-01T00:00:00Z"), *OLD_RECORDS])
def test_a_record_is_one_that_the_product_reads(record: dict[str, object]) -> None:
    assert parse_record(json.dumps(record).encode()).id == record["id"]


def steps() -> list[Step]:
    return [Step("house", Part.BEFORE, 40.0), Step("advisory", Part.NIGHT, 1.26), Step("no way back", Part.AFTER, 2.0)]


def test_only_the_night_is_counted() -> None:
    table = render_table(steps(), HONEST)
    assert "| house (before) | 40.0 |" in table
    assert "| no way back (after) | 2.0 |" in table
    assert "until it is gone** | **1.3** |" in table
    assert as_json(steps(), HONEST)["seconds"] == 1.3


def test_a_shortened_canary_is_marked_and_an_honest_one_is_not() -> None:
    assert "SHORTENED" in render_table(steps(), SHORT)
    assert "SHORTENED" not in render_table(steps(), HONEST)
    assert as_json(steps(), SHORT)["is_shortened"] is True


def test_a_drill_that_ended_early_does_not_hold() -> None:
    report = as_json(steps(), HONEST, failed="expected: no affected image runs")
    assert report["holds"] is False
    assert report["failed"] == "expected: no affected image runs"
    assert as_json(steps(), HONEST)["holds"] is True


def test_what_is_not_as_it_must_be_ends_the_drill_and_its_step_is_timed(tmp_path: Path) -> None:
    desk = Desk(tmp_path, seconds=1.0)
    with pytest.raises(DrillError, match="no affected image runs"), desk.step("verified gone"):
        expect(holds=False, what="no affected image runs")
    assert [one.name for one in desk.steps] == ["verified gone"]
    assert desk.steps[0].seconds > 0
