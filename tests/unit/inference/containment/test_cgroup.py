"""Where a process's memory cgroup is and what stands in it: trees of both versions, of systems and of containers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pratique.inference.containment.cgroup import MemoryCgroup, find_memory_cgroup
from pratique.inference.containment.memory import MemoryReading

pytestmark = pytest.mark.unit

MIB = 1 << 20
NO_LIMIT_V1 = 9223372036854771712
V1, V2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"


class Machine:
    """A fake root with /proc and a cgroup file system, of 1 GiB of which half is available."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("/proc/meminfo", "MemTotal:        1048576 kB\nMemFree:  9 kB\nMemAvailable:     524288 kB\n")

    def write(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def v2(self, path: str, *, mount_root: str = "/", pid: str = "self") -> None:
        """The process is in `path`; `mount_root` of the hierarchy is mounted."""
        self.write(f"/proc/{pid}/cgroup", f"0::{path}\n")
        self.write(
            f"/proc/{pid}/mountinfo",
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
            "a line of another age\n"
            f"31 22 0:28 {mount_root} {V2} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
        )

    def v1(self, path: str, *, mount_root: str = "/") -> None:
        self.write("/proc/self/cgroup", f"9:name=systemd:/\n5:cpu,cpuacct:/x\n4:memory:{path}\n0::/elsewhere\n")
        self.write(
            "/proc/self/mountinfo",
            f"32 31 0:29 {mount_root} /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
            f"35 31 0:32 {mount_root} {V1} rw,relatime - cgroup cgroup rw,memory\n"
            "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
        )

    def group_v2(self, folder: str, used: int, limit: int | str = "max", cache: int = 0, kills: int = 0) -> None:
        self.write(f"{folder}/memory.current", f"{used}\n")
        self.write(f"{folder}/memory.max", f"{limit}\n")
        self.write(f"{folder}/memory.stat", f"anon 1\nfile 2\ninactive_file {cache}\nslab 3\n")
        self.write(f"{folder}/memory.events", f"low 0\nhigh 0\nmax 7\noom 2\noom_kill {kills}\noom_group_kill 0\n")

    def group_v1(
        self, folder: str, used: int, limit: int = NO_LIMIT_V1, cache: int = 0, above: int | None = None
    ) -> None:
        self.write(f"{folder}/memory.usage_in_bytes", f"{used}\n")
        self.write(f"{folder}/memory.limit_in_bytes", f"{limit}\n")
        hierarchical = f"hierarchical_memory_limit {limit if above is None else above}\n"
        self.write(f"{folder}/memory.stat", f"inactive_file 1\ntotal_inactive_file {cache}\n{hierarchical}")
        self.write(f"{folder}/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")

    def find(self, pid: int | None = None) -> MemoryCgroup:
        return find_memory_cgroup(root=self.root, pid=pid)

    def read(self) -> MemoryReading:
        return self.find().read()

    def names(self) -> list[str]:
        return ["/" + str(folder.relative_to(self.root)) for folder in self.find().folders]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_v2_own_group_and_those_above_it(machine: Machine) -> None:
    machine.v2("/pods/a/server")
    machine.group_v2(f"{V2}/pods/a/server", 100 * MIB, cache=30 * MIB, kills=4)
    machine.group_v2(f"{V2}/pods/a", 200 * MIB, 250 * MIB)
    machine.group_v2(f"{V2}/pods", 300 * MIB, 2**50)
    machine.write(f"{V2}/memory.stat", "inactive_file 5\n")  # the outermost has no usage and no limit
    assert machine.names() == [f"{V2}/pods/a/server", f"{V2}/pods/a", f"{V2}/pods"]
    reading = machine.read()
    own, pod, pods = reading.groups
    assert (own.used_bytes, own.working_set_bytes, own.limit_bytes) == (100 * MIB, 70 * MIB, None)
    assert reading.tightest is pod
    assert reading.headroom_bytes == 50 * MIB
    assert pods.limit_bytes is None  # more than the machine has
    assert (reading.available_bytes, reading.num_oom_kills, reading.problems) == (512 * MIB, 4, ())


def test_v2_in_a_container_whose_own_group_is_the_mounts_root(machine: Machine) -> None:
    machine.v2("/")
    machine.group_v2(V2, 100 * MIB, 200 * MIB)
    assert machine.names() == [V2]
    assert machine.read().headroom_bytes == 100 * MIB


def test_v2_outside_every_group_has_no_limit_and_says_so(machine: Machine) -> None:
    machine.v2("/")
    reading = machine.read()
    assert (reading.groups, reading.num_oom_kills, reading.headroom_bytes) == ((), None, 512 * MIB)
    assert "No memory cgroup is mounted" in reading.problems[0]


@pytest.mark.parametrize("path", ["/docker/abc", "/../../other", "/docker/abc (deleted)", "/docker/abcdef"])
def test_a_path_that_leads_above_the_mount_is_the_mounts_own_root(machine: Machine, path: str) -> None:
    machine.v2(path, mount_root="/docker/abc")
    machine.group_v2(V2, 100 * MIB, 200 * MIB)
    machine.group_v2(f"{V2}/other", 1)
    assert machine.names() == [V2]


def test_a_group_below_what_is_mounted_is_found_in_the_mount(machine: Machine) -> None:
    machine.v2("/docker/abc/engine", mount_root="/docker/abc")
    machine.group_v2(V2, 100 * MIB, 200 * MIB)
    machine.group_v2(f"{V2}/engine", 50 * MIB, 80 * MIB)
    assert machine.names() == [f"{V2}/engine", V2]


def test_groups_without_the_memory_controller_are_passed_over(machine: Machine) -> None:
    machine.v2("/a/b")
    machine.write(f"{V2}/a/b/cgroup.procs", "")
    machine.group_v2(f"{V2}/a", 100 * MIB, 200 * MIB, kills=1)
    assert machine.names() == [f"{V2}/a"]
    assert machine.read().num_oom_kills == 1


def test_v1_beside_a_unified_hierarchy_without_memory(machine: Machine) -> None:
    machine.v1("/jobs/a")
    machine.group_v1(f"{V1}/jobs/a", 100 * MIB, 200 * MIB, cache=10 * MIB)
    machine.group_v1(f"{V1}/jobs", 150 * MIB)
    machine.group_v1(V1, 400 * MIB)
    assert machine.names() == [f"{V1}/jobs/a", f"{V1}/jobs", V1]
    reading = machine.read()
    assert [group.limit_bytes for group in reading.groups] == [200 * MIB, None, None]
    assert (reading.headroom_bytes, reading.num_oom_kills) == (110 * MIB, 3)


def test_v1_huge_numbers_are_no_limit_also_where_the_machine_is_unknown(machine: Machine) -> None:
    machine.v1("/")
    machine.group_v1(V1, 100)
    machine.write("/proc/meminfo", "")
    reading = machine.read()
    assert (reading.groups[0].limit_bytes, reading.headroom_bytes) == (None, None)


def test_v1_a_limit_above_that_the_container_cannot_see_counts(machine: Machine) -> None:
    machine.v1("/docker/abc", mount_root="/docker/abc")
    machine.group_v1(V1, 100 * MIB, above=150 * MIB)
    assert machine.read().headroom_bytes == 50 * MIB


@pytest.mark.parametrize(("swap_limit", "used"), [(200 * MIB, 120 * MIB), (300 * MIB, 100 * MIB)])
def test_v1_swap_counts_where_memory_and_swap_share_the_limit(machine: Machine, swap_limit: int, used: int) -> None:
    machine.v1("/")
    machine.group_v1(V1, 100 * MIB, 200 * MIB)
    machine.write(f"{V1}/memory.memsw.limit_in_bytes", str(swap_limit))
    machine.write(f"{V1}/memory.memsw.usage_in_bytes", str(120 * MIB))
    assert machine.read().groups[0].used_bytes == used


def test_another_processes_group_can_be_read(machine: Machine) -> None:
    machine.v2("/engine", pid="42")
    machine.group_v2(f"{V2}/engine", 1)
    assert machine.find(pid=42).read().groups[0].name.endswith("/engine")
    assert "proc/43/cgroup cannot be read" in machine.find(pid=43).read().problems[0]


def test_a_mount_point_with_a_space_in_it(machine: Machine) -> None:
    machine.v2("/")
    machine.write("/proc/self/mountinfo", r"31 22 0:28 / /my\040cgroups rw - cgroup2 cgroup2 rw")
    machine.group_v2("/my cgroups", 5)
    assert machine.names() == ["/my cgroups"]


@pytest.mark.parametrize(
    ("file", "text", "named"),
    [
        ("memory.current", "", "memory.current should hold a number of bytes, not ''"),
        ("memory.current", "-5", "not '-5'"),
        ("memory.current", "\uff11\uff12", "not '\uff11\uff12'"),
        ("memory.current", "9" * 5000, "should hold a number"),
        ("memory.max", "maximum", "memory.max should hold"),
        ("memory.max", "1e9", "memory.max should hold"),
    ],
)
def test_a_malformed_number_is_named_and_the_group_above_still_read(
    machine: Machine, file: str, text: str, named: str
) -> None:
    machine.v2("/a")
    machine.group_v2(f"{V2}/a", 100, 200)
    machine.group_v2(V2, 300, 400)
    machine.write(f"{V2}/a/{file}", text)
    reading = machine.read()
    assert [group.used_bytes for group in reading.groups] == [300]
    assert len(reading.problems) == 1
    assert named in reading.problems[0]


@pytest.mark.parametrize(("file", "kills", "cache"), [("memory.events", None, 30), ("memory.stat", 4, 0)])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", None])
def test_a_table_without_its_row_is_named_only_where_it_matters(
    machine: Machine, file: str, kills: int | None, cache: int, content: bytes | None
) -> None:
    machine.v2("/")
    machine.group_v2(V2, 100, 200, cache=30, kills=4)
    target = machine.root / V2.lstrip("/") / file
    target.unlink()
    if content is not None:
        target.write_bytes(content)
    reading = machine.read()
    assert (reading.num_oom_kills, reading.groups[0].reclaimable_bytes) == (kills, cache)
    # An empty memory.stat is taken at its word: nothing can be taken back.
    assert len(reading.problems) == (0 if file == "memory.stat" and content == b"" else 1)


def test_a_group_that_vanishes_is_named_and_everything_else_still_read(machine: Machine) -> None:
    machine.v2("/a")
    machine.group_v2(f"{V2}/a", 100, 200)
    machine.group_v2(V2, 300, 400)
    cgroup = machine.find()
    own = cgroup.folders[0]
    for file in own.iterdir():
        file.unlink()
    own.rmdir()
    reading = cgroup.read()
    assert [group.used_bytes for group in reading.groups] == [300]
    assert reading.num_oom_kills is None
    assert all(str(own) in problem for problem in reading.problems)


def test_a_system_without_proc_or_cgroups_knows_nothing_and_says_so(tmp_path: Path) -> None:
    reading = find_memory_cgroup(root=tmp_path).read()
    assert (reading.groups, reading.available_bytes, reading.num_oom_kills) == ((), None, None)
    assert len(reading.problems) == 2


def test_a_folder_where_a_file_should_be_is_named(machine: Machine) -> None:
    machine.v2("/")
    machine.group_v2(V2, 100, 200)
    (machine.root / "proc" / "self" / "cgroup").unlink()
    (machine.root / "proc" / "self" / "cgroup").mkdir()
    assert "cannot be read" in machine.read().problems[0]


words = st.sampled_from(
    [
        "0::/",
        "4:memory:/a",
        "4:memory:",
        "memory",
        ":",
        "::",
        "\x00",
        "0::relative",
        "é",
        "1:a,memory:/a/../..",
        "x" * 300,
    ]
)
mounts = st.sampled_from(
    [
        "1 2 0:1 / /m rw - cgroup2 c rw",
        "1 2 0:1 / /m rw - cgroup c rw,memory",
        "1 2 0:1 rel rel rw - cgroup2 c rw",
        r"1 2 0:1 /\777 /\000 rw - cgroup2 c rw",
        "1 2 0:1 / /" + "n" * 5000 + " rw - cgroup2 c rw",
        " - ",
        "",
        "1 2 3 4 5 - cgroup2 6 7",
    ]
)


@given(st.lists(words, max_size=4), st.lists(mounts, max_size=4))
@hypothesis_settings(max_examples=50, deadline=None)
def test_no_file_of_proc_makes_it_raise(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], rows: list[str]
) -> None:
    machine = Machine(tmp_path_factory.getbasetemp() / "malformed")
    machine.write("/proc/self/cgroup", "\n".join(lines))
    machine.write("/proc/self/mountinfo", "\n".join(rows))
    reading = machine.read()
    assert reading.available_bytes == 512 * MIB
    assert reading.groups == ()
    assert reading.problems
