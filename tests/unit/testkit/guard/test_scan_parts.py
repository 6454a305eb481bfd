"""Allow files and patches, as text."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from pratique.core.secrets.assignments import find_assignment, find_url_password
from pratique.core.secrets.rules import rule_named
from pratique.core.secrets.tokens import crc32_base62, is_jwt
from pratique.testkit.guard.scan import diff
from pratique.testkit.guard.scan.allow import load_allowed, parse_allowed
from pratique.testkit.guard.scan.diff import Added, Binary, read_patches
from pratique.testkit.guard.scan.errors import ScanFailedError, ScanUsageError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


def test_an_allow_file_names_fingerprints_with_reasons() -> None:
    text = '[[allow]]\nfingerprint = "0123456789abcdef"\nreason = "public"\n'
    assert parse_allowed(text, origin="f") == {"0123456789abcdef"}
    assert parse_allowed("", origin="f") == frozenset()


@pytest.mark.parametrize(
    "text",
    ["[[", "x = 1", "allow = 3",
     "allow = [1]", '[[allow]]\nfingerprint = "0123456789abcdef"', '[[allow]]\nreason = "r"',
     '[[allow]]\nfingerprint = "0123456789abcdef"\nreason = " "', '[[allow]]\nfingerprint = "short"\nreason = "r"',
     '[[allow]]\nfingerprint = "0123456789abcdef"\nreason = "r"\nother = 1'],
)  # fmt: skip
def test_an_allow_file_that_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(ScanUsageError, match="allow file f"):
        parse_allowed(text, origin="f")


def test_an_allow_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanUsageError, match="cannot be read"):
        load_allowed(tmp_path / "none")
    (tmp_path / "latin").write_bytes(b"\xff")
    with pytest.raises(ScanUsageError):
        load_allowed(tmp_path / "latin")


HEAD = "\x01commit c1\ndiff --git a/f b/f\nindex 00..11\n--- a/f\n+++ b/f\n"


def read(patch: str) -> list[tuple[int, str]]:
    parts = list(read_patches(io.BytesIO(patch.encode())))
    return [(part.first_line, part.text.decode()) for part in parts if isinstance(part, Added)]


def test_added_lines_have_their_numbers() -> None:
    patch = HEAD + "@@ -0,0 +1 @@\n+one\n@@ -3,2 +5,2 @@ def x\n-old\n-old\n+five\n+six\n\\ No newline at end of file\n"
    assert read(patch) == [(1, "one\n"), (5, "five\nsix\n")]


def test_lines_of_one_parent_only_are_not_a_merge_s() -> None:
    patch = HEAD + "@@@ -1,1 -1,1 +1,3 @@@\n+ of the first\n++of the merge\n +of the second\n"
    assert read(patch) == [(1, "\nof the merge\n\n")]


def test_a_patch_that_is_cut_short_is_no_answer() -> None:
    with pytest.raises(ScanFailedError, match="middle of a hunk"):
        read(HEAD + "@@ -0,0 +1,2 @@\n+one\n")


def test_a_line_longer_than_what_is_read_is_told_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "_MAX_LINE", 64)
    patch = HEAD + "@@ -0,0 +7,2 @@\n+" + "x" * 100 + "y" * 50 + "\n+next\n"
    told = read(patch)
    assert "".join(text for _, text in told) == "x" * 100 + "y" * 50 + "\nnext\n"
    assert {line for line, _ in told} == {7}


def test_a_long_hunk_is_told_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "_MAX_BLOCK", 8)
    assert read(HEAD + "@@ -0,0 +1,3 @@\n+one two three\n+four\n+five six\n") == [
        (1, "one two three\n"),
        (2, "four\nfive six\n"),
    ]


def test_binary_files_are_told_with_their_blob() -> None:
    blob = "ab" * 20
    head = f"\x01commit c1\ndiff --git a/my file b/my file\nindex {'0' * 40}..{blob} 100644\n"
    [part] = read_patches(io.BytesIO(f"{head}Binary files /dev/null and b/my file differ\n".encode()))
    assert isinstance(part, Binary)
    assert (part.blob, part.place.path, part.place.commit) == (blob, "my file", "c1")
    gone = f"diff --git a/x b/x\nindex {blob}..{'0' * 40}\nBinary files a/x and /dev/null differ\n"
    assert list(read_patches(io.BytesIO(gone.encode()))) == []


@pytest.mark.parametrize("text", ["token", "secret_id = 'q8Zr2LxVb7Nc4ZmYp8Hd'", "password=f(x1Y2z3A4b5C6d7E8f9)"])
def test_names_without_a_secret(text: str) -> None:
    assert find_assignment(text, 0) is None


@pytest.mark.parametrize("text", ["://", "://a:b@", "9://svc:q8Zr2LxVb7Nc@h.io", "https://svc:svc@h.io"])
def test_urls_without_a_password(text: str) -> None:
    assert find_url_password(text, text.index("://")) is None


@pytest.mark.parametrize(
    "text",
    ['tokenizers": "q8Zr2LxVb7Nc4ZmYp8Hd"', 'secretary = "q8Zr2LxVb7Nc4ZmYp8Hd"',
     'token_bytes": "q8Zr2LxVb7Nc4ZmYp8H="', 'token: "Py2Tokens~=1.4.0rc1,!=1.4.*"',
     'token_lib = "tokens[all]>=0.23.1,<0.24.0"'],
)  # fmt: skip
def test_tokenizers_secretaries_and_requirements_are_no_secrets(text: str) -> None:
    assert find_assignment(text, 0) is None


@pytest.mark.parametrize(
    "value", ["q8Zr2LxVb7Nc>=4ZmYp8Hd", "q8Zr2LxVb7Nc4ZmYpA==", "tokens>=0.23.1/q8Zr2LxVb7Nc4ZmYp8Hd"]
)
def test_a_secret_that_looks_a_little_like_a_requirement_is_one(value: str) -> None:
    assert find_assignment(f'token = "{value}"', 0) == (9, 9 + len(value))


def test_a_checksum_of_github_is_known() -> None:
    assert crc32_base62("zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ") == "0mLq17"


@pytest.mark.parametrize("token", ["eyJ.eyJ.x", "eyJhIjoxfQ.W10.x", "bnVsbA.bnVsbA.x"])
def test_what_is_no_signed_token(token: str) -> None:
    assert not is_jwt(token)


def test_rules_have_names() -> None:
    assert rule_named("jwt").anchors == ("eyJ",)
