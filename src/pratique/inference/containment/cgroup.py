"""Read the memory cgroup that a process is in, and those above it: cgroup v2 and v1, in containers and outside.

Nothing here raises for what it finds, because it runs in a watchdog's loop: what is missing, malformed or vanished is
named in the reading, and everything else is still read.

Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the Linux kernel; cgroups(7) for
/proc/PID/cgroup; proc_pid_mountinfo(5).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal, NamedTuple, TypeAlias

from pratique.inference.containment.memory import GroupMemory, MemoryReading

__all__ = ["MemoryCgroup", "find_memory_cgroup"]

_Version: TypeAlias = Literal[1, 2]
_USAGE: Final[dict[_Version, str]] = {1: "memory.usage_in_bytes", 2: "memory.current"}
_EVENTS: Final[dict[_Version, str]] = {1: "memory.oom_control", 2: "memory.events"}
_NO_LIMIT_BYTES: Final = 1 << 60
"""Where the machine's memory is unknown: v1 writes "no limit" as a number near 2**63."""
_KIB: Final = 1024
_MAX_FILE_BYTES: Final = 1 << 20
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_NUMBER: Final = re.compile(r"[0-9]{1,20}")


class _UnreadableError(Exception):
    """A file is missing or holds something else; caught in this module alone."""


class _Mount(NamedTuple):
    root: PurePosixPath
    point: PurePosixPath


@dataclass(frozen=True, kw_only=True)
class MemoryCgroup:
    """Where to read."""

    version: _Version
    folders: tuple[Path, ...]
    """The process's own group first, then those above it, up to the mount."""
    meminfo: Path
    problems: tuple[str, ...] = ()
    """Why there are no folders."""

    def read(self) -> MemoryReading:
        """Read what is used now. A few small files for each level, about a millisecond in all."""
        problems = list(self.problems)
        machine = _read_table(self.meminfo, problems)
        total, available = machine.get("MemTotal"), machine.get("MemAvailable")
        no_limit = _NO_LIMIT_BYTES if total is None else total * _KIB
        return MemoryReading(
            groups=tuple(self._read_groups(no_limit, problems)),
            available_bytes=None if available is None else available * _KIB,
            num_oom_kills=self._count_oom_kills(problems),
            problems=tuple(problems),
        )

    def _read_groups(self, no_limit: int, problems: list[str]) -> Iterator[GroupMemory]:
        for folder in self.folders:
            stat = _read_table(folder / "memory.stat", problems)
            try:
                used, limit = _read_v1(folder, stat) if self.version == 1 else _read_v2(folder)
            except _UnreadableError as error:
                problems.append(str(error))
                continue
            yield GroupMemory(
                name=str(folder),
                used_bytes=used,
                limit_bytes=None if limit is None or limit >= no_limit else limit,
                # In v1 a group's usage includes those below it, and only the totals do so too.
                reclaimable_bytes=stat.get("total_inactive_file", stat.get("inactive_file", 0)),
            )

    def _count_oom_kills(self, problems: list[str]) -> int | None:
        """In v2 those of the groups below count too, in v1 they do not."""
        if not self.folders:
            return None
        file = self.folders[0] / _EVENTS[self.version]
        known = len(problems)
        count = _read_table(file, problems).get("oom_kill")
        if count is None and len(problems) == known:
            problems.append(f"{file} says nothing of oom_kill.")
        return count


def find_memory_cgroup(*, root: Path = Path("/"), pid: int | None = None) -> MemoryCgroup:
    """Find the memory cgroup of a process, by default of this one.

    Args:
        root: where /proc and the cgroup file system are looked for.
        pid: another process, for an engine that has a group of its own.
    """
    process = root / "proc" / ("self" if pid is None else str(pid))
    meminfo = root / "proc" / "meminfo"
    try:
        version, folders = _locate(root, process)
    except (_UnreadableError, OSError) as error:
        return MemoryCgroup(version=2, folders=(), meminfo=meminfo, problems=(str(error),))
    return MemoryCgroup(version=version, folders=folders, meminfo=meminfo)


