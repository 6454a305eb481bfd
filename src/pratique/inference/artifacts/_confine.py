"""What a process does to itself before it reads a file that nobody vouches for. On Linux; no privileges are needed.

In this order, each as far as the kernel has it; what could not be had is returned with the reason, never dropped:

1. It ends with its parent (prctl PR_SET_PDEATHSIG).
2. New user, network, process and IPC namespaces: no network but an interface that is down, no powers of root outside,
   and nothing that it starts outlives it (user_namespaces(7), network_namespaces(7), pid_namespaces(7)).
3. Limits on memory, processor time, file size, open files, processes (setrlimit(2)).
4. No capabilities, and no way to any by executing something (PR_SET_NO_NEW_PRIVS).
5. Landlock: reads what is named, writes below what is named, executes nothing, no signals or abstract sockets to others
   (https://docs.kernel.org/userspace-api/landlock.html).

Not covered: a Unix socket in the file system that the user may write to can still be connected to, and the kernel's
whole system call table is open (no seccomp filter).
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["Bounds", "confine"]

_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWPID: Final = 0x20000000
_CLONE_NEWNET: Final = 0x40000000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITY_VERSION: Final = 0x20080522
# The same numbers on every architecture but alpha: system calls since 5.1 share one table. capset is older.
_LANDLOCK_CREATE: Final = 444
_LANDLOCK_ADD: Final = 445
_LANDLOCK_RESTRICT: Final = 446

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE: Final = 1 << 14
_FILE_RIGHTS_BY_ABI: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_NET_ABI, _NET_RIGHTS = 4, 0b11
_SCOPE_ABI, _SCOPES = 6, 0b11
_SPECIAL_MAKES: Final = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12  # devices, sockets, pipes, links: never needed


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What a confined process may use."""

    readable: tuple[str, ...]
    writable: tuple[str, ...]
    memory_bytes: int
    file_bytes: int
    cpu_seconds: int
    num_files: int = 512
    num_processes: int = 64


def confine(bounds: Bounds, parent: int) -> dict[str, str]:
    """Give up everything but `bounds`, for good. Must be called before any thread is started.

    Returns:
        By measure ("network", "processes", "limits", "process count", "privileges", "files"): "" where it is enforced,
        else why not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    is_root = os.getuid() == 0  # asked here: in the new user namespace nobody is
    _end_with(libc, parent)
    found = _isolate(libc)
    found["limits"] = _limit(bounds)
    found["process count"] = "root is exempt from it" if is_root else ""
    found["privileges"] = _drop(libc)
    found["files"] = _landlock(libc, bounds)
    return found


def _end_with(libc: ctypes.CDLL, parent: int) -> None:
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _isolate(libc: ctypes.CDLL) -> dict[str, str]:
    spaces = _CLONE_NEWNET | _CLONE_NEWPID | _CLONE_NEWIPC
    # Where user namespaces are forbidden, root can still make the others.
    reason = _unshare(libc, _CLONE_NEWUSER | spaces) and _unshare(libc, spaces)
    if reason:
        return {"network": reason, "processes": reason}
    _go_on_in_child(libc)
    others = [name for _, name in socket.if_nameindex() if name != "lo"]
    return {"network": f"interfaces are left: {', '.join(others)}" if others else "", "processes": ""}


def _unshare(libc: ctypes.CDLL, flags: int) -> str:
    return "" if libc.unshare(flags) == 0 else f"unshare: {os.strerror(ctypes.get_errno())}"


def _go_on_in_child(libc: ctypes.CDLL) -> None:
    """Fork into the new process namespace, whose first process ends all others with it; the parent only waits."""
    alive, held = os.pipe()
    child = os.fork()
    if child:
        os.close(alive)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else 128 - code)
    os.close(held)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ended between the fork and the line above? Its number says nothing in a new namespace, its end of a pipe does.
    if select.select([alive], [], [], 0)[0]:
        os._exit(1)


def _limit(bounds: Bounds) -> str:
    for kind, value in (
        (resource.RLIMIT_AS, bounds.memory_bytes),
        (resource.RLIMIT_CPU, bounds.cpu_seconds),
        (resource.RLIMIT_FSIZE, bounds.file_bytes),
        (resource.RLIMIT_NOFILE, bounds.num_files),
        (resource.RLIMIT_NPROC, bounds.num_processes),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (least, least))
    return ""


def _drop(libc: ctypes.CDLL) -> str:
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    if libc.capset(header, bytes(24)) != 0:
        return f"capset: {os.strerror(ctypes.get_errno())}"
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return f"no_new_privs: {os.strerror(ctypes.get_errno())}"
    return ""


def _landlock(libc: ctypes.CDLL, bounds: Bounds) -> str:
    abi = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if abi < 1:
        return f"the kernel has no Landlock: {os.strerror(ctypes.get_errno())}"
    rights = _FILE_RIGHTS_BY_ABI[max(version for version in _FILE_RIGHTS_BY_ABI if version <= abi)]
    attributes = struct.pack("=Q", rights)
    if abi >= _NET_ABI:
        attributes += struct.pack("=Q", _NET_RIGHTS)
    if abi >= _SCOPE_ABI:
        attributes += struct.pack("=Q", _SCOPES)
    rules = libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    if rules < 0:
        return f"Landlock: {os.strerror(ctypes.get_errno())}"
    try:
        _allow(libc, rules, bounds.readable, _READ_FILE | _READ_DIR)
        _allow(libc, rules, bounds.writable, rights & ~_EXECUTE & ~_SPECIAL_MAKES)
        if libc.syscall(_LANDLOCK_RESTRICT, ctypes.c_int(rules), ctypes.c_uint(0)) != 0:
            return f"Landlock: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(rules)
    return ""


def _allow(libc: ctypes.CDLL, rules: int, paths: Iterable[str], rights: int) -> None:
    for path in paths:
        if not Path(path).exists():
            continue  # of the folders that systems have, not each system has all
        of_file = _READ_FILE | _WRITE_FILE | _TRUNCATE
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rule = struct.pack("=Qi", rights if Path(path).is_dir() else rights & of_file, descriptor)
            if libc.syscall(_LANDLOCK_ADD, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint(0)) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), path)
        finally:
            os.close(descriptor)
