"""The picture of a lane test: requests a second by lane, stacked, and the slowest first byte of each second. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

__all__ = ["Second", "render_svg"]

_WIDTH: Final = 880
_HEIGHT: Final = 430
_LEFT, _RIGHT = 72.0, 844.0
_TOP, _BOTTOM = 92.0, 262.0
_LOW_TOP, _LOW_BOTTOM = 300.0, 380.0
_COLOURS: Final = {"baseline": "#3b7dd8", "burst": "#d9822b", "shed": "#c94f5d", "error": "#7a1f2b"}
_STYLE: Final = """
  svg { font: 13px system-ui, sans-serif; }
  .page { fill: #ffffff; stroke: #d8dee6; } .ink { fill: #1f2630; } .soft { fill: #5d6876; }
  .axis { stroke: #9aa4b1; } .step { fill: #9aa4b1; fill-opacity: .16; }
  .line { fill: none; stroke: #2a9d74; stroke-width: 2; }
  .title { font-size: 16px; font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #14181f; stroke: #323a46; } .ink { fill: #e8ecf2; }
    .soft { fill: #9aa6b5; } .axis { stroke: #566173; }
  }
"""


@dataclass(frozen=True, kw_only=True)
class Second:
    """What was asked within one second: how many by lane ("shed" and "error" too), and p99 until the first byte."""

    counts: dict[str, int]
    p99_seconds: float


def render_svg(seconds: Sequence[Second], step: tuple[float, float], headline: str) -> str:
    """Return the picture as one SVG file; `step` is when the load rises and falls, in seconds."""
    width = (_RIGHT - _LEFT) / len(seconds)
    most = max(1, *(sum(second.counts.values()) for second in seconds))
    slowest = max(0.001, *(second.p99_seconds for second in seconds))
    x = [_LEFT + number * width for number in range(len(seconds) + 1)]
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(headline)}"'
    begin, end = (_LEFT + at * width for at in step)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" x=".5" y=".5" width="{_WIDTH - 1}" height="{_HEIGHT - 1}" rx="10"/>',
        _text(_LEFT, 34, "ink title", headline),
        *_legend(),
        f'<rect class="step" x="{begin:.1f}" y="{_TOP}" width="{end - begin:.1f}" height="{_LOW_BOTTOM - _TOP:.0f}"/>',
    ]
    for number, second in enumerate(seconds):
        bottom = _BOTTOM
        for lane, colour in _COLOURS.items():
            height = (_BOTTOM - _TOP) * second.counts.get(lane, 0) / most
            bottom -= height
            if height:
                parts.append(
                    f'<rect x="{x[number]:.1f}" y="{bottom:.1f}" width="{max(width - 0.6, 0.8):.1f}" '
                    f'height="{height:.1f}" fill="{colour}"/>'
                )
    points = " ".join(
        f"{x[number] + width / 2:.1f},{_LOW_BOTTOM - (_LOW_BOTTOM - _LOW_TOP) * second.p99_seconds / slowest:.1f}"
        for number, second in enumerate(seconds)
    )
    parts += [
        f'<line class="axis" x1="{_LEFT}" y1="{_BOTTOM}" x2="{_RIGHT}" y2="{_BOTTOM}"/>',
        _text(_LEFT - 6, _TOP + 10, "soft", f"{most}/s", anchor="end"),
        f'<polyline class="line" points="{points}"/>',
        f'<line class="axis" x1="{_LEFT}" y1="{_LOW_BOTTOM}" x2="{_RIGHT}" y2="{_LOW_BOTTOM}"/>',
        _text(_LEFT - 6, _LOW_TOP + 10, "soft", f"{slowest * 1e3:.0f} ms", anchor="end"),
        _text(_LEFT, _LOW_TOP - 10, "soft", "p99 until the first byte"),
    ]
    for at in range(0, len(seconds) + 1, max(1, len(seconds) // 8)):
        parts.append(_text(x[at], _LOW_BOTTOM + 18, "soft", f"{at} s", anchor="middle"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend() -> list[str]:
    parts = []
    for number, (lane, colour) in enumerate(_COLOURS.items()):
        left = _LEFT + 110 * number
        parts += [
            f'<rect x="{left}" y="52" width="12" height="12" rx="2" fill="{colour}"/>',
            _text(left + 18, 63, "soft", lane),
        ]
    return parts


def _text(x: float, y: float, kind: str, text: str, *, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
