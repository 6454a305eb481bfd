"""Which shapes stand for a traffic log. Pure and deterministic.

Prompt lengths fall into clusters (see clusters.py). Each is represented by its 90th percentile, so that nine in ten of
its requests are no longer than what was warmed; the rest lie below the next shape or the catch-all. A request counts as
covered where its length is between the beginning of its cluster and the cluster's representative.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple, TypeAlias, TypeVar

from pratique.inference.errors import WarmupManifestError
from pratique.inference.warmup.clusters import choose_partition
from pratique.inference.warmup.manifest import ShapeEntry, WarmupManifest

__all__ = ["MAX_OUTPUT_TOKENS", "Cluster", "Derivation", "Request", "Traffic", "derive"]

MAX_OUTPUT_TOKENS: Final = 16
"""To generate in a warmup: what has to be warm are the steps of a generation, not their number."""
_DEFAULT_OUTPUT_TOKENS: Final = 4
_PERCENTILE: Final = 90
_MAX_CLUSTERS: Final = 8
_LEAST_ADAPTER_SHARE: Final = 0.01
_LEAST_SHARE: Final = 0.0001
_Key = TypeVar("_Key", bound=Hashable)


class Request(NamedTuple):
    """What of a request decides about its shape."""

    prompt_tokens: int
    """At least 1."""
    output_tokens: int = 0
    """At most MAX_OUTPUT_TOKENS count; 0 where it is not known."""
    adapter: str | None = None


Traffic: TypeAlias = Mapping[Request, int]
"""How many requests of each kind there were."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Requests of about one length, and what stands for them."""

    name: str
    low: int
    """The shortest prompt in it, in tokens."""
    high: int
    """The longest."""
    representative: int
    """The 90th percentile of its lengths."""
    output_tokens: int
    num_requests: int
    num_covered: int
    """Those that are no longer than the representative."""


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """The shapes for a traffic, and how well they cover it."""

    manifest: WarmupManifest
    clusters: tuple[Cluster, ...]
    num_requests: int
    num_too_long: int
    """Longer than the model takes: no shape stands for them."""

    def share(self, cluster: Cluster) -> float:
        """Which part of all requests is in a cluster."""
        return cluster.num_requests / self.num_requests

    @property
    def coverage(self) -> float:
        """Which part of all requests lies within the range of a shape."""
        return sum(cluster.num_covered for cluster in self.clusters) / self.num_requests


def derive(
    traffic: Traffic, *, max_shapes: int = _MAX_CLUSTERS, max_prompt_tokens: int | None = None, model: str | None = None
) -> Derivation:
    """Return a shape for each cluster, then for the most used adapters: at most `max_shapes` with the catch-all.

    `max_shapes` is 2 or more. From one request in a hundred on an adapter gets a shape, in the cluster where most of
    its requests are.

    Raises:
        WarmupManifestError: there is no request that a shape could stand for.
    """
    num_requests = sum(traffic.values())
    fitting = {
        request: times
        for request, times in traffic.items()
        if max_prompt_tokens is None or request.prompt_tokens <= max_prompt_tokens
    }
    if not fitting:
        raise WarmupManifestError(
            f"No shape can be derived: there are {num_requests} requests"
            + (f", and all are longer than {max_prompt_tokens} tokens." if num_requests else "."),
            hint="Give a log with requests that this model takes.",
        )
    adapters = _used_adapters(fitting)
    room = max(max_shapes - 1, 1)
    max_clusters = max(1, min(room - min(len(adapters), room // 2), _MAX_CLUSTERS))
    lengths = _total((request.prompt_tokens, times) for request, times in fitting.items())
    clusters = tuple(_cluster(fitting, low, high) for low, high in choose_partition(lengths, max_clusters=max_clusters))
    entries = _entries(fitting, clusters, adapters[: room - len(clusters)], num_requests)
    return Derivation(
        manifest=WarmupManifest(schema_version=1, model=model, shapes=entries),
        clusters=clusters,
        num_requests=num_requests,
        num_too_long=num_requests - sum(fitting.values()),
    )


def _cluster(traffic: Traffic, low: int, high: int) -> Cluster:
    inside = {request: times for request, times in traffic.items() if low <= request.prompt_tokens <= high}
    lengths = _total((request.prompt_tokens, times) for request, times in inside.items())
    outputs = _total((request.output_tokens, times) for request, times in inside.items() if request.output_tokens)
    representative = _percentile(lengths, _PERCENTILE)
    return Cluster(
        name=f"up-to-{representative}",
        low=low,
        high=high,
        representative=representative,
        output_tokens=min(_percentile(outputs, 50), MAX_OUTPUT_TOKENS) if outputs else _DEFAULT_OUTPUT_TOKENS,
        num_requests=sum(lengths.values()),
        num_covered=sum(times for length, times in lengths.items() if length <= representative),
    )


def _used_adapters(traffic: Traffic) -> list[str]:
    """Return the adapters that enough requests name, most used first."""
    used = _total((request.adapter, times) for request, times in traffic.items())
    least = sum(used.values()) * _LEAST_ADAPTER_SHARE
    names = [name for name, times in used.items() if name is not None and times >= least]
    return sorted(names, key=lambda name: (-used[name], name))


def _entries(
    traffic: Traffic, clusters: tuple[Cluster, ...], adapters: list[str], num_requests: int
) -> tuple[ShapeEntry, ...]:
    """Return the shapes of the clusters, then those of adapters; each request counts for one of them."""
    rest = {cluster.name: cluster.num_requests for cluster in clusters}
    special = []
    for number, adapter in enumerate(adapters, start=1):
        own = _total(
            (_home(request, clusters), times) for request, times in traffic.items() if request.adapter == adapter
        )
        home = max(clusters, key=lambda cluster: own[cluster.name])
        rest[home.name] -= own[home.name]
        special.append(_entry(home, f"adapter-{number}", own[home.name] / num_requests, adapter))
    base = [_entry(cluster, cluster.name, rest[cluster.name] / num_requests, None) for cluster in clusters]
    return (*base, *special)


def _entry(cluster: Cluster, name: str, share: float, adapter: str | None) -> ShapeEntry:
    return ShapeEntry(
        name=name,
        prompt_tokens=cluster.representative,
        output_tokens=cluster.output_tokens,
        adapter=adapter,
        share=max(round(share, 4), _LEAST_SHARE) if share else None,
    )


def _home(request: Request, clusters: tuple[Cluster, ...]) -> str:
    return next(cluster.name for cluster in clusters if cluster.low <= request.prompt_tokens <= cluster.high)


def _percentile(counts: Mapping[int, int], percent: int) -> int:
    """Return the least value that so many percent do not exceed."""
    values = sorted(counts)
    wanted = percent * sum(counts.values())
    passed = accumulate(counts[value] for value in values)
    return next(value for value, total in zip(values, passed, strict=True) if total * 100 >= wanted)


def _total(pairs: Iterable[tuple[_Key, int]]) -> Counter[_Key]:
    counted: Counter[_Key] = Counter()
    for value, times in pairs:
        counted[value] += times
    return counted
