"""A step to five times the load: how soon work spills to burst workers, what it costs, and how it comes back.

One orchestrator process with local burst workers stands before a scripted model server whose answers take a fixed time.
Requests arrive at a fixed rate whatever becomes of them (open loop), so that a slow service cannot slow its own load.
The baseline lane is sized for the base rate. The same step without a burst lane (`--kind none`) is the comparison.
Run by `python -m benchmarks lanes [--kind workers|none] [--rate N] [--seconds BASE STEP BACK] [--json FILE]
[--svg FILE]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
from benchmarks._lanes_plot import Second, render_svg
from benchmarks._server import machine

from pratique.orchestrator.access.keyring import ApiKeyring
from pratique.orchestrator.upstream.scripted import ScriptedUpstream
from pratique.orchestrator.upstream.scripted_server import ScriptedModelServer

__all__ = ["main"]

_TOKENS = 20
"""Of 20 ms each: an answer takes 0.4 s."""
_ANSWER_SECONDS = 0.4
_FACTOR = 5
_START_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request: when it was sent, in seconds of the test, and what became of it."""

    at: float
    outcome: str
    """The lane that answered; "shed"; "error"."""
    head_seconds: float
    whole_seconds: float
    detail: str = ""


def main() -> None:
    """Run the step; print the table."""
    flags = _flags()
    if flags.upstream:
        asyncio.run(_serve_upstream())
        return
    with (
        tempfile.TemporaryDirectory(prefix="pratique-") as folder,
        _process("upstream", _upstream_command()) as upstream,
    ):
        command, key = _orchestrator(Path(folder), upstream, flags)
        with _process("orchestrator", command) as url:
            asked, metrics = asyncio.run(_load(url, key, flags.rate, flags.seconds))
    result = _result(asked, metrics, flags)
    _print(result)
    if flags.json:
        flags.json.write_text(json.dumps(result, indent=1) + "\n")
    if flags.svg:
        base, step, _ = flags.seconds
        flags.svg.write_text(render_svg(_by_second(asked, sum(flags.seconds)), (base, base + step), _headline(result)))


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks lanes")
    parser.add_argument("--kind", choices=["workers", "none"], default="workers")
    parser.add_argument("--rate", type=float, default=15.0, help="requests a second before and after the step")
    parser.add_argument("--seconds", type=float, nargs=3, default=[8.0, 16.0, 26.0], metavar=("BASE", "STEP", "BACK"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--upstream", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _upstream_command() -> list[str]:
    return [sys.executable, "-m", "benchmarks", "lanes", "--upstream"]


async def _serve_upstream() -> None:
    async with ScriptedModelServer(ScriptedUpstream()).running() as server:
        print(f"listening on {server.url}", flush=True)
        await asyncio.Event().wait()


def _orchestrator(folder: Path, upstream: str, flags: argparse.Namespace) -> tuple[list[str], str]:
    """Write its configuration: a baseline for twice the base rate, thresholds below that, a quick way back."""
    _, key = ApiKeyring(folder / "api-keys.json").create("bench")
    in_flight = math.ceil(flags.rate * _ANSWER_SECONDS)
    config = folder / "pratique.toml"
    config.write_text(
        f"""
[orchestrator.lanes]
kind = "{flags.kind}"
max_in_flight = {3 * in_flight}
max_waiting = {4 * in_flight}
spill_depth = {2 * in_flight}
return_depth = {round(1.5 * in_flight)}
return_after_seconds = 5.0
return_ramp_seconds = 5.0
[orchestrator.lanes.workers]
max_workers = {_FACTOR * in_flight}
"""
    )
    command = [sys.executable, "-m", "pratique.cli.main", "serve", "orchestrator", "--log-level", "warning"]
    options = ["--port", "0", "--config", str(config), "--state-dir", str(folder), "--inference-url", upstream]
    return [*command, *options], key


@contextlib.contextmanager
def _process(name: str, command: Sequence[str]) -> Iterator[str]:
    """Run a server that says where it listens; yields its URL."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("listening on "):
            raise SystemExit(f"error: the {name} did not start: {line!r}")
        yield line.removeprefix("listening on ").strip()
    finally:
        process.terminate()
        process.wait(_START_SECONDS)
        if process.stdout:
            process.stdout.close()


async def _load(url: str, key: str, rate: float, seconds: Sequence[float]) -> tuple[list[Asked], str]:
    base, step, back = seconds
    asked: list[Asked] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as http, asyncio.TaskGroup() as tasks:
        await _ready(http, key)
        began = time.perf_counter()
        at = 0.0
        while at < base + step + back:
            await asyncio.sleep(began + at - time.perf_counter())
            tasks.create_task(_ask(http, key, at, asked))
            at += 1 / (rate * _FACTOR if base <= at < base + step else rate)
    async with aiohttp.ClientSession(url) as http, http.get("/metrics") as response:
        return sorted(asked, key=lambda one: one.at), await response.text()


async def _ready(http: aiohttp.ClientSession, key: str) -> None:
    warm: list[Asked] = []
    until = time.monotonic() + _START_SECONDS
    while not warm or warm[-1].outcome != "baseline":
        if time.monotonic() > until:
            raise SystemExit(f"error: no answer after {_START_SECONDS} s: {warm[-1].detail if warm else ''}")
        await _ask(http, key, 0.0, warm)


async def _ask(http: aiohttp.ClientSession, key: str, at: float, asked: list[Asked]) -> None:
    began = time.perf_counter()
    head, detail = 0.0, ""
    body = {"model": "scripted", "messages": [], "stream": True, "max_tokens": _TOKENS}
    try:
        async with http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}) as response:
            head = time.perf_counter() - began
            content = await response.read()
            outcome = response.headers.get("x-pratique-lane", "error")
            if response.status == 503 and b"overloaded" in content and "retry-after" in response.headers:
                outcome = "shed"
            elif response.status != 200 or not content.endswith(b"data: [DONE]\n\n"):
                outcome, detail = "error", f"{response.status} {content[-200:]!r}"
    except (aiohttp.ClientError, TimeoutError) as error:
        outcome, detail = "error", repr(error)
    whole = time.perf_counter() - began
    asked.append(Asked(at=at, outcome=outcome, head_seconds=head, whole_seconds=whole, detail=detail))


def _result(asked: Sequence[Asked], metrics: str, flags: argparse.Namespace) -> dict[str, Any]:
    base, step, back = flags.seconds
    bounds = {"base": (0.0, base), "step": (base, base + step), "back": (base + step, base + step + back)}
    phases = {name: [one for one in asked if begin <= one.at < end] for name, (begin, end) in bounds.items()}
    burst = [one.at for one in asked if one.outcome == "burst"]
    return {
        "schema_version": 1,
        "machine": machine(),
        "kind": flags.kind,
        "rate": flags.rate,
        "factor": _FACTOR,
        "seconds": flags.seconds,
        "seconds_to_spill": round(min(burst) - base, 2) if burst else None,
        "seconds_back": round(max(burst) - base - step, 2) if burst else None,
        "cold_starts": _sample(metrics, "pratique_lanes_worker_cold_start_seconds_count"),
        "cold_start_mean_seconds": _mean(metrics, "pratique_lanes_worker_cold_start_seconds"),
        "phases": {name: _phase(part) for name, part in phases.items()},
        "first_errors": [asdict(one) for one in asked if one.outcome == "error"][:3],
    }


def _phase(part: Sequence[Asked]) -> dict[str, Any]:
    counts = Counter(one.outcome for one in part)
    answered = [one for one in part if one.outcome in {"baseline", "burst"}]
    return {
        "requests": len(part),
        **{kind: counts[kind] for kind in ("baseline", "burst", "shed", "error")},
        "head_p50_ms": _percentile([one.head_seconds for one in answered], 50),
        "head_p99_ms": _percentile([one.head_seconds for one in answered], 99),
        "whole_p50_ms": _percentile([one.whole_seconds for one in answered], 50),
        "whole_p99_ms": _percentile([one.whole_seconds for one in answered], 99),
    }


def _percentile(seconds: Sequence[float], percent: int) -> float | None:
    if len(seconds) < 2:
        return None
    return round(statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1e3, 1)


def _sample(metrics: str, name: str) -> float:
    return next((float(line.split()[1]) for line in metrics.splitlines() if line.startswith(f"{name} ")), 0.0)


def _mean(metrics: str, name: str) -> float | None:
    count = _sample(metrics, f"{name}_count")
    return round(_sample(metrics, f"{name}_sum") / count, 3) if count else None


def _by_second(asked: Sequence[Asked], seconds: float) -> list[Second]:
    """Group by when requests were sent."""
    rows = []
    for number in range(math.ceil(seconds)):
        part = [one for one in asked if number <= one.at < number + 1]
        heads = sorted(one.head_seconds for one in part if one.outcome in {"baseline", "burst"})
        p99 = heads[math.ceil(0.99 * len(heads)) - 1] if heads else 0.0
        rows.append(Second(counts=dict(Counter(one.outcome for one in part)), p99_seconds=p99))
    return rows


def _headline(result: dict[str, Any]) -> str:
    errors = sum(phase["error"] for phase in result["phases"].values())
    text = f"{result['rate']:g} requests/s, times {result['factor']} for {result['seconds'][1]:g} s: {errors} errors"
    if result["seconds_to_spill"] is None:
        return text
    return f"{text}, spilling after {result['seconds_to_spill']:g} s, all back after {result['seconds_back']:g} s"


def _print(result: dict[str, Any]) -> None:
    print(f"{result['machine']}, burst lane: {result['kind']}")
    print(_headline(result))
    if result["cold_starts"]:
        print(f"{result['cold_starts']:.0f} workers started, {result['cold_start_mean_seconds']:.3f} s each")
    columns = (
        "requests",
        "baseline",
        "burst",
        "shed",
        "error",
        "head_p50_ms",
        "head_p99_ms",
        "whole_p50_ms",
        "whole_p99_ms",
    )
    print(f"{'phase':6}" + "".join(f"{name:>14}" for name in columns))
    for name, phase in result["phases"].items():
        print(f"{name:6}" + "".join(f"{phase[column] if phase[column] is not None else '-':>14}" for column in columns))
    for error in result["first_errors"]:
        print(f"error at {error['at']:.1f} s: {error['detail']}")


if __name__ == "__main__":
    main()
