from __future__ import annotations

from pathlib import Path

import pytest

from pratique.core.clock import ManualClock
from pratique.inference.status import MemoryMeter, Phases, load_last_timings, save_timings

pytestmark = pytest.mark.unit

LAST = {"imports": 6.0, "weights": 4.0, "warmup": 2.0}


async def test_progress_is_the_share_of_the_state_not_of_the_phase() -> None:
    clock = ManualClock()
    phases = Phases(clock, expected_seconds=LAST)
    phases.enter("imports", "importing the engine")
    await clock.advance(3)
    assert phases.progress() == pytest.approx(0.3)
    assert phases.eta_seconds() == 9.0
    await clock.advance(3)
    phases.enter("weights", "loading weights")
    await clock.advance(2)
    assert phases.progress() == pytest.approx(0.8)
    assert phases.eta_seconds() == 4.0
    phases.enter("warmup", "warming up: short", counted=0.0)
    await clock.advance(1)
    assert phases.progress() == pytest.approx(0.5)
    assert phases.eta_seconds() == 1.0
    phases.finish("ready")
    assert (phases.progress(), phases.eta_seconds(), phases.detail) == (None, None, "ready")
    assert phases.timings == {"imports": 6.0, "weights": 2.0, "warmup": 1.0}


async def test_a_phase_that_takes_longer_is_not_done_before_it_is() -> None:
    clock = ManualClock()
    phases = Phases(clock, expected_seconds=LAST)
    phases.enter("warmup", "warming up")
    await clock.advance(60)
    assert (phases.progress(), phases.eta_seconds()) == (0.99, 0.0)


def test_without_a_last_start_only_what_counts_itself_is_known() -> None:
    phases = Phases(ManualClock(), expected_seconds={"imports": 5.0})
    phases.enter("imports", "importing the engine")
    assert (phases.progress(), phases.eta_seconds()) == (None, None)
    phases.enter("weights", "loading weights 40 %", counted=0.4)
    assert (phases.progress(), phases.eta_seconds()) == (0.4, None)
    phases.enter("weights", "building the API")
    assert phases.progress() is None


def test_what_goes_on_beside_is_told() -> None:
    phases = Phases(ManualClock(), expected_seconds={})
    phases.enter("imports", "importing the engine")
    phases.beside = "verifying checksums 40%"
    assert phases.detail == "importing the engine; verifying checksums 40%"


async def test_memory_is_measured_at_most_every_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([10, 20])
    monkeypatch.setattr("pratique.inference.status._resident_bytes", lambda: next(sizes))
    clock = ManualClock()
    meter = MemoryMeter(clock, keep_seconds=2.0)
    assert [meter.read(), meter.read()] == [10, 10]
    await clock.advance(2)
    assert meter.read() == 20


def test_timings_survive_and_a_broken_file_is_no_reason_to_fail(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert load_last_timings(path) == {}
    save_timings(path, LAST)
    assert load_last_timings(path) == LAST
    path.write_text("{broken")
    assert load_last_timings(path) == {}
    save_timings(tmp_path / "nowhere" / "x.json", LAST)
