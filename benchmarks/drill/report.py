"""The report of a drill: as values for JSON, as Markdown, as a plain table, as a timeline. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.drill.faults import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.drill.outages import Episode, Outage, Summary
    from benchmarks.drill.verdict import Verdict

__all__ = ["Results", "render_markdown", "render_table", "render_timeline"]

_SHOWN: Final = 20
_COLOURS: Final = {
    Kind.KILL: "#c0392b",
    Kind.RESTART: "#2980b9",
    Kind.PAUSE: "#8e44ad",
    Kind.CUT: "#d35400",
    Kind.SILENCE: "#7f8c8d",
    Kind.HALF_OPEN: "#16a085",
    Kind.DELAY: "#f39c12",
    Kind.LOCK: "#2c3e50",
}
_WIDTH: Final = 1000
_LEFT: Final = 190
_ROW: Final = 18


@dataclass(frozen=True, kw_only=True)
class Results:
    """What came out."""

    seed: int
    seconds: float
    machine: Mapping[str, object]
    turns: Mapping[str, int]
    errors: Mapping[str, Mapping[str, int]]
    """Shown to people, by transport and code."""
    verdict: Verdict
    episodes: Sequence[Episode]
    outages: Sequence[Outage]
    summaries: Sequence[Summary]
    notes: Sequence[str] = ()
    """What the drill itself could not do, and what the parts logged as errors of their own."""

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs, schema version 1. Seconds since the load began."""
        return {
            "version": 1,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "machine": dict(self.machine),
            "holds": self.verdict.is_clean,
            "violations": asdict(self.verdict),
            "turns": dict(self.turns),
            "errors": {transport: dict(codes) for transport, codes in self.errors.items()},
            "by_fault": [asdict(summary) for summary in self.summaries],
            "faults": [
                {
                    "kind": done.fault.kind.value,
                    "part": done.fault.part.name,
                    "began": round(done.began, 3),
                    "ended": round(done.ended, 3),
                    "note": done.note,
                    "episode_unavailable_seconds": round(episode.unavailable_seconds, 3),
                    "episode_recovery_seconds": round(episode.recovery_seconds, 3),
                }
                for episode in self.episodes
                for done in episode.faults
            ],
            "notes": list(self.notes),
        }


def render_table(results: Results) -> str:
    """Return the report for a terminal."""
    lines = [f"seed {results.seed}, {results.seconds:.0f} s, {_number_of_faults(results)} faults", ""]
    lines += [f"  {name:34} {value:>7}" for name, value in _figures(results)]
    lines += ["", "errors that people were shown"]
    lines += [f"  {transport:10} {code:40} {count:>6}" for transport, code, count in _errors(results)] or ["  none"]
    head = ("fault", "times", "gone s", "median", "max", "back median", "back max", "silence max")
    lines += ["", f"  {head[0]:28}" + "".join(f"{word:>12}" for word in head[1:])]
    for one in results.summaries:
        cells = [f"{one.count:>12}", *(f"{value:>12.2f}" for value in _seconds(one))]
        lines.append(f"  {one.label:28}" + "".join(cells))
    lines += ["", *_violations(results), *(f"note: {note}" for note in results.notes)]
    return "\n".join(lines)


