"""Verification of model files: throughput against `sha256sum`, cancellation, and how much a start waits for it.

1. Four files of random bytes are verified with 1, 2 and 4 threads and hashed by `sha256sum`, each cold (their pages are
   dropped from memory by POSIX_FADV_DONTNEED first) and warm, in turn, in one run.
2. A verification is cancelled in the middle: the time until it has ended.
3. With --starts: the real model server is started on the small model with its manifest and on the same files without
   one, in turn. The difference of the medians is what the verification costs a start.
Run by `python -m benchmarks artifacts [--megabytes N] [--repetitions N] [--starts] [--model-root DIR] [--json FILE]`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pratique.inference.artifacts.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    VerificationCancelledError,
    check_layout,
    hash_file,
    verify_content,
)
from pratique.inference.artifacts.store import default_model_root, import_small_model

__all__ = ["main"]

_NUM_FILES = 4
_BLOCK_BYTES = 1 << 22
_TARGET_RATIO = 1.1
"""Seconds with one thread, warm, over those of `sha256sum`."""
_TARGET_CANCEL_SECONDS = 0.1


def make_files(folder: Path, num_bytes: int) -> Manifest:
    """Write random files of `num_bytes` together, and return their manifest."""
    block = os.urandom(_BLOCK_BYTES)
    entries = []
    for number in range(_NUM_FILES):
        path = folder / f"shard-{number}"
        with path.open("wb") as file:
            for _ in range(max(1, num_bytes // _NUM_FILES // _BLOCK_BYTES)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        entries.append(FileEntry(name=path.name, size_bytes=path.stat().st_size, sha256=hash_file(path)))
    return Manifest(name="benchmark", origin="random", licence="", files=tuple(entries))


def forget_pages(folder: Path) -> None:
    """Drop the files' pages from memory."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def measure_throughput(folder: Path, manifest: Manifest, repetitions: int) -> dict[str, float]:
    """Return the median seconds of each way to hash the files, cold and warm."""
    paths = sorted(str(path) for path in folder.iterdir())
    ways: dict[str, Callable[[], object]] = {
        f"verify, {threads} thread{'s' * (threads > 1)}": lambda threads=threads: verify_content(  # type: ignore[misc]  # bound
            folder, manifest, threads=threads
        )
        for threads in (1, 2, 4)
    }
    ways["sha256sum"] = lambda: subprocess.run(["sha256sum", *paths], check=True, capture_output=True)
    seconds: dict[str, list[float]] = {}
    for number in range(repetitions):
        # The other way round every second time: a load that comes and goes hits all.
        for name, way in list(ways.items())[:: -1 if number % 2 else 1]:
            forget_pages(folder)
            seconds.setdefault(f"{name}, cold", []).append(_timed(way))
            seconds.setdefault(f"{name}, warm", []).append(_timed(way))
    return {name: round(statistics.median(values), 4) for name, values in sorted(seconds.items())}


def measure_cancel(folder: Path, manifest: Manifest, repetitions: int) -> float:
    """Return the longest time between the order to stop and the end of a verification that was cold."""
    longest = 0.0
    for _ in range(repetitions):
        forget_pages(folder)
        cancelled, reading = threading.Event(), threading.Event()
        ended: list[float] = []
        thread = threading.Thread(target=_cancelled, args=(folder, manifest, cancelled, reading, ended))
        thread.start()
        reading.wait(60)
        asked = time.monotonic()
        cancelled.set()
        thread.join(60)
        longest = max(longest, ended[0] - asked)
    return round(longest, 4)


def _cancelled(
    folder: Path, manifest: Manifest, cancelled: threading.Event, reading: threading.Event, ended: list[float]
) -> None:
    try:
        verify_content(folder, manifest, lambda share: reading.set() if share > 0.1 else None, cancelled=cancelled)
    except VerificationCancelledError:
        ended.append(time.monotonic())


