"""The approved file: whatever is not exactly right approves nothing."""

from __future__ import annotations

import pytest
from tests.unit.release.mirror.approved_text import OTHER, SHA, WHEEL, document, package

from pratique.release.mirror.approved import parse_approved, version_of_file
from pratique.release.mirror.errors import ApprovedFileError

pytestmark = pytest.mark.unit

GOOD = package()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema = ", "cannot be read"),
        ("", "cannot be read"),
        ("schema = 2", "schema = 1"),
        ("schema = 1\npackages = []", "unknown field"),
        (document(package(licenses='"MIT"')), "unknown field"),
        (document(package("Alpha")), "normal form"),
        (document(package("a_b")), "normal form"),
        (document(package("-")), "normal form"),
        (document(package(licence='" "')), "must say something"),
        (document(package(reason='""')), "length"),
        (document(package(approved_on='"soon"')), "cannot be read"),
        (document(GOOD, GOOD), "stands twice"),
        (document(GOOD.replace('"1.0"', '"v1.0"')), "normal form, 1.0"),
        (document(GOOD.replace('"1.0"', '"one"')), "no version"),
        (document(GOOD.replace('"1.0"', '"2.0"')), "no file of this version"),
        (document(GOOD.replace(WHEEL, "beta-1.0-py3-none-any.whl")), "no file of this version"),
        (document(GOOD.replace(WHEEL, "../alpha-1.0-py3-none-any.whl")), "no file of this version"),
        (document(GOOD.replace(WHEEL, "alpha-1.0.exe")), "no file of this version"),
        (document(GOOD.replace("sha256:", "md5:")), "expected a digest"),
        (document(GOOD.replace(SHA, SHA.upper())), "expected a digest"),
        (document(GOOD.split("files")[0] + "files = {}\n"), "length"),
        (document(GOOD.split("[[package.version]]")[0]), "version"),
        (document(GOOD + GOOD[GOOD.index("[[package.version]]") :]), "version 1.0 stands twice"),
        (document(names='private = ["*"]'), "no name in normal form, with or without"),
        (document(names='private = ["Acme-*"]'), "names.private"),
        (document(names='popular = ["A"]'), "names.popular"),
    ],
)
def test_what_is_not_right_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(ApprovedFileError, match=said):
        parse_approved(text)


def test_a_file_under_two_versions_is_refused() -> None:
    second = f'[[package.version]]\nversion = "1.0.post1"\nfiles = {{ "alpha-1.0.post1.tar.gz" = "sha256:{SHA}" }}\n'
    approved = parse_approved(document(GOOD + second))
    assert [file.version for file in approved.files()] == ["1.0", "1.0.post1"]
    twice = second.replace('"alpha-1.0.post1.tar.gz"', f'"{WHEEL}"')
    with pytest.raises(ApprovedFileError, match="no file of this version"):
        parse_approved(document(GOOD + twice))


def test_what_is_right_is_read() -> None:
    text = document(GOOD, package("b-c", "2.0rc1", OTHER), names='private = ["acme-*", "own"]\npopular = ["numpy"]')
    approved = parse_approved(text)
    assert list(approved.packages) == ["alpha", "b-c"]
    assert approved.is_private("acme-x")
    assert not approved.is_private("alpha")
    (file,) = approved.files("b-c")
    assert (file.version, file.filename, file.digest) == ("2.0rc1", "b_c-2.0rc1-py3-none-any.whl", f"sha256:{OTHER}")
    assert not list(approved.files("unknown"))


@pytest.mark.parametrize(
    ("filename", "found"),
    [
        (WHEEL, ("alpha", "1.0")),
        ("A_b-1.0.tar.gz", ("a-b", "1.0")),
        ("alpha-1.0.zip", ("alpha", "1.0")),
        ("alpha-1.0.whl", None),
        ("alpha.tar.gz", None),
        ("a b-1.0.tar.gz", None),
    ],
)
def test_files_name_their_project_and_version(filename: str, found: tuple[str, str] | None) -> None:
    assert version_of_file(filename) == found
