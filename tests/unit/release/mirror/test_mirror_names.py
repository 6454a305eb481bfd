"""Names: what looks like what, and whose they are."""

from __future__ import annotations

import pytest

from pratique.release.mirror.names import is_name, is_private, looks_like, normal

pytestmark = pytest.mark.unit

KNOWN = ("requests", "numpy", "python-dateutil", "boto3", "sigstore", "transformers", "ruff", "modern-lib")


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("request", "requests"),
        ("reqeusts", "requests"),
        ("requestss", "requests"),
        ("reque5ts", "requests"),
        ("re-quests", "requests"),
        ("requests2", "requests"),
        ("python-requests", "requests"),
        ("requests-dev", "requests"),
        ("nurnpy", "numpy"),
        ("dateutil", "python-dateutil"),
        ("boto", "boto3"),
        ("transfonners", "transformers"),
        ("s1gstore", "sigstore"),
        ("rufff", "ruff"),
        ("modem-lib", "modern-lib"),
    ],
)
def test_what_a_person_takes_for_a_known_name_looks_like_it(name: str, like: str) -> None:
    assert looks_like(name, KNOWN) == like


@pytest.mark.parametrize("name", [*KNOWN, "flask", "attrs", "uv", "rich", "pandas", "sigma", "transit"])
def test_known_names_and_other_words_look_like_nothing(name: str) -> None:
    assert looks_like(name, KNOWN) is None


def test_the_nearest_of_several_is_told() -> None:
    assert looks_like("transformer", ("transformerss", "transformers")) == "transformers"
    assert looks_like("anything", ()) is None


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("A.b_c-1", True), ("-a", False), ("a/b", False), ("", False), ("a" * 101, False), ("ä", False)],
)
def test_names_are_what_an_index_takes(name: str, is_one: bool) -> None:
    assert is_name(name) is is_one


def test_names_of_ours_are_told_by_pattern() -> None:
    assert normal("Acme.Tools") == "acme-tools"
    assert is_private("acme-tools", ("acme-*",))
    assert is_private("own", ("own",))
    assert not is_private("acmeish", ("acme-*", "own"))
