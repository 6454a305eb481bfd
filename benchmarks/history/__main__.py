"""Histories of random clients under faults, checked: `python -m benchmarks history [--minutes N] [--seed S]`.

First processes of clients on a store of their own, killed and paused, while the store stalls; then people with two
orchestrator replicas, of which replicas and Valkey are killed, paused and restarted. Exit code 0: nothing is wrong with
either history; 1: something is, and the history is kept; 2: wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
from benchmarks.history.checker import Anomaly, Expectations, check
from benchmarks.history.record import Operation
from benchmarks.history.replicas import run_on_replicas
from benchmarks.history.storeclient import StoreSpec
from benchmarks.history.stores import run_on_store, stall_sqlite

__all__ = ["main"]

_STALE_SECONDS = 10.0
"""How old a replica may show a conversation, with one fault at a time."""
_SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks history", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="of faults, in each of the two histories")
    parser.add_argument("--seed", help="drawn and printed where it is not given")
    parser.add_argument("--only", choices=("store", "replicas"))
    parser.add_argument("--json", type=Path, help="write the result here too")
    given = parser.parse_args(arguments)
    seed = given.seed or str(random.SystemRandom().randrange(10**6))
    print(f"seed {seed}", file=sys.stderr)
    runs: dict[str, Callable[[Path], Awaitable[tuple[list[Operation], dict[str, int]]]]] = {
        "store": lambda folder: run_on_store(
            StoreSpec(database=str(folder / "conversations.db")),
            folder,
            seconds=60 * given.minutes,
            seed=seed,
            stall=stall_sqlite(folder / "conversations.db"),
        ),
        "replicas": lambda folder: run_on_replicas(
            StoreSpec(database=str(folder / "conversations.db")),
            folder,
            seconds=60 * given.minutes,
            seed=seed,
            flags=[],
        ),
    }
    expectations = {
        "store": Expectations(),
        "replicas": Expectations(stale_seconds=_STALE_SECONDS, all_end=True),
    }
    results = []
    for name, run in runs.items():
        if given.only in {None, name}:
            results.append(_judge(name, run, expectations[name]))
    if given.json:
        given.json.write_text(json.dumps({"schema_version": 1, "benchmark": "history", "seed": seed, "runs": results}))
    return int(any(result["anomalies"] for result in results))


def _judge(
    name: str, run: Callable[[Path], Awaitable[tuple[list[Operation], dict[str, int]]]], expectations: Expectations
) -> dict[str, object]:
    folder = Path(tempfile.mkdtemp(prefix=f"pratique-history-{name}-"))
    began = time.monotonic()
    try:
        history, faults = asyncio.run(_awaited(run(folder)))
    except BaseException as error:
        error.add_note(f"what was recorded until then is in {folder}")
        raise
    anomalies = check(history, expectations)
    _show(name, history, faults, anomalies)
    if anomalies:
        kept = folder / "history.jsonl"
        kept.write_bytes(b"".join(msgspec.json.encode(operation) + b"\n" for operation in history))
        print(f"the history is kept in {kept}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return {
        "name": name,
        "seconds": round(time.monotonic() - began, 1),
        "operations": dict(Counter(f"{one.kind.value} {one.result.value}" for one in history)),
        "faults": faults,
        "anomalies": [str(anomaly) for anomaly in anomalies],
    }


async def _awaited(run: Awaitable[tuple[list[Operation], dict[str, int]]]) -> tuple[list[Operation], dict[str, int]]:
    return await run


def _show(name: str, history: Sequence[Operation], faults: dict[str, int], anomalies: Sequence[Anomaly]) -> None:
    print(f"\n{name}: {len(history)} operations; faults: " + ", ".join(f"{kind} {n}" for kind, n in faults.items()))
    counts = Counter((one.kind.value, one.result.value) for one in history)
    print(f"  {'':8}{'ok':>8}{'fail':>8}{'unknown':>9}")
    for kind in dict.fromkeys(kind for kind, _ in sorted(counts)):
        ok, fail, unknown = (counts[kind, result] for result in ("ok", "fail", "unknown"))
        print(f"  {kind:8}{ok:8}{fail:8}{unknown:9}")
    print(f"  anomalies: {len(anomalies)}")
    for anomaly in anomalies[:_SHOWN]:
        print(f"    {anomaly}")


if __name__ == "__main__":
    sys.exit(main())
