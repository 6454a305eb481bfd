"""The 2 a.m. drill: a vulnerable release in production, an advisory, and the way until it is proved gone, timed.

    python -m benchmarks release_drill --report /tmp/drill

Real parts: buildah, podman, Debian's registry behind our front, our mirror before PyPI, syft, Envoy, keys, an SQLite
ledger. Needs root, Debian's programs and PyPI; listens on loopback only. The canary is the emergency path's, five
minutes; --canary-seconds shortens it, and the report says so. Exit code 0: everything was as it must be; 1: something
was not; 3: the machine cannot run it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.release_drill.desk import Desk, DrillError, Part
from benchmarks.release_drill.night import be_woken, prepare, try_a_broken_one
from benchmarks.release_drill.parts import Traffic, missing_programs
from benchmarks.release_drill.report import as_json, render_table
from benchmarks.release_drill.shop import open_shop
from benchmarks.release_drill.texts import Pace

__all__ = ["main"]

_ROOT: Final = Path(__file__).resolve().parents[2]
_SLACK_SECONDS: Final = 600.0
"""How much longer than its canary a command may take."""


def main() -> int:
    """Run the drill, and report."""
    flags = _flags()
    missing = missing_programs()
    if missing or os.geteuid() != 0:
        what = f"apt-get install {' '.join(missing)}" if missing else "Run it as root: it builds and runs containers."
        print(f"error: the drill cannot run on this machine\nhint: {what}", file=sys.stderr)
        return 3
    pace = Pace(flags.canary_seconds, flags.requests_per_second)
    with contextlib.ExitStack() as kept:
        folder = flags.folder or kept.enter_context(tempfile.TemporaryDirectory(prefix="pratique-night-"))
        Path(folder).mkdir(parents=True, exist_ok=True)
        desk = Desk(Path(folder).resolve(), seconds=pace.canary_seconds + _SLACK_SECONDS)
        failed = _run(desk, pace, flags)
    print(render_table(desk.steps, pace))
    if flags.report is not None:
        flags.report.mkdir(parents=True, exist_ok=True)
        report = as_json(desk.steps, pace, failed=failed)
        (flags.report / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        (flags.report / "report.md").write_text(render_table(desk.steps, pace) + "\n", encoding="utf-8")
    return 1 if failed else 0


def _run(desk: Desk, pace: Pace, flags: argparse.Namespace) -> str:
    """Return why it failed; empty where it did not."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as kept:
            with desk.step("bases, keys, registry, mirror", Part.BEFORE):
                shop = kept.enter_context(open_shop(desk, pace, flags.bases.resolve()))
            prepare(shop)
            rate = pace.requests_per_second
            traffic = kept.enter_context(Traffic(shop.places.target_ports[0], requests_per_second=rate))
            be_woken(shop, traffic)
            if not flags.without_broken:
                try_a_broken_one(shop, traffic)
    except DrillError as error:
        print(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.message
    except LookupError as error:
        print(f"error: a command's JSON has another form than the drill knows: {error!r}", file=sys.stderr)
        return repr(error)
    except KeyboardInterrupt:
        return "interrupted"
    return ""


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks release_drill", description=__doc__.splitlines()[0])
    parser.add_argument("--canary-seconds", type=float, default=300.0, help="shorter is no honest canary [300]")
    parser.add_argument("--requests-per-second", type=float, default=20.0, help="how much people ask [20]")
    parser.add_argument("--without-broken", action="store_true", help="leave out the broken release at the end")
    parser.add_argument("--bases", type=Path, default=_ROOT / "build" / "bases", help="where base images are kept")
    parser.add_argument("--report", type=Path, help="folder for report.json and report.md")
    parser.add_argument("--folder", type=Path, help="a new folder that is kept, with every log [a temporary one]")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