def measure_starts(model: Path, repetitions: int) -> dict[str, Any]:
    """Return the median seconds from process start to ready, with a manifest to verify and without."""
    from benchmarks.startup import measure, subjects

    with tempfile.TemporaryDirectory(prefix=".benchmark-", dir=model.parent) as work:
        # Both are copies by hard link: an engine's caches know a model by its path.
        folders = {name: Path(work) / name / model.name for name in ("verified", "unverified")}
        for name, folder in folders.items():
            folder.mkdir(parents=True)
            for path in model.iterdir():
                if name == "verified" or path.name != MANIFEST:
                    os.link(path, folder / path.name)
        ready: dict[str, list[float]] = {name: [] for name in folders}
        phases: dict[str, float] = {}
        for number in range(repetitions):
            for name in list(ready)[:: -1 if number % 2 else 1]:
                start = measure(subjects(folders[name])[0], Path(work) / "log")
                ready[name].append(start.ready)
                phases = start.phases if name == "verified" else phases
                print(f"{name:12} ready {start.ready:6.2f} s, load {start.load_average}", file=sys.stderr)
    medians = {name: round(statistics.median(values), 2) for name, values in ready.items()}
    return {"medians": medians, "starts": ready, "phases_of_a_verified_start": phases}


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure all that was asked for."""
    model = import_small_model(given.model_root, lambda _phase, _share: None)
    report: dict[str, Any] = {
        "schema_version": 1,
        "benchmark": "artifacts",
        "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "load_average": os.getloadavg()[0],
        "layout_seconds": round(statistics.median(_timed(lambda: check_layout(model)) for _ in range(5)), 4),
    }
    with tempfile.TemporaryDirectory(prefix=".benchmark-", dir=given.model_root) as work:
        manifest = make_files(Path(work), given.megabytes << 20)
        report["bytes"] = manifest.size_bytes
        report["seconds"] = measure_throughput(Path(work), manifest, given.repetitions)
        report["cancel_seconds"] = measure_cancel(Path(work), manifest, given.repetitions)
    report["ratio_to_sha256sum"] = round(
        report["seconds"]["verify, 1 thread, warm"] / report["seconds"]["sha256sum, warm"], 3
    )
    if given.starts:
        report["start"] = measure_starts(model, given.repetitions)
    return report


def _show(report: dict[str, Any]) -> None:
    print(f"\n{report['bytes'] / 1e6:.0f} MB in {_NUM_FILES} files, load {report['load_average']:.1f}")
    for name, seconds in report["seconds"].items():
        print(f"{name:24} {seconds:7.3f} s  {report['bytes'] / seconds / 1e6:6.0f} MB/s")
    print(f"layout of the small model: {1000 * report['layout_seconds']:.1f} ms")
    print(f"cancelled within {1000 * report['cancel_seconds']:.0f} ms (target {1000 * _TARGET_CANCEL_SECONDS:.0f})")
    print(f"one thread, warm, over sha256sum: {report['ratio_to_sha256sum']} (target ≤ {_TARGET_RATIO})")
    if "start" in report:
        medians = report["start"]["medians"]
        cost = medians["verified"] - medians["unverified"]
        print(f"ready: {medians['verified']} s verified, {medians['unverified']} s unverified: {cost:+.2f} s")


def main(arguments: list[str] | None = None) -> int:
    """Run it; return 0 where the targets are met, 1 where one is not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks artifacts", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--starts", action="store_true", help="measure real starts too; takes minutes")
    parser.add_argument("--model-root", type=Path, default=default_model_root(os.environ))
    parser.add_argument("--json", type=Path, help="write the result here too")
    given = parser.parse_args(arguments)
    report = run(given)
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n")
    _show(report)
    met = report["cancel_seconds"] <= _TARGET_CANCEL_SECONDS and report["ratio_to_sha256sum"] <= _TARGET_RATIO
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
