"""Whose container it is."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from pratique.testkit.host.ownership import Owner, find_orphans, started_at, this_process

pytestmark = pytest.mark.unit

HERE = Owner(boot="b1", namespace="77", pid=10, started="500")


def _orphans(owner: Owner | str, started: str) -> list[str]:
    label = owner if isinstance(owner, str) else owner.label()
    return find_orphans({"c1": label}, HERE, lambda _: started)


def test_container_of_a_dead_process_is_an_orphan() -> None:
    assert _orphans(replace(HERE, pid=11, started="400"), "") == ["c1"]


def test_number_given_to_a_later_process_does_not_keep_the_dead_ones_container() -> None:
    assert _orphans(replace(HERE, pid=11, started="400"), "900") == ["c1"]


def test_container_of_a_living_run_is_left_alone() -> None:
    assert _orphans(replace(HERE, pid=11, started="400"), "400") == []


def test_own_container_is_left_alone() -> None:
    assert _orphans(HERE, "500") == []


@pytest.mark.parametrize("elsewhere", [replace(HERE, boot="b2"), replace(HERE, namespace="78")])
def test_owner_on_another_machine_or_in_another_container_is_not_judged_from_here(elsewhere: Owner) -> None:
    assert _orphans(elsewhere, "") == []


@pytest.mark.parametrize(
    "label", ["", "x", "b1/77/ten/500", "b1/77/10", "b1/77/10/500/more", "b1/77/-1/500", "b1/77//5"]
)
def test_label_that_is_not_ours_is_left_alone(label: str) -> None:
    assert Owner.read(label) is None
    assert _orphans(label, "") == []


def test_label_is_read_back_as_it_was_written() -> None:
    assert Owner.read(HERE.label()) == HERE


def test_this_process_is_alive_by_its_own_description() -> None:
    me = this_process()
    assert me.pid == os.getpid()
    assert started_at(me.pid) == me.started != ""
    assert find_orphans({"mine": me.label()}, me, started_at) == []


def test_process_that_never_was_began_at_no_time() -> None:
    assert started_at(2**30) == ""
