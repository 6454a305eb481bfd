"""Requirements files: what is refused, with which rule and in which line; what pip reads, and how."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.release.lock.interface import Read
from pratique.release.lock.requirements import read_requirements
from pratique.release.lock.settings import LockSettings

pytestmark = pytest.mark.unit

HASH = f"--hash=sha256:{'a' * 64}"


def read(text: str, **settings: object) -> Read:
    return read_requirements(text, "r.txt", LockSettings(**settings))  # type: ignore[arg-type]  # as a test names them


def rules(text: str) -> list[tuple[int, str]]:
    return [(problem.line, problem.rule) for problem in read(text).problems]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("a==1", "missing-hash"),
        (f"a==1 --hash=md5:{'a' * 32}", "weak-hash"),
        (f"a==1 --hash=sha1:{'a' * 40} {HASH}", "weak-hash"),
        ("a==1 --hash=sha256:abc", "malformed"),
        (f"a==1 --hash=sha256:{'g' * 64}", "malformed"),
        (f"a==1 --hash=sha256:{'a' * 65}", "malformed"),
        ("a==1 --hash", "weak-hash"),
        (f"a>=1 {HASH}", "floating-version"),
        (f"a {HASH}", "floating-version"),
        (f"a==1.* {HASH}", "floating-version"),
        (f"a~=1.0 {HASH}", "floating-version"),
        (f"a==1,!=2 {HASH}", "floating-version"),
        (f"a===whatever {HASH}", "floating-version"),
        (f"a @ https://example.org/a-1.tar.gz {HASH}", "direct-url"),
        (f"https://example.org/a-1-py3-none-any.whl {HASH}", "direct-url"),
        ("a @ git+https://example.org/a@v1", "vcs"),
        ("git+ssh://git@example.org/a", "vcs"),
        ("HG+https://example.org/a", "vcs"),
        ("a @ file:///srv/a", "local-path"),
        ("file:///srv/a", "local-path"),
        ("./a", "local-path"),
        ("../a[extra]", "local-path"),
        ("/srv/a", "local-path"),
        ("folder/a", "local-path"),
        ("C:\\a", "local-path"),
        (f"a-1-py3-none-any.whl {HASH}", "local-path"),
        ("-e .", "editable"),
        ("-e.", "editable"),
        ("--editable=git+https://example.org/a", "editable"),
        ("-i https://example.org/simple", "unlisted-index"),
        ("-ihttps://example.org/simple", "unlisted-index"),
        ("--index-url=https://example.org/simple", "unlisted-index"),
        ("--pypi-url https://example.org/simple", "unlisted-index"),
        ("--extra-index-url https://pypi.org.example.org/simple", "unlisted-index"),
        ("--extra-index-url http://pypi.org/simple", "unlisted-index"),
        ("--index-url https://me:secret@pypi.org/simple", "unlisted-index"),
        ("--find-links wheels", "unlisted-index"),
        ("-f https://pypi.org/simple", "unlisted-index"),
        ("-r https://example.org/r.txt", "include"),
        ("-c file:///srv/c.txt", "include"),
        ("-r", "include"),
        ("--trusted-host example.org", "unknown-option"),
        ("--index https://pypi.org/simple", "unknown-option"),
        ("--extra-index https://example.org", "unknown-option"),
        ("-x", "unknown-option"),
        ("--pre a==1", "unknown-option"),
        (f"a==1 {HASH} --global-option=x", "unknown-option"),
        (f"a==1 {HASH} --index-url https://example.org", "unknown-option"),
        (f"a==1 {HASH} b==2", "unknown-option"),
        (f"a==1 {HASH} 'x", "malformed"),
        ("--pre 'x", "malformed"),
        (f"a==${{VERSION}} {HASH}", "malformed"),
        (f"a=1 {HASH}", "malformed"),
        (f"a==1 ; nonsense {HASH}", "malformed"),
        (f"a==1\t{HASH}", "malformed"),
        (HASH, "unknown-option"),
    ],
)
def test_what_is_not_pinned_is_refused_with_its_line(line: str, rule: str) -> None:
    found = read(f"# a comment\n\n{line}\nlast==1 {HASH}\n")
    assert [(problem.line, problem.rule) for problem in found.problems] == [(3, rule)]
    assert [entry.name for entry in found.entries] == ["last"]


@pytest.mark.parametrize(
    "line",
    [
        f"a==1 {HASH}",
        f"a==1 {HASH.replace('=sha', ' sha')}",
        f"a===1.0 {HASH}",
        f"a == 1.0+cpu {HASH}",
        f"a[x,y]==1 ; python_version < '3.12' and sys_platform == 'linux' {HASH}",
        f"a==1 \\\n    {HASH} \\\n    --hash=sha384:{'b' * 96}",
        f"a==1 {HASH}  # why",
        f"--index-url https://PyPI.org/simple/\na==1 {HASH}",
        f"--only-binary :all:\n--no-index\n--require-hashes\na==1 {HASH}",
        f"--no-binary=a --pre --prefer-binary\na==1 {HASH}",
    ],
)
def test_what_is_pinned_passes(line: str) -> None:
    found = read(line)
    assert not found.problems
    assert [entry.name for entry in found.entries] == ["a"]
    assert all(entry.hashes for entry in found.entries)


def test_names_and_versions_are_in_their_normal_form() -> None:
    (entry,) = read(f"Zope.Interface==1.0.0RC1 ; extra == 'x' {HASH.upper().replace('--HASH', '--hash')}").entries
    assert (entry.name, entry.version, entry.marker) == ("zope-interface", "1.0.0rc1", 'extra == "x"')
    assert entry.hashes == {f"sha256:{'a' * 64}"}


def test_a_comment_inside_a_continuation_ends_it_as_in_pip() -> None:
    assert rules(f"a==1 \\\n  # note\n  {HASH}\n") == [(1, "missing-hash"), (3, "unknown-option")]


def test_a_comment_with_a_backslash_swallows_the_next_line_as_in_pip() -> None:
    found = read(f"a==1 {HASH} # x \\\nb==1\nc==1 {HASH} \\")
    assert not found.problems
    assert [entry.name for entry in found.entries] == ["a", "c"]


def test_a_comment_line_with_a_backslash_swallows_nothing_as_in_pip() -> None:
    assert rules("# x \\\nb==1\n") == [(2, "missing-hash")]


def test_lines_end_where_pip_ends_them() -> None:
    assert rules("# a comment\x0cb==1\n") == [(2, "missing-hash")]
    assert rules("# a comment\u2028b==1\n") == [(2, "missing-hash")]


@pytest.mark.parametrize(("encoding", "is_refused"), [("utf-7", True), ("latin-1", True), ("utf-8", False)])
def test_another_declared_encoding_is_refused(encoding: str, is_refused: bool) -> None:
    assert rules(f"# -*- coding: {encoding} -*-\na==1 {HASH}") == ([(1, "malformed")] if is_refused else [])


def test_constraints_are_exact_and_need_no_hash() -> None:
    found = read_requirements("a==1\nb>=1\nc @ https://example.org/c.whl", "c.txt", LockSettings(), is_constraint=True)
    assert [(problem.line, problem.rule) for problem in found.problems] == [(2, "floating-version"), (3, "direct-url")]
    assert [entry.is_constraint for entry in found.entries] == [True]


def test_includes_are_told_in_every_spelling() -> None:
    found = read("-r a.txt\n-rb.txt\n--requirement=c.txt\n-c d.txt\n--constraint e.txt")
    assert [(one.line, one.path, one.is_constraint) for one in found.includes] == [
        (1, "a.txt", False),
        (2, "b.txt", False),
        (3, "c.txt", False),
        (4, "d.txt", True),
        (5, "e.txt", True),
    ]


def test_an_own_index_is_allowed_once_it_is_listed() -> None:
    own = "https://mirror.example.org/simple"
    assert not read(f"-i {own}/\n", indexes=(own,)).problems
    assert [one.rule for one in read("-i https://pypi.org/simple", indexes=(own,)).problems] == ["unlisted-index"]


@given(st.text(max_size=60))
@settings(max_examples=20, deadline=None)
def test_no_text_is_too_strange_to_be_judged(text: str) -> None:
    found = read(text)
    assert all(entry.hashes for entry in found.entries)
