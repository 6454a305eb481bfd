"""The release gate: a whole set of evidence, signed by keys and under certificates, verified and judged, offline.

The set is the one that the gate's tests spoil: signature, SBOM, scan, exemption, provenance, dependency diff and its
review, hygiene, evaluation, canary and two approvals. The SBOM has as many components as is said, and the scan found
something in every tenth of them that does not block. Told are the times of verifying every bundle, of deciding, and of
both, by the wall clock; reading from a registry is not in them.

Run by `make bench ARGS="gate [--components 150] [--json]"`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tests.unit.release.policy.evidence_set import FACTS, SUBJECT, Edit, Piece, component, make_pieces, vulnerability
from tests.unit.release.policy.workshop import Workshop

from pratique.release.policy.decision import Decision
from pratique.release.policy.evaluate import evaluate
from pratique.release.signing.interface import Dossier

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


def _time(call: Callable[[], object], repetitions: int) -> list[float]:
    milliseconds = []
    for _ in range(repetitions):
        began = time.perf_counter()
        call()
        milliseconds.append((time.perf_counter() - began) * 1000)
    return milliseconds


def _row(what: str, components: int, milliseconds: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(milliseconds)
    worst = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {
        "what": what,
        "components": components,
        "p50_ms": round(statistics.median(ordered), 2),
        "p99_ms": round(worst, 2),
    }


def _measure(components: int, repetitions: int) -> list[dict[str, Any]]:
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
    both = [one + other for one, other in zip(verified, decided, strict=True)]
    return [
        _row(what, components, times) for what, times in (("verify", verified), ("decide", decided), ("both", both))
    ]


def main() -> None:
    """Print the figures; with --json as one object."""
    parser = argparse.ArgumentParser(prog="benchmarks gate")
    parser.add_argument("--components", type=int, nargs="+", default=[150, 1500])
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [row for components in arguments.components for row in _measure(components, arguments.repetitions)]
    if arguments.json:
        known = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "target_p50_ms": _TARGET_MS}
        print(json.dumps({"schema_version": 1, **known, "rows": rows}))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; at most {_TARGET_MS:g} ms for both")
    print(f"{'':8} {'components':>10} {'p50 ms':>9} {'p99 ms':>9}")
    for row in rows:
        print(f"{row['what']:8} {row['components']:10} {row['p50_ms']:9} {row['p99_ms']:9}")


if __name__ == "__main__":
    main()
