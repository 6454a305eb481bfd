"""Whose names are whose."""

from __future__ import annotations

import secrets

import pytest

from pratique.testkit.services.names import is_of_kit, mark_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "name",
    [
        *("", "-", "pq", "pq-", "pqueue-orders", "orders", "pqapp-service", "pqbeefn1-t", "pq12n1-a", "pqzzzzzzn1-a"),
        *("xpq12ab34n1-a", "pq12ab34n1", "pq12ab34-a", "pq12ab34n-a", "pq12ab34n0-a", "pq12ab34n01-a", "PQ12AB34N1-a"),
        *("pq12ab34w0-n1-a", "a-pq12ab34n1-a", "pq12ab34n1/a", "pq12ab34n1\n-a"),
    ],
)
def test_names_that_merely_look_like_the_kits_are_not(name: str) -> None:
    assert not is_of_kit(name, "-")


@pytest.mark.parametrize("name", ["pq12ab34n1-orders", "pq12ab34w0n17-a-b", "pq12ab34gpun10-", "pq000000n1-pq"])
def test_names_of_other_workers_and_runs_are_the_kits_too(name: str) -> None:
    assert is_of_kit(name, "-")


@pytest.mark.parametrize("worker", ["", "gw0", "gw11", "remote"])
def test_what_the_kit_makes_it_knows_again(worker: str) -> None:
    mark = mark_of(secrets.token_hex(3), worker)
    assert is_of_kit(f"{mark}n1/app", "/")
    assert not is_of_kit(f"{mark}n1/app", "-")
