"""Readings and verdicts: the numbers of a group, which group counts, and when shedding begins and ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pratique.core.clock import ManualClock
from pratique.inference.containment.memory import (
    GroupMemory,
    MemoryReading,
    MemoryVerdict,
    MemoryWatch,
    was_oom_kill,
)
from pratique.inference.settings import ContainmentSettings

pytestmark = pytest.mark.unit

LIMIT = 1000
OK, SHED, TRIP = MemoryVerdict
LOST = MemoryReading(problems=("gone",))


def group(used: int, *, limit: int | None = LIMIT, reclaimable: int = 0, name: str = "/own") -> GroupMemory:
    return GroupMemory(name=name, used_bytes=used, limit_bytes=limit, reclaimable_bytes=reclaimable)


def reading(used: int, *problems: str) -> MemoryReading:
    return MemoryReading(groups=(group(used),), problems=problems)


class Watch:
    def __init__(self, *, shed_share: float = 0.92, trip_share: float = 0.97) -> None:
        self.clock = ManualClock()
        settings = ContainmentSettings(shed_share=shed_share, trip_share=trip_share, cooldown_seconds=30)
        self.watch = MemoryWatch(self.clock, settings)

    def see(self, *readings: MemoryReading | int) -> list[MemoryVerdict]:
        verdicts = []
        for seen in readings:
            self.clock._elapsed += 1  # nobody sleeps here
            verdicts.append(self.watch.assess(reading(seen) if isinstance(seen, int) else seen))
        return verdicts


@pytest.mark.parametrize(
    ("measured", "working_set", "headroom", "share"),
    [
        (group(0), 0, 1000, 0.0),
        (group(900, reclaimable=400), 500, 500, 0.5),
        (group(300, reclaimable=400), 0, 1000, 0.0),  # read at two moments
        (group(1200), 1200, 0, 1.2),
        (group(5, limit=0), 5, 0, 1.0),
        (group(10**15, limit=None), 10**15, None, 0.0),
    ],
)
def test_the_numbers_of_a_group(measured: GroupMemory, working_set: int, headroom: int | None, share: float) -> None:
    assert (measured.working_set_bytes, measured.headroom_bytes, measured.share) == (working_set, headroom, share)


def test_the_group_nearest_to_its_limit_counts_whoever_it_is() -> None:
    own, pod = group(900), group(9800, limit=10_000, name="/pod")
    measured = MemoryReading(groups=(own, pod, group(10**9, limit=None)), available_bytes=5000)
    assert measured.tightest is pod
    assert measured.headroom_bytes == 100  # the own group's: it is nearer in bytes
    assert Watch().see(measured) == [TRIP]


def test_without_a_limit_the_machine_is_the_head_room_and_nothing_is_shed() -> None:
    measured = MemoryReading(groups=(group(10**12, limit=None),), available_bytes=7)
    assert measured.headroom_bytes == 7
    assert Watch().see(measured, MemoryReading()) == [OK, OK]
    assert MemoryReading().headroom_bytes is None
    assert MemoryReading(groups=(group(400),), available_bytes=7).headroom_bytes == 7


def test_shedding_begins_at_its_share_and_ends_some_way_below() -> None:
    watch = Watch()
    assert watch.see(919, 920, 919, 893, 892, 919) == [OK, SHED, SHED, SHED, OK, OK]
    assert not watch.watch.is_shedding
    watch.see(920)
    assert watch.watch.is_shedding


def test_file_cache_that_can_be_taken_back_sheds_nothing() -> None:
    assert Watch().see(MemoryReading(groups=(group(1000, reclaimable=200),))) == [OK]


def test_a_trip_comes_once_and_again_after_a_cool_down_without_effect() -> None:
    watch = Watch()
    assert watch.see(*[970] * 32) == [TRIP, *[SHED] * 29, TRIP, SHED]


def test_a_trip_that_worked_is_followed_by_a_new_one_at_once_when_it_comes_back() -> None:
    watch = Watch()
    assert watch.see(980, 945, 980, 940, 980, 500, 980) == [TRIP, SHED, SHED, SHED, TRIP, OK, TRIP]


def test_a_reading_with_problems_ends_shedding_only_after_three() -> None:
    assert Watch().see(LOST, LOST, LOST, LOST) == [OK] * 4
    assert Watch().see(930, *[LOST] * 5, 900) == [SHED] * 4 + [OK] * 3
    assert Watch().see(930, LOST, LOST, 900, LOST, LOST, LOST) == [SHED] * 7
    assert Watch().see(980, LOST, 980) == [TRIP, SHED, SHED]
    assert Watch().see(500, reading(930, "x"), reading(980, "x"), 100) == [OK, SHED, TRIP, OK]


def test_a_problem_that_stays_does_not_keep_the_server_closed() -> None:
    assert Watch().see(930, *[reading(100, "oom_control says nothing")] * 5) == [SHED] * 4 + [OK] * 2


def test_shares_given_the_wrong_way_round_shed_from_the_lower_one() -> None:
    watch = Watch(shed_share=0.99, trip_share=0.5)
    assert watch.see(499, 500, 490, 480) == [OK, TRIP, SHED, OK]


@given(st.lists(st.integers(0, 1100), max_size=50))
@hypothesis_settings(max_examples=50)
def test_nothing_is_shed_below_the_lower_line_and_everything_above_the_upper(used: list[int]) -> None:
    watch = Watch()
    for amount in used:
        (verdict,) = watch.see(amount)
        assert (verdict is OK) == (not watch.watch.is_shedding)
        assert verdict is OK or amount >= 893
        assert verdict is not OK or amount < 920
        assert verdict is not TRIP or amount >= 970


def test_an_oom_kill_is_a_count_that_grew() -> None:
    assert was_oom_kill(0, 1)
    assert not was_oom_kill(1, 1)
    assert not was_oom_kill(2, 1)
    assert not was_oom_kill(None, 1)
    assert not was_oom_kill(1, None)


def test_the_snapshot_shows_the_tightest_group_or_else_the_own() -> None:
    measured = MemoryReading(
        groups=(group(10, limit=None), group(800, reclaimable=100, name="/pod")),
        available_bytes=5000,
        num_oom_kills=2,
        problems=("x",),
    )
    assert measured.snapshot() == {
        "cgroup": "/pod",
        "used_bytes": 800,
        "limit_bytes": 1000,
        "working_set_bytes": 700,
        "headroom_bytes": 300,
        "available_bytes": 5000,
        "oom_kills": 2,
        "problems": ["x"],
    }
    assert MemoryReading(groups=(group(10, limit=None),)).snapshot()["used_bytes"] == 10
    assert MemoryReading().snapshot()["cgroup"] is None
