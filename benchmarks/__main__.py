"""`python -m benchmarks [NAME [FLAGS…]]`: run one benchmark, or all in turn. Each is a module or package here."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

__all__ = ["main"]


def main() -> int:
    """Return the worst exit code of what ran; 2 where there is no such benchmark."""
    here = Path(__file__).parent
    packages = (path.parent for path in here.glob("[!_]*/__main__.py"))
    names = sorted(path.stem for path in (*here.glob("[!_]*.py"), *packages))
    # The drill and the histories break things for minutes, and measure nothing unless they are asked to.
    wanted, flags = sys.argv[1:2] or [name for name in names if name not in {"drill", "history"}], sys.argv[2:]
    if not set(wanted) <= set(names):
        print(f"error: there is no benchmark '{wanted[0]}'\nhint: known: {', '.join(names)}", file=sys.stderr)
        return 2
    codes = []
    for name in wanted:
        sys.argv = [f"benchmarks {name}", *flags]
        try:
            runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
            codes.append(0)
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            codes.append(end.code if isinstance(end.code, int) else int(bool(end.code)))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
