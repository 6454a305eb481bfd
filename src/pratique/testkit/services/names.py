"""The names of namespaces, made and known again: `pq`, the run, the worker, `n`, a number. Pure.

Exact, because a product's own names may begin with `pq` too: what is taken for the kit's is nobody's leak.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_of_kit", "mark_of"]

_FORM: Final = re.compile(r"pq[0-9a-f]{6}[a-z0-9]*n[1-9][0-9]*")
"""A run is six hexadecimal digits; a worker is whatever xdist was told to call it."""


def mark_of(run: str, worker: str) -> str:
    """Return what the names of one process begin with; `n` and a number come after it."""
    return f"pq{run}{worker.removeprefix('g')}"


def is_of_kit(name: str, separator: str) -> bool:
    """Whether something belongs to a namespace, by the part before the separator: of any worker, of any run."""
    first, found, _ = name.partition(separator)
    return bool(found) and _FORM.fullmatch(first) is not None
