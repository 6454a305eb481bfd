from __future__ import annotations

import pytest

from pratique.release.errors import DigestError
from pratique.release.values import CertificateIdentity, KeyIdentity, digest_of, parse_digest

pytestmark = pytest.mark.unit

SOME = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    "text",
    [
        "",
        "latest",
        "0a" * 32,
        SOME[:-1],
        SOME + "0",
        SOME.upper(),
        SOME + "\n",
        "sha512:" + "0" * 64,
        "sha256:" + "٣" * 64,
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(DigestError, match="expected a digest"):
        parse_digest(text)


def test_a_digest_is_returned_as_it_is() -> None:
    assert parse_digest(SOME) == SOME


def test_the_digest_of_the_empty_descriptor_is_the_one_that_oci_names() -> None:
    assert digest_of(b"{}") == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_identities_read_as_people_write_them() -> None:
    assert str(KeyIdentity(digest_of(b""))).startswith("key sha256:e3b0c442")
    assert str(CertificateIdentity("https://issuer.test", "ann@ship.test")) == "ann@ship.test (by https://issuer.test)"
