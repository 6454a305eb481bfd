"""Optimal clustering of token counts. Pure and deterministic.

In one dimension k-means has an exact solution by dynamic programming: H. Wang and M. Song, "Ckmeans.1d.dp: Optimal
k-means Clustering in One Dimension by Dynamic Programming", The R Journal 3/2 (2011). The best beginning of the last
cluster never moves left as points are added, so each row of the table is filled by divide and conquer in O(n log n):
A. Grønlund et al., "Fast Exact k-Means, k-Medians and Bregman Divergence Clustering in 1D", arXiv:1701.07204.

Counts are compared by their logarithms: to an engine 20 and 40 tokens differ as 500 and 1000 do. There are as few
clusters as let a request be, typically, within a factor of 1.75 of the middle of its cluster. That is a rule about what
a warmup is for (a shape stands for requests of about its size) and not about statistics: it says the same of a hundred
requests as of a million of the same kind, where likelihood criteria find a cluster in every dent of the million.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final, TypeAlias

__all__ = ["TYPICAL_FACTOR", "Partition", "choose_partition", "optimal_partitions"]

Partition: TypeAlias = tuple[tuple[int, int], ...]
"""Clusters from low to high: the least and the greatest value in each."""

TYPICAL_FACTOR: Final = 1.75
"""How far a request may typically (root mean square of logarithms) be from the middle of its cluster."""
_MAX_POINTS: Final = 2048


@dataclass(frozen=True, kw_only=True)
class _Bin:
    low: int
    high: int
    weight: int


def choose_partition(counts: Mapping[int, int], *, max_clusters: int) -> Partition:
    """Return the clusters of token counts (value → how often; values from 1 on): the fewest that are narrow enough.

    There is one count at least. Where `max_clusters` are not enough for that, so many.
    """
    enough = sum(counts.values()) * math.log(TYPICAL_FACTOR) ** 2
    chosen: Partition = ()
    for partition, squares in optimal_partitions(counts, max_clusters=max_clusters):
        chosen = partition
        if squares <= enough:
            break
    return chosen


def optimal_partitions(counts: Mapping[int, int], *, max_clusters: int) -> Iterator[tuple[Partition, float]]:
    """Yield the partitions into 1, 2, … clusters with the least sum of squares of logarithms, and that sum.

    More than 2048 different values are gathered on a logarithmic scale first, each bin about a hundredth wide.
    """
    bins = _bins(counts)
    rows: list[list[int]] = []
    for row, squares in _rows(_Sums(bins), min(max_clusters, len(bins))):
        rows.append(row)
        ends = [len(bins)]
        for begins in reversed(rows):
            ends.append(begins[ends[-1]])
        runs = pairwise(reversed(ends))
        yield tuple((bins[first].low, bins[end - 1].high) for first, end in runs), squares


def _bins(counts: Mapping[int, int]) -> list[_Bin]:
    values = sorted(counts)
    if len(values) <= _MAX_POINTS:
        return [_Bin(low=value, high=value, weight=counts[value]) for value in values]
    bottom, width = math.log(values[0]), (math.log(values[-1]) - math.log(values[0])) / _MAX_POINTS
    gathered: dict[int, list[int]] = {}
    for value in values:
        gathered.setdefault(min(int((math.log(value) - bottom) / width), _MAX_POINTS - 1), []).append(value)
    return [
        _Bin(low=group[0], high=group[-1], weight=sum(counts[value] for value in group)) for group in gathered.values()
    ]


class _Sums:
    """Running sums, so that the cost of any run of bins is a subtraction."""

    def __init__(self, bins: Sequence[_Bin]) -> None:
        points = [((math.log(item.low) + math.log(item.high)) / 2, item.weight) for item in bins]
        self.weights = [0, *accumulate(weight for _, weight in points)]
        self._firsts = [0.0, *accumulate(weight * point for point, weight in points)]
        self._squares = [0.0, *accumulate(weight * point * point for point, weight in points)]

    def cost(self, first: int, end: int) -> float:
        """Sum of squares about the mean of the bins from `first` to before `end`."""
        weight = self.weights[end] - self.weights[first]
        total = self._firsts[end] - self._firsts[first]
        return max(self._squares[end] - self._squares[first] - total * total / weight, 0.0)


def _rows(sums: _Sums, max_clusters: int) -> Iterator[tuple[list[int], float]]:
    """Yield for 1, 2, … clusters where the last one begins, for each number of bins; and the cost of all bins."""
    num_bins = len(sums.weights) - 1
    best = [0.0, *(sums.cost(0, end) for end in range(1, num_bins + 1))]
    yield [0] * (num_bins + 1), best[-1]
    for size in range(2, max_clusters + 1):
        row, least = [0] * (num_bins + 1), [math.inf] * (num_bins + 1)
        # Ends from `low` to `high`, whose last cluster begins from `left` to `right`.
        waiting = [(size, num_bins, size - 1, num_bins - 1)]
        while waiting:
            low, high, left, right = waiting.pop()
            if low > high:
                continue
            end = (low + high) // 2
            costs = ((best[first] + sums.cost(first, end), first) for first in range(left, min(right, end - 1) + 1))
            least[end], row[end] = min(costs)
            waiting += [(low, end - 1, left, row[end]), (end + 1, high, row[end], right)]
        best = least
        yield row, best[-1]
