"""Is the first request after "ready" as fast as the tenth? On the real engine, for short, medium and long prompts.

Each of several fresh servers (new processes) is asked as soon as it says that it is ready: the first request of each
shape, and nine more of it. Every prompt is another text of the same number of tokens, so that the prefix cache spares
nobody anything. The first shape that a server is asked for changes from one server to the next. Compared is the time to
the first token: the median of the first requests of all servers against the median of all those from the fourth on,
in the same run on the same machine. A machine that is busy with something else slows both.

Run by `python -m benchmarks first_request [--servers N] [--most-servers N] [--model-root DIR] [--json FILE]`. It ends
with 1 where a shape's ratio is over 1.1; before that it measures more servers, up to `--most-servers`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks._server import Server, machine

from pratique.inference.artifacts.store import default_model_root, import_small_model
from pratique.inference.engines.tokenizer import load_tokenizer

__all__ = ["main"]

_TARGET_RATIO = 1.1
_SHAPES = {"short": 10, "medium": 200, "long": 512}
_REQUESTS = 10
_STEADY_FROM = 4
"""The fourth request and later ones are the steady state."""
_WORDS = ("tide", "harbour", "anchor", "lantern", "compass", "rope", "gull", "cargo", "signal", "deck")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One request."""

    server: int
    shape: str
    number: int
    """1 for the first of its shape."""
    first_token_seconds: float


class Prompts:
    """Texts of an exact number of tokens, no two with the same beginning."""

    def __init__(self, folder: Path) -> None:
        self._count = load_tokenizer(folder).count
        self._made = 0

    def text(self, num_tokens: int) -> str:
        self._made += 1
        words = [f"{self._made}", _WORDS[self._made % len(_WORDS)]]
        while self._count(" ".join(words)) < num_tokens:
            words.append(_WORDS[(self._made * 7 + len(words) * 3) % len(_WORDS)])
        text = " ".join(words)
        while self._count(text) > num_tokens:
            text = text[:-1]
        while self._count(text) < num_tokens:
            text += "."
        return text


def measure(server: Server, number: int, prompts: Prompts) -> list[Sample]:
    """Ask one server that has just become ready."""
    names = list(_SHAPES)
    turned = names[number % len(names) :] + names[: number % len(names)]
    samples = []
    for shape in turned:
        for request in range(1, _REQUESTS + 1):
            body: dict[str, object] = {"query": prompts.text(_SHAPES[shape]), "max_tokens": 2}
            began = time.perf_counter()
            for event, data in server.stream(body):
                if event == "token":
                    seconds = time.perf_counter() - began
                    samples.append(Sample(server=number, shape=shape, number=request, first_token_seconds=seconds))
                    break
                if event not in {"start", "end"}:
                    raise RuntimeError(f"The server answered {event}: {data}.")
    return samples


def assess(samples: list[Sample]) -> dict[str, dict[str, float]]:
    """Return medians and ratio by shape."""
    result = {}
    for shape in _SHAPES:
        mine = [sample for sample in samples if sample.shape == shape]
        first = statistics.median(sample.first_token_seconds for sample in mine if sample.number == 1)
        steady = statistics.median(sample.first_token_seconds for sample in mine if sample.number >= _STEADY_FROM)
        result[shape] = {
            "first_milliseconds": round(first * 1000, 1),
            "steady_milliseconds": round(steady * 1000, 1),
            "ratio": round(first / steady, 3),
        }
    return result


def _is_met(result: dict[str, dict[str, float]]) -> bool:
    return all(row["ratio"] <= _TARGET_RATIO for row in result.values())


def _show(result: dict[str, dict[str, float]], num_servers: int) -> None:
    print(f"\n{'':10}{'first':>10}{'steady':>10}{'ratio':>8}   (median time to first token, ms; {num_servers} servers)")
    for shape, row in result.items():
        verdict = "met" if row["ratio"] <= _TARGET_RATIO else "NOT met"
        print(
            f"{shape:10}{row['first_milliseconds']:10.1f}{row['steady_milliseconds']:10.1f}{row['ratio']:8.2f}"
            f"   target ≤ {_TARGET_RATIO}: {verdict}"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run it; return 0 where the target is met, 1 where it is not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks first_request", description=__doc__)
    parser.add_argument("--servers", type=int, default=5)
    parser.add_argument("--most-servers", type=int, default=9)
    parser.add_argument("--model-root", type=Path, default=default_model_root(os.environ))
    parser.add_argument("--json", type=Path, help="write the result here too")
    given = parser.parse_args(arguments)
    folder = import_small_model(given.model_root, lambda _phase, _share: None)
    prompts = Prompts(folder)
    samples: list[Sample] = []
    number = 0
    while number < given.servers or (number < given.most_servers and not _is_met(assess(samples))):
        with Server("--model", str(folder)) as server:
            ready = server.wait_ready()
            samples += measure(server, number, prompts)
        number += 1
        print(f"server {number}: ready after {ready:.1f} s, load {os.getloadavg()[0]:.2f}", file=sys.stderr)
    result = assess(samples)
    _show(result, number)
    if given.json:
        report = {
            "schema_version": 1,
            "benchmark": "first_request",
            "machine": machine(),
            "target_ratio": _TARGET_RATIO,
            "servers": number,
            "shapes": result,
            "samples": [asdict(sample) for sample in samples],
        }
        given.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if _is_met(result) else 1


if __name__ == "__main__":
    sys.exit(main())
