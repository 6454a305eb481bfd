"""The mark that every process of a stack carries in its environment, so that none is lost wherever it went.

Standard library only: the guardian runs on it.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MARKER", "has_marker"]

MARKER: Final = "PRATIQUE_FLEET_RUN"
"""The environment variable that every process of a stack inherits; its value is "<state folder's key>:<run>"."""


def has_marker(pid: int, value: str) -> bool:
    """Whether the process was started with a marker that begins with `value`."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - as above
            text = file.read()
    except OSError:
        return False
    return f"\0{MARKER}={value}".encode() in b"\0" + text