def render_markdown(results: Results) -> str:
    """Return the report for people who read it later."""
    text = [f"# Failure drill, seed {results.seed}", ""]
    text += [f"{results.seconds:.0f} s under load, {_number_of_faults(results)} faults.", ""]
    text += ["**" + ("Every invariant held." if results.verdict.is_clean else "An invariant was broken.") + "**", ""]
    text += ["| what | number |", "|---|---:|"]
    text += [f"| {name} | {value} |" for name, value in _figures(results)]
    text += ["", "## Errors that people were shown", "", "| transport | code | times |", "|---|---|---:|"]
    text += [f"| {transport} | `{code}` | {count} |" for transport, code, count in _errors(results)]
    text += ["", "## By fault", "", "Seconds. *Gone*: a probe without retries had no answer. *Back*: from the fault's"]
    text += [
        "beginning until probes succeeded for good. *Silence*: the longest wait for a running reply's next word.",
        "",
    ]
    text += ["| fault | times | gone, sum | gone, median | gone, max | back, median | back, max | silence, max |"]
    text += ["|---|---:|---:|---:|---:|---:|---:|---:|"]
    for one in results.summaries:
        cells = " | ".join(f"{value:.2f}" for value in _seconds(one))
        text.append(f"| {one.label} | {one.count} | {cells} |")
    text += ["", "## Violations", "", *(f"- {line}" for line in _violations(results))]
    text += ["", *(f"- note: {note}" for note in results.notes)]
    text += ["", "![What was broken, and when the service did not answer](timeline.svg)", ""]
    return "\n".join(text)


def render_timeline(results: Results) -> str:
    """Return an SVG: a row for every part that was broken, and one for each question that had no answer."""
    done = [fault for episode in results.episodes for fault in episode.faults]
    parts = sorted({fault.fault.part.name for fault in done})
    questions = sorted({outage.question for outage in results.outages}) or ["write"]
    rows = [*parts, *(f"no answer: {question}" for question in questions)]
    height = _ROW * (len(rows) + 3)
    scale = (_WIDTH - _LEFT - 10) / max(results.seconds, 1.0)
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
        f'<g font-size="11"><rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]
    for index, row in enumerate(rows):
        y = _ROW * (index + 1)
        svg.append(f'<text x="4" y="{y + 12}">{row.replace(">", "&gt;")}</text>')
        svg.append(f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y + _ROW}" y2="{y + _ROW}" stroke="#ddd"/>')
    bars = [(parts.index(one.fault.part.name), one.began, one.ended, _COLOURS[one.fault.kind]) for one in done]
    bars += [
        (len(parts) + questions.index(outage.question), outage.began, outage.ended, "#e74c3c")
        for outage in results.outages
    ]
    for line, began, ended, colour in bars:
        width = max(2.0, (ended - began) * scale)
        svg.append(
            f'<rect x="{_LEFT + began * scale:.1f}" y="{_ROW * (line + 1) + 3}" width="{width:.1f}" '
            f'height="{_ROW - 5}" fill="{colour}"/>'
        )
    for index, (kind, colour) in enumerate(_COLOURS.items()):
        x = _LEFT + index * 95
        svg.append(f'<rect x="{x}" y="{height - 16}" width="10" height="10" fill="{colour}"/>')
        svg.append(f'<text x="{x + 14}" y="{height - 7}">{kind.value}</text>')
    return "\n".join([*svg, "</g></svg>", ""])


def _figures(results: Results) -> list[tuple[str, int]]:
    broken = results.verdict
    return [
        *results.turns.items(),
        ("acknowledged turns lost", len(broken.lost)),
        ("turns or answers stored twice", len(broken.duplicated)),
        ("replies that differ from the store", len(broken.different)),
        ("violations of order", len(broken.disordered)),
        ("replies that never end", len(broken.unfinished)),
        ("other breaches", len(broken.other)),
    ]


def _errors(results: Results) -> list[tuple[str, str, int]]:
    return [(transport, code, count) for transport, codes in results.errors.items() for code, count in codes.items()]


def _seconds(one: Summary) -> tuple[float, ...]:
    return (
        one.unavailable_seconds,
        one.unavailable_median_seconds,
        one.unavailable_max_seconds,
        one.recovery_median_seconds,
        one.recovery_max_seconds,
        one.silence_max_seconds,
    )


def _violations(results: Results) -> list[str]:
    lines = [f"{name}: {line}" for name, found in asdict(results.verdict).items() for line in found]
    more = [f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return lines[:_SHOWN] + more if lines else ["no violation"]


def _number_of_faults(results: Results) -> int:
    return sum(len(episode.faults) for episode in results.episodes)
