"""Memory, disk and ports."""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING

import psutil
import pytest

from pratique.fleet.errors import DiskFullError, MemoryShortError, PortTakenError
from pratique.fleet.stack import resources
from pratique.fleet.stack.resources import (
    ControlGroup,
    assess_memory,
    assess_replicas,
    check_port,
    choose_ports,
    load_control_groups,
    verify_disk,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit
GB = 10**9


@pytest.mark.parametrize(
    ("machine", "groups", "available"),
    [
        (8 * GB, [], 8 * GB),
        (8 * GB, [ControlGroup(limit_bytes=4 * GB, used_bytes=1 * GB)], 3 * GB),
        (8 * GB, [ControlGroup(limit_bytes=4 * GB, used_bytes=3 * GB, reclaimable_bytes=2 * GB)], 3 * GB),
        (2 * GB, [ControlGroup(limit_bytes=4 * GB, used_bytes=1 * GB)], 2 * GB),
        (8 * GB, [ControlGroup(limit_bytes=4 * GB, used_bytes=5 * GB)], 0),
    ],
)
def test_available_is_the_least_of_machine_and_groups(machine: int, groups: list[ControlGroup], available: int) -> None:
    assert assess_memory(machine, groups) == available


@pytest.mark.parametrize(("available", "wanted", "replicas"), [(20, 0, 2), (4, 0, 1), (20, 3, 3), (20, 1, 1)])
def test_replicas_that_fit(available: int, wanted: int, replicas: int) -> None:
    assert assess_replicas(available * GB, replica_bytes=2 * GB, wanted=wanted) == replicas


@pytest.mark.parametrize(
    ("available", "wanted", "way_out"), [(1, 0, "simulated"), (4, 2, "--inference 1 fits"), (0, 1, "simulated")]
)
def test_too_little_memory_says_how_much_and_the_way_out(available: int, wanted: int, way_out: str) -> None:
    with pytest.raises(MemoryShortError, match="need about") as short:
        assess_replicas(available * GB, replica_bytes=2 * GB, wanted=wanted)
    assert way_out in str(short.value.hint)


def write_group(folder: Path, version: int, limit: str) -> None:
    folder.mkdir(parents=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, value in zip(names, (limit, "300"), strict=True):
        (folder / name).write_text(value, encoding="ascii")
    field = "inactive_file" if version == 2 else "total_inactive_file"
    (folder / "memory.stat").write_text(f"anon 1\n{field} 50\n", encoding="ascii")


def test_limits_of_both_versions_and_of_every_level_count(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/a/b\n5:cpu,memory:/c\n6:cpu:/d\n", encoding="ascii")
    root = tmp_path / "fs"
    write_group(root / "a" / "b", 2, "max")
    (root / "a" / "memory.max").write_text("1000", encoding="ascii")
    (root / "a" / "memory.current").write_text("400", encoding="ascii")
    (root / "a" / "memory.stat").write_text("inactive_file 10\n", encoding="ascii")
    write_group(root / "memory" / "c", 1, "2000")
    assert load_control_groups(own, root) == (
        ControlGroup(limit_bytes=1000, used_bytes=400, reclaimable_bytes=10),
        ControlGroup(limit_bytes=2000, used_bytes=300, reclaimable_bytes=50),
    )


def test_machine_without_groups_has_none(tmp_path: Path) -> None:
    assert load_control_groups(tmp_path / "nothing", tmp_path) == ()
    assert resources.load_available_bytes() > 0


def test_full_disk_says_how_much_is_missing(tmp_path: Path) -> None:
    verify_disk(tmp_path, 1)
    with pytest.raises(DiskFullError, match=r"needs 1000000000.0 GB") as full:
        verify_disk(tmp_path, 10**18)
    assert "--state-dir" in str(full.value.hint)


def test_taken_port_names_the_process() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf":{port} cannot be listened on: .*pid \d+") as taken:
            check_port("127.0.0.1", port)
        assert f"--port {port + 1}" in str(taken.value.hint)
    check_port("127.0.0.1", port)


def test_port_of_an_unknown_process_is_still_said_to_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: str) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", refuse)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(PortTakenError, match="already in use"):
            check_port("127.0.0.1", other.getsockname()[1])


def test_port_that_only_root_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(PortTakenError, match="may not listen on port 80"):
        check_port("127.0.0.1", 80)


def test_chosen_ports_are_free_different_and_not_taken() -> None:
    source = random.Random(1)  # noqa: S311 - the same ports in every run
    first = choose_ports(5, source=source)
    assert len(set(first)) == 5
    assert all(12_000 <= port < 32_000 for port in first)
    again = choose_ports(5, source=random.Random(1), taken=first[:1])  # noqa: S311 - as above
    assert again[0] == first[1]


def test_no_free_port_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_is_free", lambda port: False)
    with pytest.raises(PortTakenError, match="No 2 free ports"):
        choose_ports(2)
