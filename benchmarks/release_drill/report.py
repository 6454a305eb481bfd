"""What the drill showed, as a table and as JSON. Pure."""

from __future__ import annotations

from typing import Final

from benchmarks.release_drill.desk import Part, Step
from benchmarks.release_drill.texts import Pace

__all__ = ["as_json", "render_table"]

_SHORT: Final = "SHORTENED: the canary took {seconds:g} s. The emergency path's is 300 s; this was no honest canary."


def as_json(steps: list[Step], pace: Pace, *, failed: str = "") -> dict[str, object]:
    """Return the report; `failed` is why the drill ended early."""
    return {
        "schema_version": 1,
        "holds": not failed,
        "failed": failed,
        "canary_seconds": pace.canary_seconds,
        "is_shortened": pace.is_shortened,
        "requests_per_second": pace.requests_per_second,
        "share": pace.share,
        "min_samples": pace.min_samples,
        "seconds": round(_night_seconds(steps), 1),
        "steps": [
            {
                "name": one.name,
                "part": one.part.value,
                "seconds": round(one.seconds, 1),
                "shows": one.shows,
                "commands": one.commands,
            }
            for one in steps
        ],
    }


def render_table(steps: list[Step], pace: Pace) -> str:
    """Return the steps with their seconds, in Markdown."""
    total = f"| **from the advisory until it is gone** | **{_night_seconds(steps):.1f}** | |"
    lines = ["| step | seconds | shows |", "|---|---:|---|"]
    lines += [_row(one) for one in steps if one.part is not Part.AFTER]
    lines += [total, *(_row(one) for one in steps if one.part is Part.AFTER)]
    if pace.is_shortened:
        lines += ["", _SHORT.format(seconds=pace.canary_seconds)]
    return "\n".join(lines)


def _row(step: Step) -> str:
    mark = "" if step.part is Part.NIGHT else f" ({step.part.value})"
    return f"| {step.name}{mark} | {step.seconds:.1f} | {'; '.join(step.shows)} |"


def _night_seconds(steps: list[Step]) -> float:
    return sum(one.seconds for one in steps if one.part is Part.NIGHT)
