"""What is measured of each gateway, what it is held to, and how both are shown. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["ChatFigures", "GatewayFigures", "Target", "percentile_ms", "table", "targets"]

_OURS, _ROUTER, _LITELLM, _DIRECT = "pratique", "vllm-router", "litellm", "direct"


@dataclass(frozen=True, kw_only=True)
class GatewayFigures:
    """One gateway over /v1. CPU is its own, all its processes together; for "direct" it is the upstream's."""

    cpu_us_per_request: float
    cpu_us_per_chunk: float
    first_token_p50_ms: float
    first_token_p99_ms: float
    frames_asked: int
    frames_lost: int
    """Of many paced streams at once."""
    rss_mb: float
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class ChatFigures:
    """Ours over the WebSocket, with the durable log in Valkey and the store on disk."""

    cpu_us_per_chunk: float
    valkey_cpu_us_per_chunk: float
    first_token_p50_ms: float
    first_token_p99_ms: float
    frames_asked: int
    frames_lost: int
    kb_per_idle_socket: float
    rss_mb: float
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One promise: the figure, what it may be at most, in the same unit."""

    name: str
    figure: float
    at_most: float

    @property
    def is_met(self) -> bool:
        return self.figure <= self.at_most


def percentile_ms(seconds: Sequence[float], percent: int) -> float:
    """Return a percentile in milliseconds; NaN where too little came."""
    if len(seconds) < 2:
        return float("nan")
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1e3


def targets(gateways: Mapping[str, GatewayFigures], chat: ChatFigures | None) -> list[Target]:
    """Return the promises that these figures can be held to: each needs its baseline in the same run."""
    found = []
    ours, router, litellm = (gateways.get(name) for name in (_OURS, _ROUTER, _LITELLM))
    if ours and router:
        found.append(_target("CPU µs per request, against 2.5 x vllm-router", ours, 2.5 * router.cpu_us_per_request))
    if ours and litellm:
        found.append(_target("CPU µs per request, against LiteLLM / 50", ours, litellm.cpu_us_per_request / 50))
    if chat and router:
        name = "CPU µs per chunk with the log, against 1.5 x vllm-router without"
        found.append(Target(name=name, figure=chat.cpu_us_per_chunk, at_most=1.5 * router.cpu_us_per_chunk))
    if ours and (direct := gateways.get(_DIRECT)):
        added = ours.first_token_p99_ms - direct.first_token_p99_ms
        found.append(Target(name="added time to first token, p99 ms", figure=added, at_most=3.0))
    if ours:
        found.append(Target(name="frames lost of many paced streams, /v1", figure=ours.frames_lost, at_most=0))
    if chat:
        found.append(Target(name="frames lost of many paced streams, chat", figure=chat.frames_lost, at_most=0))
        found.append(Target(name="KB per idle WebSocket", figure=chat.kb_per_idle_socket, at_most=25))
    return [target for target in found if not math.isnan(target.figure)]


def _target(name: str, ours: GatewayFigures, at_most: float) -> Target:
    return Target(name=name, figure=ours.cpu_us_per_request, at_most=at_most)


def table(gateways: Mapping[str, GatewayFigures], chat: ChatFigures | None) -> str:
    """Return everything for people."""
    direct = gateways.get(_DIRECT)
    lines = [f"{'':24}{'CPU µs':>10}{'CPU µs':>10}{'added ms to first token':>26}{'frames':>9}{'frames':>8}{'RSS':>8}"]
    lines += [f"{'':24}{'/request':>10}{'/chunk':>10}{'p50':>14}{'p99':>12}{'asked':>9}{'lost':>8}{'MB':>8}"]
    for name, figures in gateways.items():
        p50, p99 = figures.first_token_p50_ms, figures.first_token_p99_ms
        if direct is not None and figures is not direct:
            p50, p99 = p50 - direct.first_token_p50_ms, p99 - direct.first_token_p99_ms
        lines.append(
            f"{name:24}{figures.cpu_us_per_request:>10.0f}{figures.cpu_us_per_chunk:>10.1f}{p50:>14.2f}{p99:>12.2f}"
            f"{figures.frames_asked:>9}{figures.frames_lost:>8}{figures.rss_mb:>8.0f}"
        )
    if chat is not None:
        lines.append(
            f"{'pratique, chat + log':24}{'-':>10}{chat.cpu_us_per_chunk:>10.1f}{chat.first_token_p50_ms:>14.2f}"
            f"{chat.first_token_p99_ms:>12.2f}{chat.frames_asked:>9}{chat.frames_lost:>8}{chat.rss_mb:>8.0f}"
        )
        lines.append(f"{'  Valkey itself':24}{'-':>10}{chat.valkey_cpu_us_per_chunk:>10.1f}")
        lines.append(f"{'  KB per idle WebSocket':24}{chat.kb_per_idle_socket:>10.1f}")
    lines.append(
        "direct: CPU is the upstream's, and the times are its own. Chat: the times are whole, from the question."
    )
    errors = {name: figures.error for name, figures in gateways.items()} | {"chat": chat.error if chat else ""}
    lines += [f"{name}: {error[:100]}" for name, error in errors.items() if error]
    lines.append("")
    lines += [
        f"{'met   ' if target.is_met else 'MISSED'}  {target.name}: {target.figure:.1f} (at most {target.at_most:.1f})"
        for target in targets(gateways, chat)
    ]
    return "\n".join(lines)
