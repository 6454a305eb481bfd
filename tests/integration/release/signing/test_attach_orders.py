"""More orders than a unit test may take: several hundred to thousands of interleavings of the same steps."""

from __future__ import annotations

import datetime as dt
import functools
from pathlib import Path

import pytest
from tests.unit.release.signing.interleaving import all_orders
from tests.unit.release.signing.test_attach import IMAGE, SUBJECT, require_none_lost
from tests.unit.release.signing.watched_registry import WatchedRegistry

from pratique.release.signing.attach import attach
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import create_key
from pratique.release.statements import make_statement

pytestmark = pytest.mark.integration

AT = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize("is_conditional", [False, True], ids=["plain", "conditional"])
@pytest.mark.parametrize(("num_writers", "max_switches", "at_least"), [(2, 3, 200), (3, 2, 500)])
def test_no_order_of_steps_loses_an_attestation(
    tmp_path: Path, num_writers: int, max_switches: int, at_least: int, *, is_conditional: bool
) -> None:
    signer = KeyedSigner(create_key(tmp_path / "signing.key", kind="p256", password=None))
    statements = [make_statement(SUBJECT.digest, f"urn:{number}", {}) for number in range(num_writers)]
    bundles = [signer.sign(one.payload) for one in statements]
    num_orders = 0
    for choose in all_orders(max_switches=max_switches):
        registry = WatchedRegistry(is_conditional=is_conditional)
        registry.push_image(IMAGE)
        attaches = [
            functools.partial(attach, registry, SUBJECT, bundle, at=AT, pause=lambda _: None) for bundle in bundles
        ]
        require_none_lost(registry, choose, [*attaches])
        num_orders += 1
    assert num_orders > at_least
