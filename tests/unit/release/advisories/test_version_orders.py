"""How versions compare: PEP 440, and dpkg's rules. dpkg itself is asked in the integration tests."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.release.advisories.versions import DEBIAN, NPM, PYPI, ordering_of

pytestmark = pytest.mark.unit

ASCENDING = [
    ["1.0~~", "1.0~~a", "1.0~", "1.0", "1.0a", "1.0+b1", "1.0.", "1.0.1"],
    ["0~1", "0", "0a", "0.1", "1:0~", "1:0", "2:0"],
    ["1.0-1~deb12u1", "1.0-1", "1.0-1+b1", "1.0-1+deb12u1", "1.0-1.1", "1.0-2", "1.0-10"],
    ["2.36-9+deb12u7", "2.36-9+deb12u10"],
    ["1.0.99", "1.0.100"],
    ["1a", "1b", "1z", "1+", "1."],
]


@pytest.mark.parametrize("versions", ASCENDING)
def test_debian_sorts_tildes_first_then_ends_letters_and_the_rest(versions: list[str]) -> None:
    # "1.0" and "1.0." differ in nothing that dpkg compares by, but for the dot: it sorts after the end.
    keys = [DEBIAN.key(version) for version in versions]
    assert None not in keys
    assert all(one < other for one, other in itertools.pairwise(keys))


@pytest.mark.parametrize(
    ("one", "other"), [("1.0", "1.0-0"), ("0:1.0", "1.0"), ("1.01", "1.1"), ("1.", "1.0"), ("1-00", "1-0")]
)
def test_debian_versions_that_differ_in_spelling_only_are_equal(one: str, other: str) -> None:
    assert DEBIAN.key(one) == DEBIAN.key(other) is not None


@pytest.mark.parametrize(
    "version", ["", "a1", "1 0", "1.0-", ":1", "a:1", "1:", "1_0", "-1", "1.0-a_b", "9" * 513, "٣", "1:2:", "1\n"]
)
def test_what_is_no_debian_version_has_no_key(version: str) -> None:
    # dpkg takes "1:2:" for version "2:" of the epoch 1, and so do we.
    assert (DEBIAN.key(version) is None) == (version != "1:2:")


@pytest.mark.parametrize("version", ["", "2004d-x", "1.0-bulbasaur", "1" * 600, "None", "1.0 beta x"])
def test_what_is_no_pypi_version_has_no_key(version: str) -> None:
    assert PYPI.key(version) is None


def test_pypi_versions_compare_by_pep_440() -> None:
    keys = [PYPI.key(one) for one in ("1.0.dev1", "1.0a1", "1.0rc1", "1.0", "1.0+local", "1.0.post1", "1.1", "1!0")]
    assert keys == sorted(keys)
    assert PYPI.key("1.0.0") == PYPI.key("v1.0")


def test_a_rebuild_is_also_what_it_was_rebuilt_from() -> None:
    assert PYPI.variants("2.1.0+cpu") == ("2.1.0+cpu", "2.1.0")
    assert PYPI.variants("2.1.0") == ("2.1.0",)
    assert PYPI.variants("+cpu") == ("+cpu",)
    assert DEBIAN.variants("1.2-3+b1") == ("1.2-3+b1", "1.2-3")
    assert DEBIAN.variants("1.2-3+build1") == ("1.2-3+build1",)


def test_npm_versions_compare_by_semver() -> None:
    ascending = [
        *("1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"),
        *("1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0", "2.0.0"),
    ]
    keys = [NPM.key(version) for version in ascending]
    assert all(one < other for one, other in itertools.pairwise(keys))
    assert NPM.key("v1.0.0+build.7") == NPM.key("1.0.0")
    assert NPM.variants("1.0.0+x") == ("1.0.0+x",)


@pytest.mark.parametrize("version", ["", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-a_b", "9" * 600, "1.0.0 "])
def test_what_is_no_npm_version_has_no_key(version: str) -> None:
    assert NPM.key(version) is None


def test_orders_are_known_for_three_ecosystems() -> None:
    assert ordering_of("npm") is NPM
    assert ordering_of("Debian:12") is ordering_of("Debian") is DEBIAN
    assert ordering_of("PyPI") is PYPI
    assert ordering_of("crates.io") is None


VERSIONS = (
    st.tuples(
        st.sampled_from(["0", "1", "9", "1:0", "2:1"]),
        st.text("019.+~ab-", max_size=5),
        st.sampled_from(["", "0", "-1", "-0~a", "-1+b2"]),
    )
    .map("".join)
    .filter(lambda text: DEBIAN.key(text) is not None)
)


@settings(max_examples=50)
@given(VERSIONS, VERSIONS, VERSIONS)
def test_the_order_of_debian_is_total(one: str, two: str, three: str) -> None:
    first, second, third = sorted(map(DEBIAN.key, (one, two, three)))
    assert first <= second <= third
    assert first <= third


@settings(max_examples=50)
@given(VERSIONS)
def test_a_tilde_behind_a_version_comes_before_it_and_a_plus_after(version: str) -> None:
    assert DEBIAN.key(f"{version}~") < DEBIAN.key(version) < DEBIAN.key(f"{version}+")
