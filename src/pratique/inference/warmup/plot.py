"""Pictures of a derivation: an SVG that stands by itself, and lines for a terminal. Pure.

Both are histograms on a logarithmic scale. In the SVG a bar's area is its share of the requests, bars take the colour
of their cluster, and a dashed line is the shape that stands for it. The SVG follows the reader's light or dark scheme.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Final

from pratique.inference.warmup.derive import Cluster, Derivation, Traffic

__all__ = ["render_svg", "render_text"]

_WIDTH: Final = 880
_HEIGHT: Final = 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 36.0, 844.0, 150.0, 362.0
_BAND: Final = 122.0
"""Where the bands over the clusters are; their headings stand above, the shapes' lengths below."""
_NUM_BARS: Final = 72
_NUM_ROWS: Final = 20
_TEXT_WIDTH: Final = 48
_NARROW: Final = 96.0
"""A cluster's range takes so much room; where there is less, only its share is written."""
_MANY_DECADES: Final = 1e4
_COLOURS: Final = ("#3b7dd8", "#2a9d74", "#d9822b", "#a65bc9", "#c94f5d", "#6b8e23", "#2b9eb3", "#b8860b")
_SECOND_LINE: Final = "Dashed: the length that stands for a cluster. Nine in ten of its prompts are no longer."
_STYLE: Final = """
  svg { font: 13px system-ui, sans-serif; }
  .page { fill: #ffffff; stroke: #d8dee6; } .ink { fill: #1f2630; } .soft { fill: #5d6876; }
  .axis { stroke: #9aa4b1; } .line { stroke: #1f2630; stroke-dasharray: 4 3; }
  .title { font-size: 16px; font-weight: 600; } .name { font-weight: 600; } .bar { fill-opacity: .85; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #14181f; stroke: #323a46; } .ink { fill: #e8ecf2; } .soft { fill: #9aa6b5; }
    .axis { stroke: #566173; } .line { stroke: #e8ecf2; }
  }
"""


@dataclass(frozen=True, kw_only=True)
class _Bar:
    """Requests of low…high tokens (whole numbers, both included)."""

    low: int
    high: int
    num_requests: int

    @property
    def density(self) -> float:
        return self.num_requests / (math.log(self.high + 0.5) - math.log(self.low - 0.5))


class _Scale:
    """Tokens → where they stand from left to right."""

    def __init__(self, low: int, high: int) -> None:
        self._begin = math.log(low - 0.5) - 0.12
        self._span = math.log(high + 0.5) + 0.12 - self._begin

    def __call__(self, tokens: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (math.log(tokens) - self._begin) / self._span


def render_svg(derivation: Derivation, traffic: Traffic) -> str:
    """Return the picture as one SVG file."""
    clusters = derivation.clusters
    bars = _bars(traffic, clusters, _NUM_BARS)
    scale = _Scale(clusters[0].low, clusters[-1].high)
    headline = _headline(derivation)
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(headline)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" x=".5" y=".5" width="{_WIDTH - 1}" height="{_HEIGHT - 1}" rx="10"/>',
        _text(_LEFT, 36, "ink title", headline, anchor="start"),
        _text(_LEFT, 58, "soft", _SECOND_LINE, anchor="start"),
        *_svg_bars(bars, clusters, scale),
        *_svg_axis(scale, clusters[0].low, clusters[-1].high),
    ]
    for number, cluster in enumerate(clusters):
        parts += _svg_cluster(derivation, cluster, number, scale)
    return "\n".join([*parts, "</svg>"]) + "\n"


def render_text(derivation: Derivation, traffic: Traffic) -> list[str]:
    """Return lines for a terminal: a bar for each range of lengths, its share, and the shape that lies in it."""
    bars = _bars(traffic, derivation.clusters, _NUM_ROWS)
    most = max(bar.num_requests for bar in bars)
    names = [f"{bar.low}-{bar.high}" if bar.low < bar.high else str(bar.low) for bar in bars]
    width = max(len(name) for name in names)
    lines: list[str] = []
    for bar, name in zip(bars, names, strict=True):
        if not bar.num_requests:
            lines += [f"{'⋮':>{width}}"] if not lines[-1].endswith("⋮") else []
            continue
        shape = next((c.name for c in derivation.clusters if bar.low <= c.representative <= bar.high), "")
        length = bar.num_requests * _TEXT_WIDTH / most
        drawn = "█" * int(length) or "▏"
        share = bar.num_requests / derivation.num_requests
        line = f"{name:>{width}} {share:6.1%} {drawn}"
        lines.append(f"{line}  ◀ {shape}" if shape else line)
    return lines


