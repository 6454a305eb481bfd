"""How fast triage answers at 100,000 images of 150 components each, and whether it misses an enumerated version.

The data are made up and always the same: a base image's 87 packages that many images share, and 63 of a long tail of
others, about 78,000 components in all. The index is loaded in the order of its clustering, which is how a first load
is fast; then it is asked as the command asks it, in time of the processor, with the wall clock beside:

- rare: a package that 1 image has; popular: one that 17,000 images have. The answer as `pratique triage` has it: all
  that run, the number of all, 20 digests; with all digests listed it stands apart
- ingest: one bill of materials of 150 components, read from its JSON and kept, of which 20 components are new
- whole set: every advisory of a database against every component; real PyPI records with --osv, else made-up ones
- enumerated: with --osv, every version that a record enumerates is put into an index of its own and asked about there

Run by `make bench ARGS="triage [--quick] [--osv PATH/all.zip] [--json]"`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from pratique.release.advisories.database import AdvisoryDatabase
from pratique.release.advisories.importing import ImportRequest, import_advisories
from pratique.release.advisories.records import parse_record
from pratique.release.advisories.sources import read_source
from pratique.release.triage.asking import ask
from pratique.release.triage.index import Inventory, TriageIndex
from pratique.release.triage.parts import Part, Reach, read_parts
from pratique.release.triage.question import parse_question
from pratique.release.triage.sweep import Swept, sweep
from pratique.release.values import digest_of

__all__ = ["main"]

_EACH = 150
_BASE = 87
_TARGETS_MS = {"rare": 1.0, "popular": 10.0, "popular, all listed": 10.0, "ingest": 5.0, "whole set": 60_000.0}
_ROUNDS = 51
_POPULAR = 17_000


def _purl(number: int) -> tuple[str, str, str, str, str]:
    """Return a component: purl, family, ecosystem, name, version."""
    version = f"{1 + number % 7}.{number % 23}.{number % 5}"
    if number % 3 == 0:
        name = f"source-{number // 12}"
        return f"pkg:deb/debian/{name}@{version}-{number}?distro=debian-12", "Debian", "Debian:12", name, version
    name = f"package-{number // 12}"
    return f"pkg:pypi/{name}@{version}.{number}", "PyPI", "PyPI", name, f"{version}.{number}"


def load(path: Path, num_images: int, names: list[tuple[str, str]]) -> int:
    """Make the index, and return its rows. Some components get names that the advisories are about."""
    dice = random.Random(7)  # noqa: S311 - made-up data
    num_components = max(1000, int(num_images * 0.78))
    TriageIndex(path, may_make=True).__exit__(None, None, None)
    db = sqlite3.connect(path)
    db.execute("PRAGMA synchronous = OFF")
    digests = ((number + 1, digest_of(b"%d" % number), "registry.example/team/app") for number in range(num_images))
    db.executemany("INSERT INTO images VALUES (?, ?, ?)", digests)
    sboms = ((digest_of(b"sbom %d" % number), number + 1) for number in range(num_images))
    db.executemany("INSERT INTO sboms VALUES (?, ?)", sorted(sboms))
    db.executemany("INSERT INTO components VALUES (?, ?, ?, ?, ?, ?)", _components(num_components, names, dice))
    db.execute(
        "INSERT INTO reaches VALUES (1, ?)",
        [msgspec.json.encode(Reach("sha256:layer", "/usr/lib/x", ("a@1", "b@2"))).decode()],
    )
    num_popular = min(_POPULAR, num_images * 17 // 100)
    rows = _rows(num_images, num_components, num_popular, dice)
    db.executemany("INSERT OR IGNORE INTO contains VALUES (?, ?, 1)", rows)
    places = [(digest_of(b"%d" % n), f"env-{n}", "stable", "ecs", "r", 0, n) for n in range(50)]
    db.executemany("INSERT INTO places VALUES (?, ?, ?, ?, ?, ?, ?)", places)
    db.commit()
    (number,) = db.execute("SELECT count(*) FROM contains").fetchone()
    db.close()
    return int(number)


def _components(number: int, names: list[tuple[str, str]], dice: random.Random) -> Iterator[tuple[Any, ...]]:
    yield 1, "pkg:pypi/rare@1.0", "PyPI", "PyPI", "rare", "1.0"
    yield 2, "pkg:pypi/popular@1.0", "PyPI", "PyPI", "popular", "1.0"
    for one in range(3, number + 1):
        purl, family, ecosystem, name, version = _purl(one)
        if family == "PyPI" and names and one % 4 == 1:
            name, version = dice.choice(names)
            purl = f"pkg:pypi/{name}@{version}?n={one}"
        yield one, purl, family, ecosystem, name, version


def _rows(num_images: int, num_components: int, num_popular: int, dice: random.Random) -> Iterator[tuple[int, int]]:
    """In the order of the table. Of a base's packages some 17 % of the images have each; the rest is a long tail."""
    yield 1, num_images // 2
    yield from ((2, image) for image in sorted(dice.sample(range(1, num_images + 1), num_popular)))
    num_base = _BASE * 100 // 17
    total = num_images * _EACH - num_popular - 1
    per_base = total * _BASE // _EACH // num_base
    tail = (total - per_base * num_base) // (num_components - num_base - 2)
    for one in range(3, num_components + 1):
        number = per_base if one < num_base + 3 else tail
        step = max(1, num_images // max(1, number))
        start = dice.randrange(step)
        yield from ((one, 1 + image) for image in range(start, num_images, step))


def _sbom(number: int) -> bytes:
    components = []
    for one in range(_EACH):
        purl = _purl(1000 + one)[0] if one >= 20 else f"pkg:pypi/new-{one}@1.{number}"
        place = [
            {"name": "syft:location:0:layerID", "value": f"sha256:{one % 7}"},
            {"name": "syft:location:0:path", "value": f"/usr/lib/{one}"},
        ]
        properties = [{"name": f"syft:cpe23:{more}", "value": "cpe:2.3:a:x:y:z:*:*:*:*:*:*:*"} for more in range(8)]
        components.append(
            {"type": "library", "name": str(one), "purl": purl, "bom-ref": purl, "properties": [*place, *properties]}
        )
    needs = [{"ref": components[one]["bom-ref"], "dependsOn": [components[one + 1]["bom-ref"]]} for one in range(5, 60)]
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": components, "dependencies": needs}
    return json.dumps(document).encode()


_Times = tuple[list[float], list[float]]
"""In milliseconds: of the processor, and by the wall clock."""


def _times(call: Callable[[], object], rounds: int = _ROUNDS) -> _Times:
    times: _Times = ([], [])
    for _ in range(rounds):
        cpu, wall = time.thread_time(), time.perf_counter()
        call()
        times[0].append((time.thread_time() - cpu) * 1000)
        times[1].append((time.perf_counter() - wall) * 1000)
    return times


def _row(name: str, times: _Times, **more: object) -> dict[str, Any]:
    cpu, wall = (round(statistics.median(one), 3) for one in times)
    return {"name": name, "p50_ms": cpu, "wall_p50_ms": wall, "target_p50_ms": _TARGETS_MS[name], **more}


def measure(index: TriageIndex, database: AdvisoryDatabase) -> Iterator[dict[str, Any]]:
    """Ask, and yield the figures."""
    for name in ("rare", "popular"):
        asked = parse_question(f"pkg:pypi/{name}@<2")
        found = ask(asked, index, None, max_images=20)
        times = _times(lambda asked=asked: ask(asked, index, None, max_images=20))  # type: ignore[misc]  # a default
        yield _row(name, times, images=found.num_images)
    popular = parse_question("pkg:pypi/popular@<2")
    yield _row("popular, all listed", _times(lambda: ask(popular, index, None)))
    documents = iter([_sbom(number) for number in range(_ROUNDS)])
    numbers = iter(range(_ROUNDS))

    def ingest() -> None:
        parts = read_parts(next(documents))
        number = next(numbers)
        index.add(
            Inventory(digest_of(b"new %d" % number), "registry.example/new", digest_of(b"its %d" % number), parts)
        )

    yield _row("ingest", _times(ingest))
    swept: list[Swept] = []
    times = _times(lambda: swept.__iadd__(sweep(index, database)), rounds=1)
    yield _row("whole set", times, advisories=database.info.num_advisories, concerning=len(swept))


def missed(source: Path, folder: Path, database: AdvisoryDatabase) -> tuple[int, int]:
    """Return how many enumerated versions were asked about, and how many of them were not found affected."""
    pairs = {
        (one.name, version, advisory.id)
        for raw in read_source(source)
        if (advisory := parse_record(raw.content)).withdrawn is None
        for one in advisory.affected
        if one.ecosystem == "PyPI"
        for version in one.versions
    }
    with TriageIndex(folder / "enumerated.db", may_make=True) as index:
        parts = sorted({(name, version) for name, version, _ in pairs})
        kept = tuple(Part("PyPI", "PyPI", name, version, f"{name}@{version}") for name, version in parts)
        index.add(Inventory(digest_of(b"all"), "r", digest_of(b"sbom"), kept))
        found = {(purl, one.advisory) for one in sweep(index, database) for purl in one.components}
    return len(pairs), sum((f"{name}@{version}", advisory) not in found for name, version, advisory in pairs)


def _database(folder: Path, osv: Path | None) -> AdvisoryDatabase:
    source = osv or folder / "made"
    if osv is None:
        source.mkdir()
        for number in range(20_000):
            package = {"ecosystem": "PyPI", "name": f"package-{number % 6000}"}
            events = [{"introduced": "0"}, {"fixed": f"{number % 9}.{number % 13}.0"}]
            about = {"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
            body = {"id": f"MADE-{number}", "modified": "2024-01-01T00:00:00Z", "affected": [about]}
            (source / f"{number}.json").write_text(json.dumps(body), encoding="utf-8")
    path = folder / "advisories.db"
    import_advisories(ImportRequest((source,), path, now=datetime.now(UTC)))
    return AdvisoryDatabase(path)


def _names(database: AdvisoryDatabase) -> list[tuple[str, str]]:
    found = []
    for advisory in database.all():
        for one in advisory.affected:
            events = [event.version for span in one.ranges for event in span.events if event.version != "0"]
            found += [(one.name, version) for version in [*events[:1], *one.versions[:1]] if one.ecosystem == "PyPI"]
    return found


def main() -> None:
    """Print the figures; with --json as one object."""
    parser = argparse.ArgumentParser(prog="benchmarks triage")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="5,000 images")
    parser.add_argument("--osv", type=Path, help="PyPI/all.zip as OSV exports it")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    num_images = 5000 if arguments.quick else arguments.images
    enumerated = None
    with tempfile.TemporaryDirectory(prefix="pratique-triage-") as name:
        folder = Path(name)
        with _database(folder, arguments.osv) as database:
            start = time.perf_counter()
            num_rows = load(folder / "triage.db", num_images, _names(database))
            seconds, size = time.perf_counter() - start, (folder / "triage.db").stat().st_size
            with TriageIndex(folder / "triage.db", may_make=True) as index:
                rows = list(measure(index, database))
            if arguments.osv is not None:
                enumerated = missed(arguments.osv, folder, database)
    known = {"images": num_images, "rows": num_rows, "load_seconds": round(seconds, 1), "size_bytes": size}
    machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    if arguments.json:
        print(json.dumps({"schema_version": 1, **machine, **known, "rows_measured": rows, "enumerated": enumerated}))
    else:
        print(f"{known}; {machine}")
        for row in rows:
            print("  ".join(f"{key} {value}" for key, value in row.items()))
        if enumerated is not None:
            print(f"{enumerated[0]} enumerated versions, {enumerated[1]} missed")
    if enumerated is not None and enumerated[1]:
        sys.exit(1)


if __name__ == "__main__":
    main()
