"""The scan for secrets: precision and recall of every rule on the made-up corpus, and MB/s on this repository.

Run by `make bench ARGS="secrets [--cases 100] [--json]"`. Of the speed the best of some repetitions is told.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pratique.core.secrets.scanner import Scanner
from pratique.testkit.guard.scan.corpus import assess, false_cases, table, true_cases
from pratique.testkit.guard.scan.sources import scan_files, scan_history

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print the figures; with --json as one object."""
    parser = argparse.ArgumentParser(prog="benchmarks secrets")
    parser.add_argument("--cases", type=int, default=100, help="how many texts of every kind")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    scores = assess([*true_cases(seed=1, per_rule=arguments.cases), *false_cases(seed=2, per_kind=arguments.cases)])
    speeds = [
        _measure("files", lambda scanner: scan_files(scanner, [_ROOT]), arguments.repetitions),
        _measure("history", lambda scanner: scan_history(scanner, _ROOT), arguments.repetitions),
    ]
    if arguments.json:
        rules = [{"rule": one.rule, "recall": one.recall, "precision": one.precision} for one in scores]
        print(json.dumps({"schema_version": 1, "cores": os.cpu_count(), "rules": rules, "speeds": speeds}))
        return
    print(table(scores))
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, best of {arguments.repetitions}")
    for row in speeds:
        print(f"{row['what']:10} {row['texts']:6} texts {row['MB']:8} MB {row['MB/s']:8} MB/s")


def _measure(what: str, scan: Callable[[Scanner], None], repetitions: int) -> dict[str, Any]:
    seconds, reports = [], []
    for _ in range(repetitions):
        scanner = Scanner()
        began = time.perf_counter()
        scan(scanner)
        seconds.append(time.perf_counter() - began)
        reports.append(scanner.report)
    megabytes = reports[-1].num_bytes / 1e6
    return {
        "what": what,
        "texts": reports[-1].num_texts,
        "MB": round(megabytes, 1),
        "MB/s": round(megabytes / min(seconds), 1),
    }


if __name__ == "__main__":
    main()
