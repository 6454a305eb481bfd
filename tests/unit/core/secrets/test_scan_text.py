"""Scanning one text: places, masks, comments that allow, encodings, and content made to be slow."""

from __future__ import annotations

import io
import time
from random import Random

import pytest

from pratique.core.secrets import scanner as scanner_module
from pratique.core.secrets.looks import fingerprint
from pratique.core.secrets.model import Place
from pratique.core.secrets.rules import RULES
from pratique.core.secrets.scanner import Scanner
from pratique.core.secrets.text import MAX_HITS, decode, find_hits, is_allowed_inline, make_finding
from pratique.testkit.guard.scan.corpus import true_cases

pytestmark = pytest.mark.unit

PLACE = Place(path="a")


def a_case(rule: str, seed: int = 5) -> str:
    return next(case.text for case in true_cases(seed=seed, per_rule=1) if case.rule == rule)


def an_npm_token(seed: int = 5) -> str:
    [hit] = find_hits(a_case("npm-token", seed))
    return hit.secret


def ids(text: str) -> list[str]:
    return [hit.rule.id for hit in find_hits(text)]


@pytest.mark.parametrize("rule", [rule.id for rule in RULES])
def test_no_finding_shows_its_secret(rule: str) -> None:
    text = a_case(rule)
    hit = next(hit for hit in find_hits(text) if hit.rule.id == rule)
    finding = make_finding(hit, PLACE)
    assert hit.secret[hit.rule.shows + 1 :] not in repr(finding)
    assert hit.secret not in repr(hit)
    assert finding.fingerprint == fingerprint(hit.secret)
    assert finding.meaning
    assert finding.advice


def test_a_finding_knows_its_line_whatever_ends_lines() -> None:
    for end in ("\n", "\r\n"):
        [hit] = find_hits(f"one{end}two{end}x = {an_npm_token()}{end}four")
        assert hit.line == 3


def test_a_specific_rule_wins_over_the_general_one() -> None:
    assert ids(f'api_token = "{an_npm_token()}"') == ["npm-token"]


@pytest.mark.parametrize("glue", ["a", "9", "_"])
def test_a_token_inside_a_longer_word_is_none(glue: str) -> None:
    assert not ids(glue + an_npm_token())
    assert not ids(an_npm_token() + glue)


@pytest.mark.parametrize(
    ("comment", "is_allowed"),
    [
        ("# pratique: allow-secret the vendor's test key", True),
        ("# pratique: allow-secret: revoked", True),
        ("// pratique: allow-secret (revoked)", True),
        ("# pratique: allow-secret", False),
        ("# pratique: allow-secret  ", False),
        ("# allow-secret because", False),
        ("\n# pratique: allow-secret on another line", False),
    ],
)
def test_a_comment_allows_on_its_line_and_with_a_reason(comment: str, is_allowed: bool) -> None:
    text = f"x = {an_npm_token()}  {comment}\n"
    [hit] = find_hits(text)
    assert is_allowed_inline(text, hit) is is_allowed
    scanner = Scanner()
    scanner.scan(text, PLACE)
    assert (len(scanner.report.findings), scanner.report.num_allowed) == ((0, 1) if is_allowed else (1, 0))


def test_a_fingerprint_that_is_allowed_is_no_finding() -> None:
    token = an_npm_token()
    scanner = Scanner(frozenset({fingerprint(token)}))
    scanner.scan(f"{token}\n{an_npm_token(9)}", PLACE)
    assert [finding.line for finding in scanner.report.findings] == [2]


def test_a_secret_is_told_once_in_a_path_and_again_in_another() -> None:
    scanner = Scanner()
    for path in ("a", "a", "b"):
        scanner.scan(an_npm_token(), Place(path=path))
    assert [finding.place.path for finding in scanner.report.findings] == ["a", "b"]


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
def test_secrets_are_seen_in_every_encoding(codec: str) -> None:
    content = f"naïve text, some of it\ntoken: {an_npm_token()}\n".encode(codec)
    text = decode(content)
    assert text is not None
    assert [(hit.rule.id, hit.line) for hit in find_hits(text)] == [("npm-token", 2)]


def test_bytes_that_are_no_text_do_not_hide_what_stands_beside_them() -> None:
    text = decode(b"\xff\xfe"[::-1][:1] + b"\xc3\x28 " + an_npm_token().encode() + b"\x80\x81")
    assert text is not None
    assert ids(text) == ["npm-token"]


def test_binary_content_is_counted_and_passed_over() -> None:
    scanner = Scanner()
    scanner.scan_stream(io.BytesIO(b"\x7fELF\0\1\2" + an_npm_token().encode()), PLACE)
    assert (scanner.report.num_binaries, scanner.report.findings) == (1, [])


def test_an_empty_file_is_nothing() -> None:
    scanner = Scanner()
    scanner.scan_stream(io.BytesIO(b""), PLACE)
    assert (scanner.report.num_texts, scanner.report.findings) == (1, [])


@pytest.mark.parametrize("offset", [-60, -20, -3, 0, 30])
def test_a_secret_across_two_windows_is_seen_once_and_on_its_line(offset: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner_module, "WINDOW_BYTES", 20_000)
    filler = (b"x" * 49 + b"\n") * 1000
    at = 20_000 + offset
    content = filler[:at] + b" " + an_npm_token().encode() + b"\n" + filler[at:]
    scanner = Scanner()
    scanner.scan_stream(io.BytesIO(content), PLACE)
    assert [finding.line for finding in scanner.report.findings] == [at // 50 + 1]


def test_a_megabyte_of_noise_has_no_secret() -> None:
    random = Random(6)  # noqa: S311 - opens nothing
    text = "".join(random.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=-_ \n", k=300_000))
    assert not find_hits(text)


def test_a_text_of_nothing_but_secrets_has_a_bound() -> None:
    assert len(find_hits("\n".join(case.text for case in true_cases(seed=1, per_rule=70)))) == MAX_HITS


def test_a_zero_hides_nothing() -> None:
    token = an_npm_token()
    for content in (f"\0\nk={token}\n", f"x\0y\n{'text ' * 50}{token}", f"ü\0ü{token}", f"{token}\n{'x' * 5000}\0"):
        text = decode(content.encode())
        assert text is not None
        assert ids(text) == ["npm-token"]


@pytest.mark.parametrize("content", [b"\x7fELF" + bytes(60), bytes(200), bytes(range(256)) * 16, b"PK\3\4" + bytes(26)])
def test_binaries_stay_binary(content: bytes) -> None:
    assert decode(content) is None


def test_a_private_key_made_to_be_slow_is_not() -> None:
    # Two repetitions that share the same characters out took 85 s for the first of these.
    begin = "-----BEGIN PRIVATE KEY-----\n"
    before = time.process_time()
    for middle in (("Comment:" + " " * 40) * 4, " " * 40 + "+" * 63, "\\n" * 20 + "+" * 60, ("Version" + "," * 80) * 4):
        assert not ids(f"{begin}{middle}!\n")
    assert time.process_time() - before < 5
