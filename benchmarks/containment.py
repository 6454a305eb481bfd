"""Deaths of the engine, one after the other, in one server: is it the same process, does it leak, how soon is it back?

The engine's process is killed (SIGKILL) while it answers several streams. Measured from outside: the time until every
stream has ended, by an answer or an error; the time from the kill to /ping saying ready again; one right answer after
each. The server's file descriptors, threads and memory are compared after the first ten deaths and at the end, and its
temporary files counted. The time back is compared with cold starts of the same configuration in the same run.

Run by `python -m benchmarks containment [--deaths N] [--cold-starts N] [--model-root DIR] [--json FILE]`. It ends with
1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from benchmarks._server import Server, machine

from pratique.inference.artifacts.store import default_model_root, import_small_model

__all__ = ["main"]

_TARGET_RATIO = 0.7
_TARGET_STREAMS_SECONDS = 1.0
_TARGET_GROWTH = 0.05
_STREAMS = 4
_SETTLING_DEATHS = 10
"""Allocators and pools reach their size in the first ones."""
_BACK_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Death:
    """One death, in seconds from the kill."""

    streams_ended: float
    endings: dict[str, int]
    ready: float
    fds: int
    threads: int
    memory_bytes: int
    temporary_files: int


def die_once(server: Server) -> Death:
    """Kill the engine amid its work, and wait until the server is back."""
    begun = threading.Barrier(_STREAMS + 1)
    ended: list[tuple[float, str]] = []
    threads = [threading.Thread(target=_follow, args=(server, number, begun, ended)) for number in range(_STREAMS)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    engine = server.engine()
    killed = time.perf_counter()
    engine.kill()
    while server.status_of("/ping") == 200:
        time.sleep(0.005)
    for thread in threads:
        thread.join(60)
    while server.status_of("/ping") != 200:
        if server.process.poll() is not None or time.perf_counter() - killed > _BACK_SECONDS:
            raise RuntimeError(f"The server did not come back (exit code {server.process.poll()}).")
        time.sleep(0.01)
    ready = time.perf_counter() - killed
    status, answer = server.ask({"query": "What is the capital of France?", "max_tokens": 12})
    if status != 200 or "Paris" not in answer["text"]:
        raise RuntimeError(f"After the restart the server answered {status}: {answer}.")
    process = psutil.Process(server.process.pid)
    endings = [kind for _, kind in ended]
    return Death(
        streams_ended=round(max(at for at, _ in ended) - killed, 3),
        endings={kind: endings.count(kind) for kind in sorted(set(endings))},
        ready=round(ready, 3),
        fds=process.num_fds(),
        threads=process.num_threads(),
        memory_bytes=int(process.memory_full_info().uss),
        temporary_files=_temporary_files(),
    )


def _follow(server: Server, number: int, begun: threading.Barrier, ended: list[tuple[float, str]]) -> None:
    body: dict[str, object] = {"query": f"Write a long story about ship number {number}.", "max_tokens": 400}
    has_begun = False
    last = "nothing"
    for event, data in server.stream(body):
        last = f"{event} {data.get('code', '')}".strip()
        if event == "token" and not has_begun:
            has_begun = True
            begun.wait(60)
    ended.append((time.perf_counter(), last))


def _temporary_files() -> int:
    folder = Path(tempfile.gettempdir())
    return sum(1 for pattern in ("pratique-engine-*/*", "vllm*", "torch*") for _ in folder.glob(pattern))


def cold_start(folder: Path) -> float:
    """Seconds from process start to ready."""
    with Server("--model", str(folder)) as server:
        return server.wait_ready(poll_seconds=0.01)


def assess(deaths: list[Death], cold: list[float]) -> dict[str, object]:
    """Return the figures and which targets they meet."""
    settled, last = deaths[min(_SETTLING_DEATHS, len(deaths)) - 1], deaths[-1]
    growth = {
        name: round(getattr(last, name) / getattr(settled, name) - 1, 4) for name in ("fds", "threads", "memory_bytes")
    }
    back, start = statistics.median(death.ready for death in deaths), statistics.median(cold)
    streams = max(death.streams_ended for death in deaths)
    return {
        "deaths": len(deaths),
        "cold_start_seconds": round(start, 2),
        "back_seconds": round(back, 2),
        "ratio": round(back / start, 3),
        "streams_ended_seconds": streams,
        "growth": growth,
        "temporary_files": {"settled": settled.temporary_files, "last": last.temporary_files},
        "met": {
            "ratio": back / start <= _TARGET_RATIO,
            "streams": streams <= _TARGET_STREAMS_SECONDS,
            **{name: value <= _TARGET_GROWTH for name, value in growth.items()},
            "temporary_files": last.temporary_files <= settled.temporary_files,
        },
    }


def main(arguments: list[str] | None = None) -> int:
    """Run it; return 0 where every target is met, 1 where one is not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks containment", description=__doc__)
    parser.add_argument("--deaths", type=int, default=50)
    parser.add_argument("--cold-starts", type=int, default=5)
    parser.add_argument("--model-root", type=Path, default=default_model_root(os.environ))
    parser.add_argument("--json", type=Path, help="write the result here too")
    given = parser.parse_args(arguments)
    folder = import_small_model(given.model_root, lambda _phase, _share: None)
    # Half of the cold starts before and half after: a load that comes or goes hits both sides of the ratio.
    cold = [cold_start(folder) for _ in range((given.cold_starts + 1) // 2)]
    deaths: list[Death] = []
    with Server("--model", str(folder)) as server:
        server.wait_ready()
        pid = server.get("/status")["pid"]
        for number in range(1, given.deaths + 1):
            deaths.append(die_once(server))
            print(f"death {number}: {deaths[-1]}", file=sys.stderr)
        if server.get("/status")["pid"] != pid:
            raise RuntimeError("It is another process.")
    cold += [cold_start(folder) for _ in range(given.cold_starts // 2)]
    result = assess(deaths, cold)
    print(json.dumps(result, indent=2))
    if given.json:
        rows = [asdict(death) for death in deaths]
        report = {"schema_version": 1, "benchmark": "containment", "machine": machine(), **result, "rows": rows}
        given.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(result["met"].values()) else 1  # type: ignore[attr-defined]  # a table of truths


if __name__ == "__main__":
    sys.exit(main())