def _bars(traffic: Traffic, clusters: Sequence[Cluster], num_bars: int) -> list[_Bar]:
    """Cut the range into bars of about one width on the scale; none reaches over a cluster's border."""
    low, high = clusters[0].low, clusters[-1].high
    step = max(math.log(high / low), 0.01) / num_bars
    borders = {border for cluster in clusters for border in (cluster.low, cluster.high + 1)}
    # A whole number begins one bar at most, so that small numbers have bars of their own and no holes between them.
    evenly = {round(low * math.exp(step * number)) for number in range(num_bars)}
    between = {n for n in evenly if all(abs(math.log(n / border)) > step / 2 for border in borders)}
    begins = sorted(n for n in between | borders if n <= high)
    counts = dict.fromkeys(begins, 0)
    edges = [*begins, high + 1]
    for request, times in traffic.items():
        if low <= request.prompt_tokens <= high:
            counts[_begin_of(begins, request.prompt_tokens)] += times
    return [_Bar(low=begin, high=end - 1, num_requests=counts[begin]) for begin, end in pairwise(edges)]


def _begin_of(begins: Sequence[int], value: int) -> int:
    return begins[bisect_right(begins, value) - 1]


def _svg_bars(bars: Sequence[_Bar], clusters: Sequence[Cluster], scale: _Scale) -> list[str]:
    tallest = max(bar.density for bar in bars)
    parts = []
    for bar in bars:
        number = next((n for n, cluster in enumerate(clusters) if cluster.low <= bar.low <= cluster.high), None)
        if not bar.num_requests or number is None:
            continue
        left, right = scale(bar.low - 0.5), scale(bar.high + 0.5)
        height = max((_BOTTOM - _TOP) * bar.density / tallest, 1.0)
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="{_BOTTOM - height:.1f}" width="{max(right - left - 0.6, 0.8):.1f}" '
            f'height="{height:.1f}" fill="{_colour(number)}"><title>{bar.low} to {bar.high} tokens: '
            f"{bar.num_requests} requests</title></rect>"
        )
    return parts


def _svg_axis(scale: _Scale, low: int, high: int) -> list[str]:
    parts = [f'<line class="axis" x1="{_LEFT}" y1="{_BOTTOM}" x2="{_RIGHT}" y2="{_BOTTOM}"/>']
    factors = (1, 2, 5) if high / low < _MANY_DECADES else (1,)
    ticks = [factor * 10**power for power in range(8) for factor in factors if low <= factor * 10**power <= high]
    for tick in ticks or [low]:
        x = scale(tick)
        parts += [
            f'<line class="axis" x1="{x:.1f}" y1="{_BOTTOM}" x2="{x:.1f}" y2="{_BOTTOM + 5}"/>',
            _text(min(x, _RIGHT - 4 * len(str(tick))), _BOTTOM + 20, "soft", f"{tick:,}"),
        ]
    return [*parts, _text((_LEFT + _RIGHT) / 2, _BOTTOM + 44, "soft", "tokens of the prompt (logarithmic scale)")]


def _svg_cluster(derivation: Derivation, cluster: Cluster, number: int, scale: _Scale) -> list[str]:
    """Return the heading over a cluster's bars, and the line of its shape."""
    left, right = scale(cluster.low - 0.5), scale(cluster.high + 0.5)
    middle, x = (left + right) / 2, scale(cluster.representative)
    share = f"{derivation.share(cluster):.0%}"
    band = f'<rect x="{left:.1f}" y="{_BAND}" width="{max(right - left, 2.0):.1f}" height="4" rx="2"'
    parts = [
        f'{band} fill="{_colour(number)}"/>',
        f'<line class="line" x1="{x:.1f}" y1="{_BAND + 6}" x2="{x:.1f}" y2="{_BOTTOM}"/>',
        _text(x - 5, _BAND + 20, "ink", f"{cluster.representative:,}", anchor="end"),
    ]
    if right - left < _NARROW:
        return [*parts, _text(middle, _BAND - 9, "ink name", share)]
    spread = f"{cluster.low:,} to {cluster.high:,}"
    return [*parts, _text(middle, _BAND - 27, "ink name", share), _text(middle, _BAND - 9, "soft", spread)]


def _headline(derivation: Derivation) -> str:
    clusters = len(derivation.clusters)
    kinds = "one length" if clusters == 1 else f"{clusters} lengths"
    return f"{derivation.num_requests:,} requests, {kinds}: the shapes cover {derivation.coverage:.1%}"


def _text(x: float, y: float, kind: str, text: str, *, anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]
