"""JSON that is nested without end: whoever can push to a registry can have us read it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pratique.core.errors import RefusedError
from pratique.release.registry.interface import IMAGE_INDEX, IMAGE_MANIFEST, Manifest
from pratique.release.registry.manifests import read_manifest
from pratique.release.signing.bundle import LogEntry, parse_bundle
from pratique.release.signing.dsse import parse_envelope
from pratique.release.signing.layout import parse_index, parse_referrer
from pratique.release.signing.legacy import parse_legacy
from pratique.release.signing.logged import Signed, verify_logged
from pratique.release.signing.trust import parse_trust_root
from pratique.release.statements import parse_statement
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit

NESTED = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    "read",
    [
        parse_bundle,
        parse_envelope,
        parse_statement,
        parse_referrer,
        parse_legacy,
        parse_trust_root,
        lambda content: parse_index(Manifest(content, IMAGE_INDEX, digest_of(content))),
        lambda content: read_manifest(content, IMAGE_MANIFEST),
        lambda content: verify_logged(
            LogEntry(b"", 0, "dsse", "0.0.1", content, None, None, None), Signed(b"", b"", None, None)
        ),
    ],
)
def test_nesting_without_end_is_refused(read: Callable[[bytes], object]) -> None:
    with pytest.raises(RefusedError):
        read(NESTED)
