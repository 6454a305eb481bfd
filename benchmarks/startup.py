"""Start-up of the model server: process start → ready → first right answer; ours against plain `vllm serve`, eager.

Both serve the same imported model from the same disk, one after the other in turn, on this machine as it is; its load
at the time is part of the result. Ours counts as ready when warm; plain vLLM as soon as its /health says 200, warm or
not. Plain vLLM gets one flag that the comparison does not need: by default it asks for 92 % of the memory and refuses
to start where others use some. A smaller share is less work for it, so this does it no wrong.
Run by `python -m benchmarks startup [--repetitions N] [--model-root DIR] [--json FILE]`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from benchmarks._server import free_port

from pratique.inference.artifacts.store import default_model_root, import_small_model

__all__ = ["main"]

_TARGET_RATIO = 0.5
_TIMEOUT_SECONDS = 300
_POLL_SECONDS = 0.1
_QUESTION = "What is the capital of France?"
_RIGHT = "Paris"


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start, in seconds from the start of the process."""

    subject: str
    listening: float
    ready: float
    answered: float
    first_answer_seconds: float
    second_answer_seconds: float
    load_average: float
    pss_bytes: dict[str, int]
    phases: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is started, and how it is asked."""

    name: str
    command: Callable[[int], list[str]]
    probe: str
    path: str
    body: dict[str, object]
    text: Callable[[Any], str]


def subjects(folder: Path) -> list[Subject]:
    """Return ours and plain vLLM over the same model."""
    name = folder.name
    return [
        Subject(
            name="pratique",
            command=lambda port: [
                *(sys.executable, "-m", "pratique.cli.main", "serve", "inference"),
                *("--port", str(port), "--model", str(folder)),
            ],
            probe="/ping",
            path="/invocations",
            body={"query": _QUESTION, "max_tokens": 16},
            text=lambda answer: str(answer["text"]),
        ),
        Subject(
            name="vllm serve --enforce-eager",
            command=lambda port: [
                *(sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry"),
                *("--host", "127.0.0.1", "--port", str(port), "--model", str(folder), "--served-model-name", name),
                *("--enforce-eager", "--dtype", "bfloat16", "--max-model-len", "2048", "--max-num-seqs", "16"),
                *("--gpu-memory-utilization", "0.3"),
            ],
            probe="/health",
            path="/v1/chat/completions",
            body={
                "model": name,
                "messages": [{"role": "user", "content": _QUESTION}],
                "max_tokens": 16,
                "temperature": 0,
            },
            text=lambda answer: str(answer["choices"][0]["message"]["content"]),
        ),
    ]


def measure(subject: Subject, log: Path) -> Start:
    """Start it once, ask it twice, end it."""
    port = free_port()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"}
    load_average = os.getloadavg()[0]
    began = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            subject.command(port), stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        return _observe(subject, process, f"http://127.0.0.1:{port}", began, load_average)
    except BaseException as error:
        error.add_note(log.read_text()[-3000:])
        raise
    finally:
        _end(process)


def _observe(subject: Subject, process: subprocess.Popen[bytes], url: str, began: float, load_average: float) -> Start:
    listening: float | None = None
    while True:
        status = _probe(url + subject.probe)
        now = time.monotonic() - began
        if status is not None and listening is None:
            listening = now
        if status == 200:
            break
        if process.poll() is not None or now > _TIMEOUT_SECONDS:
            raise RuntimeError(f"{subject.name} did not become ready: exit code {process.poll()} after {now:.0f} s.")
        time.sleep(_POLL_SECONDS)
    seconds = [_ask(url, subject) for _ in range(2)]
    return Start(
        subject=subject.name,
        listening=round(now if listening is None else listening, 3),
        ready=round(now, 3),
        answered=round(now + seconds[0], 3),
        first_answer_seconds=round(seconds[0], 3),
        second_answer_seconds=round(seconds[1], 3),
        load_average=round(load_average, 2),
        pss_bytes=_memory(process.pid),
        phases=_phases(url),
    )


def _probe(url: str) -> int | None:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - a loopback address of ours
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def _ask(url: str, subject: Subject) -> float:
    began = time.monotonic()
    request = urllib.request.Request(  # noqa: S310 - a loopback address of ours
        url + subject.path, data=json.dumps(subject.body).encode(), headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        text = subject.text(json.loads(response.read()))
    if _RIGHT not in text:
        raise RuntimeError(f"{subject.name} answered {text!r}, expected {_RIGHT}.")
    return time.monotonic() - began


def _phases(url: str) -> dict[str, float]:
    try:
        with urllib.request.urlopen(url + "/status", timeout=10) as response:  # noqa: S310
            return {str(name): float(value) for name, value in json.loads(response.read())["timings"].items()}
    except OSError:
        return {}


def _memory(pid: int) -> dict[str, int]:
    """Proportional memory (shared pages divided among who shares them) by process, in bytes."""
    found: dict[str, int] = {}
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        words = " ".join(process.cmdline())
        kind = next((kind for kind in ("resource_tracker", "forkserver", "EngineCore") if kind in words), "server")
        found[kind] = found.get(kind, 0) + int(process.memory_full_info().pss)
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(children, timeout=5)
    for child in alive:
        child.kill()


def _report(starts: list[Start]) -> dict[str, object]:
    medians = {
        name: {
            key: round(statistics.median(getattr(start, key) for start in starts if start.subject == name), 2)
            for key in ("listening", "ready", "answered", "first_answer_seconds", "second_answer_seconds")
        }
        for name in dict.fromkeys(start.subject for start in starts)
    }
    ours, plain = medians.values()
    return {
        "schema_version": 1,
        "benchmark": "startup",
        "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "medians": medians,
        "ratio_ready": round(ours["ready"] / plain["ready"], 3),
        "target_ratio": _TARGET_RATIO,
        "starts": [asdict(start) for start in starts],
    }


def _show(report: dict[str, Any]) -> None:
    print(f"\n{'median seconds from process start':34} listening   ready  answered   1st answer  2nd answer")
    for name, row in report["medians"].items():
        print(
            f"{name:34} {row['listening']:9.2f} {row['ready']:7.2f} {row['answered']:9.2f}"
            f" {row['first_answer_seconds']:12.2f} {row['second_answer_seconds']:11.2f}"
        )
    verdict = "met" if report["ratio_ready"] <= _TARGET_RATIO else "NOT met"
    print(f"ready, ours / plain: {report['ratio_ready']:.2f} (target ≤ {_TARGET_RATIO}: {verdict})")


def main(arguments: list[str] | None = None) -> int:
    """Run it; return 0 where the target is met, 1 where it is not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks startup", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--model-root", type=Path, default=default_model_root(os.environ))
    parser.add_argument("--json", type=Path, help="write the result here too")
    given = parser.parse_args(arguments)
    folder = import_small_model(given.model_root, lambda _phase, _share: None)
    starts: list[Start] = []
    with tempfile.TemporaryDirectory(prefix="pratique-bench-") as work:
        for number in range(given.repetitions):
            # In turn and the other way round every second time: a load that comes and goes hits both.
            for subject in subjects(folder)[:: -1 if number % 2 else 1]:
                start = measure(subject, Path(work) / "log")
                starts.append(start)
                print(f"{start.subject:34} ready {start.ready:6.2f} s, load {start.load_average}", file=sys.stderr)
    report = _report(sorted(starts, key=lambda start: start.subject != "pratique"))
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n")
    _show(report)
    return 0 if float(str(report["ratio_ready"])) <= _TARGET_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
