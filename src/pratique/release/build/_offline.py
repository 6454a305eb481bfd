"""Runs a program without network, in a network namespace that has the loopback interface and no other.

Started as `unshare --net -- python _offline.py PROGRAM…`: uses the standard library alone. Where there is another
interface the namespace is not what was asked for, and nothing is run.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

__all__ = ["main"]

_SIOCSIFFLAGS = 0x8914  # linux/sockios.h
_IFF_UP_RUNNING = 0x41  # linux/if.h
_EXIT_NOT_OFFLINE = 125


def main(command: list[str]) -> None:
    """Bring loopback up and become the program; tests inside an image may talk to themselves."""
    interfaces = [name for _, name in socket.if_nameindex()]
    if interfaces != ["lo"]:
        sys.stderr.write(f"expected no interface but lo, got {interfaces}: the network is not shut\n")
        raise SystemExit(_EXIT_NOT_OFFLINE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", _IFF_UP_RUNNING, b""))
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
