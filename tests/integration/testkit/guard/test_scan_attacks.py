"""Megabytes that are made to keep a scanner busy: time stays linear in the text."""

from __future__ import annotations

import time

import pytest

from pratique.testkit.guard.scan.text import find_hits

pytestmark = pytest.mark.integration

ATTACKS = {
    "one letter": "a",
    "equal signs": "=",
    "spaces": " ",
    "quotes": '"',
    "key ids": "AKIA",
    "broken ids": "AKIA A",
    "assignments": "password=",
    "names": "secret_",
    "quoted": 'token="',
    "spaced": "secret      ",
    "tokens": "ghp_",
    "webtokens": "eyJ",
    "webtokens apart": " eyJaaaaaaaaaa.eyJ",
    "webtokens and": "eyJaaaaaaaaaa.",
    "urls": "://a:",
    "schemes": "a://",
    "credentials": "x://u:p@",
    "keys": "-----BEGIN PRIVATE KEY-----",
    "keys with room": "-----BEGIN RSA PRIVATE KEY-----\\n",
    "headers": "-----BEGIN ",
    "pypi": "pypi-AgEIcHlwaS5vcmc",
    "gitlab": "glpat-",
    "dashes": "sk-ant-api03-",
    "allow": "pratique: allow-secret ",
}


@pytest.mark.parametrize("unit", ATTACKS.values(), ids=ATTACKS)
def test_a_megabyte_made_to_be_slow_is_not(unit: str) -> None:
    text = (unit * (1_000_000 // len(unit) + 1))[:1_000_000]
    before = time.process_time()
    find_hits(text)
    # A pattern that looks again and again takes minutes; what is linear takes a fraction of a second.
    assert time.process_time() - before < 10
