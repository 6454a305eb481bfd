"""A real memory cgroup, filled by a real process until the kernel kills it: what the watchdog sees, and when.

Needs a cgroup file system that may be written to (v1 or v2 with the memory controller handed down), as root usually
has outside containers; elsewhere these tests are skipped, and the trees of the unit tests are all there is.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pratique.core.clock import SystemClock
from pratique.inference.containment.cgroup import MemoryCgroup, find_memory_cgroup
from pratique.inference.containment.incidents import classify
from pratique.inference.containment.memory import MemoryReading, MemoryVerdict, MemoryWatch
from pratique.inference.errors import DeathCause
from pratique.inference.settings import ContainmentSettings

pytestmark = pytest.mark.integration

MIB = 1 << 20
LIMIT = 128 * MIB
PREFIX = "pratique-test-"
# Touches every page of what it is told to take, or reads a file; one word for each line it was sent.
HOG = """
import sys
held = []
for line in sys.stdin:
    what, argument = line.split()
    if what == "take":
        held.append(bytearray(int(argument)))
        held[-1][::4096] = b"x" * len(held[-1][::4096])
    else:
        with open(argument, "rb") as file:
            while file.read(1 << 20):
                pass
    print("done", flush=True)
"""


class Hog:
    """A process in the group; it ends with its standard input, so also with this test."""

    def __init__(self, group: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", HOG], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        (group / "cgroup.procs").write_text(str(self.process.pid))

    def tell(self, what: str, argument: object) -> bool:
        """Whether it lived through it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{what} {argument}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        return self.process.stdout.readline() == "done\n"

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@pytest.fixture
def group(memory_group: Path) -> Path:
    write_first(memory_group, LIMIT, "memory.max", "memory.limit_in_bytes")
    # No way out into swap: v2 counts it apart, v1 together with memory.
    write_first(memory_group, 0, "memory.swap.max")
    write_first(memory_group, LIMIT, "memory.memsw.limit_in_bytes")
    return memory_group


def write_first(folder: Path, value: int, *names: str) -> None:
    """Write to each of the files that this version has."""
    for name in names:
        if (folder / name).exists():
            (folder / name).write_text(str(value))


@pytest.fixture
def hog(group: Path) -> Iterator[Hog]:
    hog = Hog(group)
    try:
        yield hog
    finally:
        hog.end()


def headroom(reading: MemoryReading) -> int:
    assert not reading.problems
    assert reading.headroom_bytes is not None
    return reading.headroom_bytes


@pytest.fixture
def cgroup(hog: Hog, group: Path) -> MemoryCgroup:
    cgroup = find_memory_cgroup(pid=hog.process.pid)
    assert cgroup.folders[0] == group
    return cgroup


def test_load_is_shed_before_the_kernel_kills_and_the_kill_is_counted(hog: Hog, cgroup: MemoryCgroup) -> None:
    watch = MemoryWatch(SystemClock(), ContainmentSettings())
    before = cgroup.read()
    assert watch.assess(before) is MemoryVerdict.OK
    assert before.tightest is not None
    assert before.tightest.limit_bytes == LIMIT
    assert hog.tell("take", 64 * MIB)
    assert headroom(before) - headroom(cgroup.read()) == pytest.approx(64 * MIB, abs=4 * MIB)

    seen: list[tuple[MemoryVerdict, int]] = []
    while hog.tell("take", MIB):
        reading = cgroup.read()
        seen.append((watch.assess(reading), headroom(reading)))
        assert len(seen) < 100, seen
    verdicts = [verdict for verdict, _ in seen]
    shed = verdicts.index(MemoryVerdict.SHED)
    assert verdicts[:shed] == [MemoryVerdict.OK] * shed
    assert verdicts.index(MemoryVerdict.TRIP) > shed
    assert seen[shed][1] == pytest.approx(0.08 * LIMIT, abs=3 * MIB)

    hog.process.wait(10)
    after = cgroup.read()
    exit_code = hog.process.returncode
    assert exit_code == -9
    assert (
        classify(exit_code, "", oom_kills_before=before.num_oom_kills, oom_kills_after=after.num_oom_kills)
        is DeathCause.OUT_OF_MEMORY
    )
    assert headroom(after) > headroom(before) - 4 * MIB
    assert watch.assess(after) is MemoryVerdict.OK


def test_a_kill_by_hand_is_not_taken_for_the_kernels(hog: Hog, cgroup: MemoryCgroup) -> None:
    before = cgroup.read()
    hog.process.kill()
    exit_code = hog.process.wait(10)
    after = cgroup.read()
    assert (
        classify(exit_code, "", oom_kills_before=before.num_oom_kills, oom_kills_after=after.num_oom_kills)
        is DeathCause.KILLED
    )


def test_a_file_that_was_read_fills_the_group_and_sheds_nothing(hog: Hog, cgroup: MemoryCgroup, tmp_path: Path) -> None:
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True).stdout
    if kind.strip() in {"tmpfs", "ramfs"}:
        pytest.skip(f"NOT TESTED HERE: {tmp_path} is a {kind.strip()}, whose pages are no file cache")
    file = tmp_path / "large"
    with file.open("wb") as opened:
        for _ in range(LIMIT // MIB):
            opened.write(os.urandom(MIB))
        opened.flush()
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # its pages are ours; the hog shall read them
    assert hog.tell("read", file)
    reading = cgroup.read()
    assert reading.groups[0].used_bytes > LIMIT // 2
    assert reading.groups[0].working_set_bytes < LIMIT // 4
    assert MemoryWatch(SystemClock(), ContainmentSettings()).assess(reading) is MemoryVerdict.OK


def test_the_readings_name_a_group_that_was_removed(group: Path) -> None:
    hog = Hog(group)
    cgroup = find_memory_cgroup(pid=hog.process.pid)
    hog.end()
    group.rmdir()
    reading = cgroup.read()
    assert str(group) in reading.problems[0]
    assert reading.num_oom_kills is None
