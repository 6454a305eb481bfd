"""Megabytes that are made to keep a scanner busy: time stays linear in the text."""

from __future__ import annotations

import time

import pytest

from pratique.core.secrets.rules import RULES
from pratique.core.secrets.text import find_hits
from pratique.testkit.guard.scan.corpus import true_cases

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
    "auths": '"auth":',
    "auths of npm": "_auth=",
    "headers of requests": "Authorization: Basic ",
    "keys of accounts": "AccountKey=",
    "tokens of sessions": "session_token=",
    "dots": "hvs.",
    "allow": "pratique: allow-secret ",
}


@pytest.mark.parametrize("unit", ATTACKS.values(), ids=ATTACKS)
def test_a_megabyte_made_to_be_slow_is_not(unit: str) -> None:
    text = (unit * (1_000_000 // len(unit) + 1))[:1_000_000]
    before = time.process_time()
    find_hits(text)
    # A pattern that looks again and again takes minutes; what is linear takes a fraction of a second.
    assert time.process_time() - before < 10


FILLERS = (
    " ",
    "\t",
    "+",
    "=",
    "-",
    "_",
    ".",
    "a",
    "A",
    "0",
    '"',
    "\\",
    "\\n",
    ",",
    ":",
    "/",
    "\n",
    "%",
    "a ",
    " =",
    "-a",
    ".a",
)


@pytest.mark.parametrize("rule", [rule.id for rule in RULES])
def test_what_is_nearly_a_secret_is_not_slow(rule: str) -> None:
    """Each secret broken off at every place, there filled up with what its pattern may repeat, and spoilt."""
    texts = [case.text for case in true_cases(seed=11, per_rule=3) if case.rule == rule]
    assert texts
    for text in texts:
        cuts = {*range(min(len(text), 120)), *range(0, len(text), 16)}
        for filler in FILLERS:
            before = time.process_time()
            for cut in cuts:
                head, tail = text[:cut], text[cut:]
                find_hits(f"{head}{filler * 45}!{tail}")
                find_hits(f"{head}{(tail[:9] + filler * 20) * 4}!")
            # A fraction of a second; exponential is minutes, and only for what is short.
            assert time.process_time() - before < 10, (filler, rule)
