"""Whether this process has come to a memory limit of its own (rlimit), which libraries do not say in so many words.

oneDNN, for one, says only "could not create a primitive". The allocators' own words are enough; this is for the others.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

__all__ = ["memory_limit_reached"]

_ROOM_BYTES: Final = 64 << 20
"""Less than this is no room for the next large tensor."""
_LIMITS: Final = {"RLIMIT_AS": (resource.RLIMIT_AS, "VmSize:"), "RLIMIT_DATA": (resource.RLIMIT_DATA, "VmData:")}


def memory_limit_reached() -> str:
    """Return a sentence about the limit that has been reached, or ""."""
    status = Path("/proc/self/status").read_text()
    for name, (limit, field) in _LIMITS.items():
        most = resource.getrlimit(limit)[0]
        used = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field))
        if most != resource.RLIM_INFINITY and most - used < _ROOM_BYTES:
            return f"It cannot allocate memory: it has {used} bytes of {most} ({name})."
    return ""