def _locate(root: Path, process: Path) -> tuple[_Version, tuple[Path, ...]]:
    paths = dict(_own_paths(_read(process / "cgroup")))
    mounts = _read(process / "mountinfo")
    for version, path in paths.items():
        folders = tuple(_folders(root, path, list(_mounts(mounts, version)), _USAGE[version]))
        if folders:
            return version, folders
    named = ", ".join(map(str, paths.values())) or "none"
    raise _UnreadableError(f"No memory cgroup is mounted for what {process / 'cgroup'} names: {named}.")


def _own_paths(text: str) -> Iterator[tuple[_Version, PurePosixPath]]:
    """Where /proc/PID/cgroup says that the process is; in a hybrid layout memory belongs to v1, which comes first."""
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            yield 1, PurePosixPath(path)
        elif number == "0" and not controllers and path:
            yield 2, PurePosixPath(path)


def _mounts(text: str, version: _Version) -> Iterator[_Mount]:
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or len(kinds) < 3:  # noqa: PLR2004 - the fields that the manual page numbers
            continue
        is_v2 = kinds[0] == "cgroup2"
        is_v1 = kinds[0] == "cgroup" and "memory" in kinds[2].split(",")
        mount = _Mount(PurePosixPath(_unescaped(fields[3])), PurePosixPath(_unescaped(fields[4])))
        if (is_v1, is_v2)[version - 1] and mount.point.is_absolute():
            yield mount


def _folders(root: Path, path: PurePosixPath, mounts: list[_Mount], usage: str) -> Iterator[Path]:
    """The group's folder and those above it, as far as they have a memory controller (v2's outermost has none).

    In a container the path may lead above what is mounted; then the mount's own root is the container's group.
    """
    inside = [(mount, mount.point / path.relative_to(mount.root)) for mount in mounts if _is_below(path, mount.root)]
    ways = [way for way in inside if _under(root, way[1]).is_dir()] or [(mount, mount.point) for mount in mounts]
    for mount, own in ways[:1]:
        for folder in (own, *own.parents):
            if folder.is_relative_to(mount.point) and (_under(root, folder) / usage).exists():
                yield _under(root, folder)


def _is_below(path: PurePosixPath, mount_root: PurePosixPath) -> bool:
    return ".." not in path.parts and path.is_relative_to(mount_root)


def _under(root: Path, path: PurePosixPath) -> Path:
    return root / path.relative_to("/")


def _unescaped(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)


def _read_v2(folder: Path) -> tuple[int, int | None]:
    text = _read(folder / "memory.max").strip()
    limit = None if text == "max" else _parse_number(text, folder / "memory.max")
    return _read_number(folder / _USAGE[2]), limit


def _read_v1(folder: Path, stat: dict[str, int]) -> tuple[int, int | None]:
    used = _read_number(folder / _USAGE[1])
    limit = _read_number(folder / "memory.limit_in_bytes")
    # Memory and swap together cannot have the lower limit; where it is the same one, there is no swap to go to.
    with contextlib.suppress(_UnreadableError):  # absent where the kernel does not account for swap
        if _read_number(folder / "memory.memsw.limit_in_bytes") <= limit:
            used = max(used, _read_number(folder / "memory.memsw.usage_in_bytes"))
    # The lowest limit of all above it, also of those that a container cannot see.
    return used, min(limit, stat.get("hierarchical_memory_limit", limit))


def _read_number(file: Path) -> int:
    return _parse_number(_read(file).strip(), file)


def _parse_number(text: str, file: Path) -> int:
    if not _NUMBER.fullmatch(text):
        raise _UnreadableError(f"{file} should hold a number of bytes, not {text[:40]!r}.")
    return int(text)


def _read_table(file: Path, problems: list[str]) -> dict[str, int]:
    """Read lines of a name and a number; those of another form are passed over."""
    try:
        rows = [line.replace(":", " ").split() for line in _read(file).splitlines()]
    except _UnreadableError as error:
        problems.append(str(error))
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) >= 2 and _NUMBER.fullmatch(row[1])}  # noqa: PLR2004


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_MAX_FILE_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise _UnreadableError(f"{file} cannot be read: {error}.") from error
