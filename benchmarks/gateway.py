"""The service as a gateway: what a request, a chunk, an idle WebSocket cost; against others before one upstream.

In one run: the upstream alone, Envoy, ours, vllm-router, LiteLLM, each a process of its own, one after the other; then
our chat with the durable log (Valkey, SQLite). CPU is the gateway's own, children included. Times to the first token
are what a client sees, less what it sees without a gateway. The targets are part of the table.
Run by `make bench-gateway ARGS="[--quick] [--chunks] [--only NAME…] [--json FILE]"`; it takes about 6 minutes, --quick
about 2. --chunks measures the CPU time per chunk alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import uvloop
from benchmarks._gateway.figures import ChatFigures, GatewayFigures, table, targets
from benchmarks._gateway.gateways import GATEWAYS, pratique, valkey
from benchmarks._gateway.load import Address
from benchmarks._gateway.measure import Plan, measure_chat, measure_gateway, measure_idle_sockets
from benchmarks._gateway.processes import Measured, running
from benchmarks._server import machine

__all__ = ["main"]

_T = TypeVar("_T")

_WHOLE = Plan(
    seconds=4.0, repetitions=3, chunks=150, pace=20, moderate_rounds=20, crowd=512, crowd_chunks=200, crowd_pace=50,
    idle_sockets=2000,
)  # fmt: skip
_QUICK = Plan(
    seconds=1.5, repetitions=1, chunks=75, pace=20, moderate_rounds=6, crowd=512, crowd_chunks=60, crowd_pace=50,
    idle_sockets=1000,
)  # fmt: skip


def main() -> None:
    """Measure, print, exit with 1 where a target was missed."""
    options = _options()
    _raise_file_limit()
    plan = _QUICK if options.quick else _WHOLE
    if options.chunks:
        plan = replace(plan, seconds=0.4, moderate_rounds=0, crowd=1, crowd_chunks=1, idle_sockets=0)
    gateways: dict[str, GatewayFigures] = {}
    chat: ChatFigures | None = None
    with tempfile.TemporaryDirectory(prefix="pratique-bench-") as name, _upstream(Path(name)) as (model, port):
        for label in ("direct", *GATEWAYS):
            if label in options.only:
                print(f"measuring {label} …", file=sys.stderr, flush=True)
                gateways[label] = _gateway(label, model, port, Path(name), plan)
        if "chat" in options.only:
            print("measuring the chat …", file=sys.stderr, flush=True)
            chat = _chat(port, Path(name), plan)
    print(table(gateways, chat))
    if options.json:
        options.json.write_text(json.dumps(_record(gateways, chat), indent=2) + "\n", encoding="utf-8")
    if not all(target.is_met for target in targets(gateways, chat)):
        raise SystemExit(1)


def _options() -> argparse.Namespace:
    names = ["direct", *GATEWAYS, "chat"]
    parser = argparse.ArgumentParser(prog="python -m benchmarks gateway", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="less of everything: to see that it works")
    parser.add_argument("--chunks", action="store_true", help="the CPU time per chunk alone")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="measure these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    return parser.parse_args()


def _record(gateways: dict[str, GatewayFigures], chat: ChatFigures | None) -> dict[str, object]:
    return {
        "schema_version": 1,
        "machine": machine(),
        "gateways": {name: asdict(figures) for name, figures in gateways.items()},
        "chat": asdict(chat) if chat else None,
        "targets": [{**asdict(target), "is_met": target.is_met} for target in targets(gateways, chat)],
    }


@contextlib.contextmanager
def _upstream(folder: Path) -> Iterator[tuple[Measured, int]]:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "benchmarks._gateway.upstream"]
    with running(command, folder=folder, PYTHONPATH=str(root)) as measured:
        while not (said := measured.log.read_text(encoding="utf-8").strip()):
            measured.check()
            time.sleep(0.01)
        yield measured, int(said)


def _gateway(label: str, model: Measured, port: int, folder: Path, plan: Plan) -> GatewayFigures:
    if label == "direct":
        return _run(measure_gateway(model, Address(port=port), plan))
    with tempfile.TemporaryDirectory(dir=folder) as own, GATEWAYS[label](port, Path(own)) as (measured, address):
        return _run(measure_gateway(measured, address, plan))


def _chat(port: int, folder: Path, plan: Plan) -> ChatFigures:
    with tempfile.TemporaryDirectory(dir=folder) as own, valkey(Path(own)) as (log, url):
        with pratique(port, Path(own), valkey_url=url) as (measured, address):
            figures = _run(measure_chat(measured, log, address, plan))
        if not plan.idle_sockets:
            return figures
        with pratique(port, Path(own), valkey_url=url) as (measured, address):
            idle = _run(measure_idle_sockets(measured, address, plan))
    return replace(figures, kb_per_idle_socket=idle)


def _run(work: Coroutine[None, None, _T]) -> _T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _raise_file_limit() -> None:
    """As many files as the system lets us: 2,000 sockets need them here and, inherited, in what is started."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
