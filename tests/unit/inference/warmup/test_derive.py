"""Clusters of token counts, and the shapes that stand for them."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.inference.errors import WarmupManifestError
from pratique.inference.warmup.clusters import Partition, choose_partition, optimal_partitions
from pratique.inference.warmup.derive import MAX_OUTPUT_TOKENS, Derivation, Request, derive

pytestmark = pytest.mark.unit


def field_lengths(num_requests: int, seed: int) -> Counter[int]:
    """Traffic as seen in the field: 5 to 50 tokens 40 %, 100 to 300 tokens 45 %, 500 to 1500 tokens 15 %."""
    chance = random.Random(seed)  # noqa: S311 - traffic, no secret
    ranges = chance.choices([(5, 50), (100, 300), (500, 1500)], [0.40, 0.45, 0.15], k=num_requests)
    return Counter(chance.randint(*bounds) for bounds in ranges)


def squares(counts: dict[int, int], partition: Partition) -> float:
    total = 0.0
    for low, high in partition:
        inside = [math.log(value) for value, times in counts.items() if low <= value <= high for _ in range(times)]
        mean = sum(inside) / len(inside)
        total += sum((value - mean) ** 2 for value in inside)
    return total


def by_trying_all(counts: dict[int, int], size: int) -> float:
    values = sorted(counts)
    return min(
        squares(counts, tuple((values[a], values[b - 1]) for a, b in itertools.pairwise([0, *cuts, len(values)])))
        for cuts in itertools.combinations(range(1, len(values)), size - 1)
    )


@given(st.dictionaries(st.integers(1, 5000), st.integers(1, 20), min_size=1, max_size=9))
@settings(max_examples=40, deadline=None)
def test_no_other_partition_has_a_smaller_sum_of_squares(counts: dict[int, int]) -> None:
    found = list(optimal_partitions(counts, max_clusters=4))
    assert len(found) == min(4, len(counts))
    for size, (partition, cost) in enumerate(found, start=1):
        assert len(partition) == size
        assert cost == pytest.approx(by_trying_all(counts, size), abs=1e-6)
        assert squares(counts, partition) == pytest.approx(cost, abs=1e-6)
        bounds = [bound for cluster in partition for bound in cluster]
        assert (bounds[0], bounds[-1], bounds) == (min(counts), max(counts), sorted(bounds))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_requests", [100, 5000])
def test_the_three_clusters_of_the_field_are_found(num_requests: int, seed: int) -> None:
    lengths = field_lengths(num_requests, seed)
    found = derive({Request(tokens): times for tokens, times in lengths.items()})
    within = [(c.low >= low and c.high <= high) for c, (low, high) in zip(found.clusters, FIELD, strict=True)]
    assert within == [True] * 3
    tolerance = 3.5 * math.sqrt(0.25 / num_requests)
    assert [found.share(cluster) for cluster in found.clusters] == pytest.approx([0.40, 0.45, 0.15], abs=tolerance)
    assert [cluster.representative for cluster in found.clusters] == pytest.approx([46, 280, 1400], rel=0.12)
    assert 0.89 < found.coverage < 0.95


FIELD = [(5, 50), (100, 300), (500, 1500)]


def test_one_length_is_one_cluster_and_two_far_lengths_are_two() -> None:
    assert choose_partition({37: 5000}, max_clusters=8) == ((37, 37),)
    assert choose_partition({37: 5000, 41: 5000}, max_clusters=8) == ((37, 41),)
    assert choose_partition({37: 5000, 900: 5000}, max_clusters=8) == ((37, 37), (900, 900))


def test_where_clusters_are_limited_they_are_wider_but_miss_nothing() -> None:
    lengths = Counter({2**power: 10 for power in range(16)})
    for limit in (1, 2, 3, 5):
        partition = choose_partition(lengths, max_clusters=limit)
        assert len(partition) == limit
        assert (partition[0][0], partition[-1][1]) == (1, 2**15)


def test_many_different_lengths_are_gathered_and_still_all_counted() -> None:
    lengths = Counter(range(1, 200_000, 7))
    partition = choose_partition(lengths, max_clusters=8)
    assert sum(times for value, times in lengths.items() if any(a <= value <= b for a, b in partition)) == len(lengths)


def test_the_result_does_not_depend_on_the_order_of_the_log() -> None:
    items = list(field_lengths(2000, 3).items())
    shuffled = sorted(items, key=lambda item: item[0] * 7919 % 1009)
    first = derive({Request(tokens): times for tokens, times in items})
    assert derive({Request(tokens): times for tokens, times in shuffled}) == first


def test_a_representative_covers_nine_in_ten_of_its_cluster() -> None:
    found = derive({Request(tokens): 1 for tokens in range(91, 101)})
    (cluster,) = found.clusters
    assert (cluster.low, cluster.representative, cluster.high) == (91, 99, 100)
    assert (cluster.num_covered, found.coverage) == (9, 0.9)


@pytest.mark.parametrize(
    ("outputs", "expected"), [([0, 0, 0], 4), ([2, 3, 9, 0, 0], 3), ([MAX_OUTPUT_TOKENS] * 3, MAX_OUTPUT_TOKENS)]
)
def test_output_tokens_are_the_median_of_those_known(outputs: list[int], expected: int) -> None:
    found = derive(Counter(Request(100, output) for output in outputs))
    assert found.manifest.shapes[0].output_tokens == expected


def shapes_of(found: Derivation) -> list[tuple[str, str | None, float | None]]:
    return [(entry.name, entry.adapter, entry.share) for entry in found.manifest.shapes]


def test_the_most_used_adapters_get_a_shape_where_most_of_their_requests_are() -> None:
    traffic = {
        Request(20): 500,
        Request(800): 100,
        Request(20, 0, "b"): 10,
        Request(800, 0, "b"): 190,
        Request(20, 0, "a"): 200,
        Request(20, 0, "rare"): 5,
    }
    assert shapes_of(derive(traffic)) == [
        ("up-to-20", None, round(515 / 1005, 4)),
        ("up-to-800", None, round(100 / 1005, 4)),
        ("adapter-1", "a", round(200 / 1005, 4)),
        ("adapter-2", "b", round(190 / 1005, 4)),
    ]


def test_clusters_and_adapters_share_the_shapes_there_may_be() -> None:
    traffic = {Request(3**power, 0, f"adapter-{number}"): 5 for power in range(9) for number in range(9)}
    for limit in (2, 3, 5, 8, 32):
        found = derive(traffic, max_shapes=limit)
        assert len(found.manifest.shapes) + 1 <= limit
        assert len(found.clusters) >= min((limit - 1) // 2, 5)
    assert shapes_of(derive(traffic, max_shapes=2))[0][1] is None


def test_a_cluster_that_only_adapters_use_has_no_share_of_its_own() -> None:
    assert shapes_of(derive({Request(20, 0, "a"): 10})) == [("up-to-20", None, None), ("adapter-1", "a", 1.0)]


def test_a_rare_cluster_keeps_a_share_above_nothing() -> None:
    found = derive({Request(1): 1, Request(10**6): 10**6}, max_shapes=8)
    assert all(entry.share is None or entry.share > 0 for entry in found.manifest.shapes)


def test_requests_that_the_model_cannot_take_get_no_shape_and_are_counted() -> None:
    found = derive({Request(100): 9, Request(5000): 1}, max_prompt_tokens=2000, model="small")
    assert (found.num_requests, found.num_too_long, found.coverage) == (10, 1, 0.9)
    assert found.manifest.model == "small"
    assert shapes_of(found) == [("up-to-100", None, 0.9)]


@pytest.mark.parametrize(
    ("traffic", "message"), [({}, "there are 0 requests\\."), ({Request(99): 3}, "all are longer than 10 tokens")]
)
def test_from_nothing_nothing_is_derived(traffic: dict[Request, int], message: str) -> None:
    with pytest.raises(WarmupManifestError, match=message):
        derive(traffic, max_prompt_tokens=10)


@given(
    st.dictionaries(
        st.builds(Request, st.integers(1, 10**6), st.integers(0, 16), st.none() | st.sampled_from("abcdefgh")),
        st.integers(1, 1000),
        min_size=1,
        max_size=60,
    ),
    st.integers(2, 12),
)
@settings(max_examples=50, deadline=None)
def test_whatever_the_traffic_the_books_balance(traffic: dict[Request, int], max_shapes: int) -> None:
    found = derive(traffic, max_shapes=max_shapes)
    assert len(found.manifest.shapes) + 1 <= max_shapes
    assert sum(cluster.num_requests for cluster in found.clusters) == sum(traffic.values())
    assert all(c.low <= c.representative <= c.high for c in found.clusters)
    assert 0.9 <= found.coverage <= 1
    assert sum(entry.share or 0 for entry in found.manifest.shapes) <= 1.001
    assert len({entry.name for entry in found.manifest.shapes}) == len(found.manifest.shapes)
