"""Whose container it is: an engine outlives every run, so what a killed host left there is found by its label.

A label names the host's process so that nothing else can be taken for it: the boot, the namespace in which its number
means something, the number, and when it began. A container whose owner cannot be judged from here (on another
machine, or in another container, with the same engine) is left alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Owner", "find_orphans", "started_at", "this_process"]

_START_FIELD: Final = 19
"""Of /proc/PID/stat, counted from the state, which follows the name."""
_ENDED: Final = frozenset({"Z", "X"})


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process, distinct from every other there is or was."""

    boot: str
    namespace: str
    pid: int
    started: str

    def label(self) -> str:
        return f"{self.boot}/{self.namespace}/{self.pid}/{self.started}"

    @classmethod
    def read(cls, label: str) -> Owner | None:
        """Return what a label says, or None where it is not one of ours."""
        fields = label.split("/")
        if len(fields) != 4 or not fields[2].isdecimal():  # noqa: PLR2004 - as `label` writes
            return None
        return cls(boot=fields[0], namespace=fields[1], pid=int(fields[2]), started=fields[3])


def find_orphans(labels: Mapping[str, str], here: Owner, started: Callable[[int], str]) -> list[str]:
    """Return the containers whose owner is dead for certain.

    Args:
        labels: container → label.
        here: who asks.
        started: when the process of that number began; "" where there is none.
    """
    owners = {container: Owner.read(label) for container, label in labels.items()}
    return [
        container
        for container, owner in owners.items()
        if owner is not None
        and (owner.boot, owner.namespace) == (here.boot, here.namespace)
        and started(owner.pid) != owner.started
    ]


def this_process() -> Owner:
    """Return this process as an owner."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")  # noqa: PTH115 - not a path: "pid:[123]"
    return Owner(boot=boot, namespace=namespace, pid=os.getpid(), started=started_at(os.getpid()))


def started_at(pid: int) -> str:
    """Return when a process began, in the kernel's ticks since the boot; "" where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    # The name stands in parentheses and may hold anything, parentheses too.
    fields = text[text.rindex(b")") + 2 :].decode().split()
    return "" if fields[0] in _ENDED else fields[_START_FIELD]
