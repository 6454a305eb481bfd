"""Where an issuer may say that its keys are."""

from __future__ import annotations

import pytest

from pratique.orchestrator.access import KeysUnavailableError
from pratique.orchestrator.access.oidc.source import discovered_url

pytestmark = pytest.mark.unit

HERE = "http://localhost:8080"
THERE = "https://login.example.org"


@pytest.mark.parametrize("url", [f"{HERE}/keys", "http://127.0.0.1/keys", "file:///etc/keys", "//x", "https://[::1", 5])
def test_an_issuer_that_speaks_https_cannot_send_us_to_what_listens_here(url: object) -> None:
    with pytest.raises(KeysUnavailableError):
        discovered_url({"issuer": THERE, "jwks_uri": url}, issuer=THERE)


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        (THERE, "https://keys.example.org/keys"),
        ("HTTPS://login.example.org", "https://keys.example.org/keys"),
        (HERE, "http://127.0.0.1:8080/keys"),
        (HERE, f"{THERE}/keys"),
    ],
)
def test_where_an_issuer_says_its_keys_are_is_believed(issuer: str, url: str) -> None:
    assert discovered_url({"issuer": issuer, "jwks_uri": url}, issuer=issuer) == url


def test_another_issuers_document_is_not_believed() -> None:
    with pytest.raises(KeysUnavailableError):
        discovered_url({"issuer": f"{THERE}/", "jwks_uri": f"{THERE}/keys"}, issuer=THERE)
