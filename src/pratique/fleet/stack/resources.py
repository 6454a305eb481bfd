"""What this machine has: memory, disk, ports. `assess_` functions are pure, `load_` and `find_` ones look.

A check that fails says what was found, what is needed, and the way out. Memory is counted as what can be had without
swapping, inside the smallest control group that this process lives in.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from pratique.fleet.errors import DiskFullError, MemoryShortError, PortTakenError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ControlGroup",
    "assess_memory",
    "assess_replicas",
    "check_port",
    "choose_ports",
    "load_available_bytes",
    "load_control_groups",
    "verify_disk",
]

_DEFAULT_REPLICAS: Final = 2
_REST_BYTES: Final = 500 * 2**20
"""Two orchestrators, edge, Valkey, supervisor; and air for the person's own programs."""
_PORT_RANGE: Final = (12_000, 32_000)
"""Below the range that the kernel takes outgoing ports from, so that a service finds its port free when it restarts."""


@dataclass(frozen=True, kw_only=True)
class ControlGroup:
    """Memory of one control group in bytes."""

    limit_bytes: int
    used_bytes: int
    reclaimable_bytes: int = 0
    """Of what is used: file pages that the kernel gives back when asked."""


def assess_memory(machine_available_bytes: int, groups: Iterable[ControlGroup]) -> int:
    """Return how many bytes can still be taken: the least of the machine and every group."""
    free = [max(group.limit_bytes - group.used_bytes + group.reclaimable_bytes, 0) for group in groups]
    return min([machine_available_bytes, *free])


def assess_replicas(available_bytes: int, *, replica_bytes: int, wanted: int) -> int:
    """Return how many model servers to run; `wanted` 0 leaves it to memory.

    Raises:
        MemoryShortError: not even one fits, or not as many as were asked for.
    """
    fitting = max(available_bytes - _REST_BYTES, 0) // replica_bytes
    if wanted == 0 and fitting >= 1:
        return min(fitting, _DEFAULT_REPLICAS)
    if 0 < wanted <= fitting:
        return wanted
    needed = _REST_BYTES + max(wanted, 1) * replica_bytes
    hint = f"--inference {fitting} fits." if fitting else "Close other programs, or try `--engine simulated`."
    raise MemoryShortError(
        f"{max(wanted, 1)} model server(s) need about {_gigabytes(needed)} of memory;"
        f" {_gigabytes(available_bytes)} are available.",
        hint=f"{hint} `replica_memory_bytes` in [stack] says what one takes.",
    )


def load_available_bytes() -> int:
    """Return how much memory can be taken without swapping."""
    return assess_memory(psutil.virtual_memory().available, load_control_groups())


def load_control_groups(
    own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> tuple[ControlGroup, ...]:
    """Return the limited control groups that this process lives in, of version 2 and of version 1."""
    found: list[ControlGroup] = []
    with contextlib.suppress(OSError):
        for line in own.read_text(encoding="ascii").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                found += _groups(root, path, "memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                found += _groups(root / "memory", path, *names)
    return tuple(found)


def _groups(root: Path, path: str, limit_name: str, used_name: str, reclaimable_name: str) -> list[ControlGroup]:
    folder = root / path.strip("/")
    found = []
    # Inside a container the path may lead outside of what is mounted: its root is the group then.
    for candidate in [folder, *folder.parents]:
        with contextlib.suppress(OSError, ValueError):
            stat = dict(line.split() for line in (candidate / "memory.stat").read_text(encoding="ascii").splitlines())
            found.append(
                ControlGroup(
                    limit_bytes=int((candidate / limit_name).read_text(encoding="ascii")),  # "max" is no number
                    used_bytes=int((candidate / used_name).read_text(encoding="ascii")),
                    reclaimable_bytes=int(stat.get(reclaimable_name, 0)),
                )
            )
        if candidate == root:
            break
    return found


def verify_disk(folder: Path, needed_bytes: int) -> None:
    """Raise `DiskFullError` where the file system of a folder has less room than needed."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise DiskFullError(
            f"{folder} needs {_gigabytes(needed_bytes)} of disk; {_gigabytes(free)} are free.",
            hint="Make room, or choose another disk with --state-dir (and --model-root).",
        )


def check_port(host: str, port: int) -> None:
    """Raise `PortTakenError` where a service could not listen; names the process that does, where it can be seen."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except PermissionError as error:
        raise PortTakenError(
            f"This user may not listen on port {port}.", hint="Choose one above 1023, for example --port 8080."
        ) from error
    except OSError as error:
        raise PortTakenError(
            f"{host}:{port} cannot be listened on: {_find_listener(port) or error.strerror or error}.",
            hint=f"Stop that program, or choose another port: --port {port + 1 if port < 65_535 else 8080}.",  # noqa: PLR2004
        ) from error


def _find_listener(port: int) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", None) == port
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid}) listens there"
    return ""


def choose_ports(count: int, *, source: random.Random | None = None, taken: Iterable[int] = ()) -> list[int]:
    """Return free loopback ports that stay free between a service's end and its restart."""
    source = source or random.SystemRandom()
    chosen: list[int] = []
    for _ in range(50 * count):
        port = source.randrange(*_PORT_RANGE)
        if port in chosen or port in taken or not _is_free(port):
            continue
        chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise PortTakenError(f"No {count} free ports were found between {_PORT_RANGE[0]} and {_PORT_RANGE[1]}.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
