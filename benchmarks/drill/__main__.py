"""Failure drill: a whole stack on loopback under load, broken at random for some minutes, judged by what people saw.

    python -m benchmarks drill --minutes 10 --seed 7 --report /tmp/drill

Kills, pauses, drained restarts, cut, silent, half-open and slow connections, and a locked store, of Valkey, the edge,
orchestrators, model servers and the store. Exit code 0 only if every invariant held: no acknowledged turn lost, none
stored twice, every reply as it is stored, the order kept, no reply that never ends. Ctrl-C ends the load and still
reports. Run by `make drill`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.drill.report import render_markdown, render_table, render_timeline
from benchmarks.drill.run import Drill, run_drill

from pratique.core.errors import PratiqueError

__all__ = ["main"]


def main() -> int:
    """Return 0 where every invariant held, 1 where one was broken, 3 where the stack could not be run."""
    flags = _flags()
    try:
        if flags.folder is not None:
            return asyncio.run(_run(flags, flags.folder))
        with tempfile.TemporaryDirectory(prefix="pratique-drill-") as folder:
            return asyncio.run(_run(flags, Path(folder)))
    except PratiqueError as error:
        print(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
        return 3


async def _run(flags: argparse.Namespace, folder: Path) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    drill = Drill(
        seconds=flags.minutes * 60,
        seed=flags.seed,
        people=flags.people,
        orchestrators=flags.orchestrators,
        inference=flags.inference,
        engine=flags.engine,
        folder=folder,
    )
    results = await run_drill(drill, stopping, _say)
    print(render_table(results))
    if flags.report is not None:
        flags.report.mkdir(parents=True, exist_ok=True)
        (flags.report / "report.json").write_text(json.dumps(results.as_json(), indent=1), encoding="utf-8")
        (flags.report / "report.md").write_text(render_markdown(results), encoding="utf-8")
        (flags.report / "timeline.svg").write_text(render_timeline(results), encoding="utf-8")
        (flags.report / "history.jsonl").write_bytes((folder / "history.jsonl").read_bytes())
        _say(f"report in {flags.report}")
    return 0 if results.verdict.is_clean else 1


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks drill", description="Failure drill of a whole stack.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the load and the faults last [10]")
    parser.add_argument("--seed", type=int, default=None, help="of faults and people; printed where it is drawn")
    parser.add_argument("--report", type=Path, help="folder for report.json, report.md, timeline.svg, history.jsonl")
    parser.add_argument("--people", type=int, default=24, help="how many talk at the same time [24]")
    parser.add_argument("--orchestrators", type=int, default=3)
    parser.add_argument("--inference", type=int, default=2)
    parser.add_argument("--engine", default="simulated", help="simulated or vllm")
    parser.add_argument("--folder", type=Path, help="state folder that is kept, with every log [a temporary one]")
    flags = parser.parse_args()
    if flags.seed is None:
        flags.seed = secrets.randbelow(1_000_000)
    return flags


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
