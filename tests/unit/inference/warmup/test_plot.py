"""The pictures of a derivation: complete, by themselves, and about the numbers they show."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.inference.warmup.derive import Request, derive
from pratique.inference.warmup.plot import render_svg, render_text

pytestmark = pytest.mark.unit

SVG = "{http://www.w3.org/2000/svg}"
FIELD = {
    **{Request(tokens): 40 for tokens in range(5, 51)},
    **{Request(tokens): 10 for tokens in range(100, 301)},
    **{Request(tokens): 1 for tokens in range(500, 1501)},
}
ONE = {Request(37): 5}
WIDE = {Request(10**power): 10 for power in range(7)}


def texts(svg: str) -> list[str]:
    # What is parsed here was made here a moment ago.
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


@pytest.mark.parametrize("traffic", [FIELD, ONE, WIDE], ids=["field", "one", "wide"])
def test_the_svg_stands_by_itself_in_both_schemes(traffic: dict[Request, int]) -> None:
    svg = render_svg(derive(traffic), traffic)
    assert ET.fromstring(svg).tag == f"{SVG}svg"  # noqa: S314 - as above
    assert "prefers-color-scheme: dark" in svg
    assert not re.search(r"href|url\(|<script|<image|@import", svg)
    assert len(svg.encode()) < 100_000


def test_the_svg_shows_shares_ranges_and_representatives() -> None:
    found = derive(FIELD)
    said = texts(render_svg(found, FIELD))
    assert said[0].startswith(f"{found.num_requests:,} requests, 3 lengths: the shapes cover 9")
    for cluster in found.clusters:
        assert f"{found.share(cluster):.0%}" in said
        assert f"{cluster.low:,} to {cluster.high:,}" in said
        assert f"{cluster.representative:,}" in said


def test_every_request_is_in_one_bar_of_the_svg() -> None:
    svg = render_svg(derive(FIELD), FIELD)
    bars = re.findall(r"<title>(\d+) to (\d+) tokens: (\d+) requests</title>", svg)
    assert sum(int(number) for _, _, number in bars) == sum(FIELD.values())
    assert all(int(low) <= int(high) for low, high, _ in bars)


def test_nothing_is_drawn_outside_of_the_page() -> None:
    for traffic in (FIELD, ONE, WIDE):
        for rect in ET.fromstring(render_svg(derive(traffic), traffic)).iter(f"{SVG}rect"):  # noqa: S314 - as above
            x, y, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
            assert 0 <= x <= x + width <= 880
            assert 0 <= y <= y + height <= 420


def test_the_terminal_shows_each_shape_once_and_leaves_gaps_out() -> None:
    found = derive(FIELD)
    lines = render_text(found, FIELD)
    marks = [re.findall(r"◀ (.*)", line) for line in lines]
    assert [mark for each in marks for mark in each] == [cluster.name for cluster in found.clusters]
    assert [line.strip() for line in lines].count("⋮") == 2
    assert len(lines) < 30
    assert render_text(derive(ONE), ONE) == [f"37 100.0% {'█' * 48}  ◀ up-to-37"]


@given(st.dictionaries(st.integers(1, 1 << 24), st.integers(1, 10**6), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_whatever_the_lengths_there_is_a_picture_of_all_of_them(lengths: dict[int, int]) -> None:
    traffic = Counter({Request(tokens): times for tokens, times in lengths.items()})
    found = derive(traffic)
    svg = render_svg(found, traffic)
    numbers = [int(number) for number in re.findall(r"tokens: (\d+) requests", svg)]
    assert sum(numbers) == sum(lengths.values())
    assert all(name in "".join(render_text(found, traffic)) for name in (cluster.name for cluster in found.clusters))
