"""The release gate: a whole set of evidence, signed by keys and under certificates, verified and judged, offline.

The set is the one that the gate's tests spoil: signature, SBOM, scan, exemption, provenance, dependency diff and its
review, hygiene, evaluation, canary and two approvals. The SBOM has as many components as is said, and the scan found
something in every tenth of them that does not block. Told are the times of verifying every bundle, of deciding, and of
both, by the wall clock and in time of the processor.

`registry` is the whole gate as `pratique gate --dry-run` has it, but for the ledger, which is in memory: what lies
beside the image in Debian's docker-registry on this machine is listed, fetched, verified and judged. It is left out
where that program is not installed.

Run by `make bench ARGS="gate [--components 150] [--json]"`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from tests.unit.release.policy.evidence_set import (
    EMPTY,
    FACTS,
    IMAGE,
    MANIFEST,
    NOW,
    SUBJECT,
    Edit,
    Piece,
    component,
    make_pieces,
    vulnerability,
)
from tests.unit.release.policy.shell_parts import clock, ledger
from tests.unit.release.policy.workshop import Workshop

from pratique.release.policy.decision import Decision
from pratique.release.policy.evaluate import evaluate
from pratique.release.policy.gate import Gate, Question
from pratique.release.registry.client import HttpRegistry
from pratique.release.registry.credentials import AuthFiles
from pratique.release.registry.interface import IMAGE_MANIFEST
from pratique.release.registry.settings import RegistrySettings
from pratique.release.signing.attach import attach
from pratique.release.signing.dossier import load_dossier
from pratique.release.signing.interface import Dossier
from pratique.release.values import Subject

__all__ = ["main"]

_TARGET_MS = 300.0


def _with_components(number: int) -> Edit:
    def edit(piece: Piece) -> Piece:
        more = [component(f"pkg:pypi/package-{index}@1.{index}.0") for index in range(number - 3)]
        return replace(piece, predicate={**piece.predicate, "components": [*piece.predicate["components"], *more]})

    return edit


def _with_findings(number: int) -> Edit:
    def edit(piece: Piece) -> Piece:
        result = piece.predicate["result"]
        found = [
            vulnerability(id=f"PYSEC-2026-{index}", package=f"pkg:pypi/package-{index}@1.{index}.0", severity="low")
            for index in range(number // 10)
        ]
        result = {**result, "num_components": number, "vulnerabilities": [*result["vulnerabilities"], *found]}
        return replace(piece, predicate={**piece.predicate, "result": result})

    return edit


_Times = list[tuple[float, float]]
"""In milliseconds: by the wall clock, and of the processor, of all threads."""
_CONFIG = """\
version: 0.1
log: {{accesslog: {{disabled: true}}, level: error}}
storage: {{filesystem: {{rootdirectory: "{folder}/data"}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def _time(call: Callable[[], object], repetitions: int) -> _Times:
    times = []
    for _ in range(repetitions):
        began, cpu = time.perf_counter(), time.process_time()
        call()
        times.append(((time.perf_counter() - began) * 1000, (time.process_time() - cpu) * 1000))
    return times


def _row(what: str, components: int, times: _Times) -> dict[str, Any]:
    ordered = sorted(wall for wall, _ in times)
    worst = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {
        "what": what,
        "components": components,
        "p50_ms": round(statistics.median(ordered), 2),
        "p99_ms": round(worst, 2),
        "cpu_p50_ms": round(statistics.median(cpu for _, cpu in times), 2),
    }


@contextmanager
def _registry(folder: Path) -> Iterator[str | None]:
    """Run Debian's registry, and yield its address; None: it is not installed."""
    program = shutil.which("docker-registry")
    if program is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (folder / "config.yml").write_text(_CONFIG.format(folder=folder, port=port), encoding="utf-8")
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    words = [program, "serve", str(folder / "config.yml")]
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(port: int, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _gate(shop: Workshop, bundles: Mapping[str, bytes], repository: str) -> Callable[[], object]:
    """Lay evidence into a registry, and return the gate before it."""
    registry = HttpRegistry(RegistrySettings(), AuthFiles(()))
    subject = Subject(repository, IMAGE)
    registry.put_blob(repository, EMPTY)
    registry.put_manifest(repository, IMAGE, MANIFEST, IMAGE_MANIFEST)
    for bundle in bundles.values():
        attach(registry, subject, bundle, at=NOW)
    document = msgspec.structs.replace(shop.policy.document, repositories=(repository,))
    gate = Gate(
        policy=replace(shop.policy, document=document),
        load_dossier=lambda subject: load_dossier(registry, subject, shop.verifier),
        ledger=ledger(),
        clock=clock(),
    )

    def look() -> None:
        decision = gate.look(Question(subject, "production")).decision
        if decision.verdict != "allow":
            raise SystemExit(f"the valid set is not allowed: {decision}")

    return look


def _measure(components: int, repetitions: int, address: str | None) -> list[dict[str, Any]]:
    shop = Workshop()
    pieces = make_pieces({"sbom": _with_components(components), "scan": _with_findings(components)})
    bundles = shop.bundles(pieces)

    def verify() -> Dossier:
        return Dossier(SUBJECT, tuple(shop.verifier.verify(bundle) for bundle in bundles.values()), ())

    def decide() -> Decision:
        decision = evaluate(shop.policy, SUBJECT, dossier, FACTS)
        if decision.verdict != "allow":
            raise SystemExit(f"the valid set is not allowed: {decision}")
        return decision

    dossier = verify()
    decide()
    verified, decided = _time(verify, repetitions), _time(decide, repetitions)
    both = [(wall + other, cpu + more) for (wall, cpu), (other, more) in zip(verified, decided, strict=True)]
    parts = {"verify": verified, "decide": decided, "both": both}
    if address is not None:
        look = _gate(shop, bundles, f"{address}/gate-{components}")
        look()
        parts["registry"] = _time(look, repetitions)
    return [_row(what, components, times) for what, times in parts.items()]


def main() -> None:
    """Print the figures; with --json as one object."""
    parser = argparse.ArgumentParser(prog="benchmarks gate")
    parser.add_argument("--components", type=int, nargs="+", default=[150, 1500])
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pratique-gate-") as folder, _registry(Path(folder)) as address:
        rows = [row for one in arguments.components for row in _measure(one, arguments.repetitions, address)]
    if arguments.json:
        known = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "target_p50_ms": _TARGET_MS}
        print(json.dumps({"schema_version": 1, **known, "rows": rows}))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; at most {_TARGET_MS:g} ms for both and registry")
    print(f"{'':8} {'components':>10} {'p50 ms':>9} {'p99 ms':>9} {'cpu ms':>9}")
    for row in rows:
        print(f"{row['what']:8} {row['components']:10} {row['p50_ms']:9} {row['p99_ms']:9} {row['cpu_p50_ms']:9}")


if __name__ == "__main__":
    main()
