"""`python -m benchmarks [NAME [FLAGS…] | --all]`: run one benchmark, the quick ones, or all. Each is a module here.

Without a name those run that need some seconds, at most two minutes, and no engine; the others are named on standard
error. `--all` takes them too, but for the drills and the histories, which break things and measure nothing unless they
are asked to.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

__all__ = ["main"]

_LONG = frozenset({"canary", "containment", "first_request", "gateway", "startup"})
_NAMED_ONLY = frozenset({"drill", "history", "release_drill"})


def main() -> int:
    """Return the worst exit code of what ran; 2 where there is no such benchmark."""
    here = Path(__file__).parent
    packages = (path.parent for path in here.glob("[!_]*/__main__.py"))
    names = sorted(path.stem for path in (*here.glob("[!_]*.py"), *packages))
    wanted, flags = _wanted(names, sys.argv[1:])
    if not set(wanted) <= set(names):
        print(f"error: there is no benchmark '{wanted[0]}'\nhint: known: {', '.join(names)}", file=sys.stderr)
        return 2
    codes = []
    for name in wanted:
        sys.argv = [f"benchmarks {name}", *flags]
        if len(wanted) > 1:
            print(f"== {name}", flush=True)
        try:
            runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
            codes.append(0)
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            codes.append(end.code if isinstance(end.code, int) else int(bool(end.code)))
    return max(codes)


def _wanted(names: list[str], words: list[str]) -> tuple[list[str], list[str]]:
    """Return what to run, and its flags: those of one that is named; else each runs as it is by itself."""
    if words and words != ["--all"]:
        return words[:1], words[1:]
    if words:
        return [name for name in names if name not in _NAMED_ONLY], []
    left_out = ", ".join(sorted(_LONG | _NAMED_ONLY))
    print(f"left out, since they take minutes: {left_out}; name one of them, or --all", file=sys.stderr)
    return [name for name in names if name not in _LONG | _NAMED_ONLY], []


if __name__ == "__main__":
    sys.exit(main())
