"""How fast components are looked up in an advisory database, and whether any enumerated version is missed.

Made-up data: 500 components, of packages that have 20,000 ranges together, most of which do not hold the component's
version. Measured, in milliseconds of the processor, are opening the database, the lookup of all components from the
file, and judging alone, which is what a triage of many images does with what it has read once.

With --osv, real records too: every version that a record enumerates must be affected.

Run by `make bench ARGS="advisories [--osv PATH/all.zip] [--json]"`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pratique.release.advisories.database import AdvisoryDatabase
from pratique.release.advisories.importing import ImportRequest, import_advisories
from pratique.release.advisories.matching import Lookup, judge, match
from pratique.release.advisories.records import parse_record
from pratique.release.advisories.sources import read_source

__all__ = ["main"]

_COMPONENTS = 500
_RANGES_EACH = 40
_ROUNDS = 9
_TARGET_MS = 100.0


def _version(dice: random.Random, ecosystem: str) -> str:
    number = f"{dice.randrange(10)}.{dice.randrange(20)}.{dice.randrange(20)}"
    return number if ecosystem == "PyPI" else f"{number}-{dice.randrange(9)}+deb12u{dice.randrange(5)}"


def _make(folder: Path, dice: random.Random) -> list[Lookup]:
    lookups = []
    for number in range(_COMPONENTS):
        ecosystem, name = ("PyPI", f"package-{number}") if number % 5 == 0 else ("Debian:12", f"source-{number}")
        for one in range(_RANGES_EACH):
            fixed = _version(dice, ecosystem)
            events = [{"introduced": "0"}, {"fixed": fixed}]
            about = {
                "package": {"ecosystem": ecosystem, "name": name},
                "ranges": [{"type": "ECOSYSTEM", "events": events}],
            }
            body = {"id": f"MADE-{number}-{one}", "modified": "2024-01-01T00:00:00Z", "affected": [about]}
            (folder / f"{number}-{one}.json").write_text(json.dumps(body), encoding="utf-8")
        # Mostly up to date, as images are: nine of ten ranges end before it.
        version = "9" + _version(dice, ecosystem)[1:]
        lookups.append(Lookup((ecosystem,), name, version))
    return lookups


def _median_ms(call: Callable[[], object]) -> float:
    times = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        call()
        times.append((time.process_time() - began) * 1e3)
    return round(statistics.median(times), 2)


def _missed(source: Path) -> tuple[int, list[str]]:
    """Return how many enumerated versions there are, and those that are not found affected."""
    number, missed = 0, []
    for raw in read_source(source):
        advisory = parse_record(raw.content)
        for affected in advisory.affected:
            number += len(affected.versions)
            bad = [one for one in affected.versions if judge(affected, one).verdict != "affected"]
            missed += [f"{advisory.id} {affected.name} {one}" for one in bad]
    return number, missed


def main() -> None:
    """Print the figures; with --json as one object. Exit code 1: a target was missed."""
    parser = argparse.ArgumentParser(prog="benchmarks advisories")
    parser.add_argument("--osv", type=Path, help="an all.zip of OSV, for the check against enumerated versions")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures: dict[str, object] = {"schema_version": 1, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as work:
        folder, path = Path(work) / "osv", Path(work) / "advisories.db"
        folder.mkdir()
        lookups = _make(folder, random.Random(7))  # noqa: S311 - made-up data
        began = time.process_time()
        import_advisories(ImportRequest((folder,), path, datetime.now(UTC)))
        figures["import_ms"] = round((time.process_time() - began) * 1e3)
        figures["open_ms"] = _median_ms(lambda: AdvisoryDatabase(path).close())
        with AdvisoryDatabase(path) as database:
            figures["found"] = sum(len(database.matches(one)) for one in lookups)
            figures["lookup_ms"] = _median_ms(lambda: [database.matches(one) for one in lookups])
            read = [(one, database.about(one.ecosystems, one.name)) for one in lookups]
            figures["judge_ms"] = _median_ms(lambda: [match(one, advisories) for one, advisories in read])
    figures |= {"components": _COMPONENTS, "ranges": _COMPONENTS * _RANGES_EACH, "target_lookup_ms": _TARGET_MS}
    missed: list[str] = []
    if arguments.osv:
        number, missed = _missed(arguments.osv)
        figures |= {"enumerated_versions": number, "missed": missed}
    print(json.dumps(figures) if arguments.json else "\n".join(f"{name:22} {value}" for name, value in figures.items()))
    if missed or float(str(figures["lookup_ms"])) > _TARGET_MS:
        sys.exit(1)


if __name__ == "__main__":
    main()
