"""Entries proposed from a lock: what a person must say stays open, and only what the lock pins is proposed."""

from __future__ import annotations

import datetime as dt
import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from packaging.tags import Tag, parse_tag
from tests.unit.release.mirror.approved_text import document, package
from typer.testing import CliRunner, Result

from pratique.cli.mirror import app
from pratique.release.errors import EvidenceError
from pratique.release.lock.interface import Entry
from pratique.release.lock.settings import LockSettings
from pratique.release.mirror.approved import Approved, parse_approved
from pratique.release.mirror.errors import ApprovedFileError, HashDiffersError
from pratique.release.mirror.interface import IndexFile, IndexProject
from pratique.release.mirror.proposing import EMPTY, Proposal, Reviewer, files_of, insert, narrow, render
from pratique.release.mirror.starting import Proposed, propose
from pratique.release.values import Digest, digest_of

pytestmark = pytest.mark.unit

ANN = Reviewer("ann@example.org", dt.date(2026, 6, 30), "templates")
NOBODY = Reviewer("", dt.date(2026, 6, 30), "")
SOURCE = "alpha-1.0.tar.gz"
HERE = [*parse_tag("cp311-cp311-manylinux_2_28_x86_64"), *parse_tag("py3-none-any")]


def offer(filename: str, content: bytes = b"x") -> IndexFile:
    return IndexFile(filename=filename, url=filename, digest=digest_of(content))


def entry(name: str = "alpha", version: str = "1.0", content: bytes = b"x") -> Entry:
    return Entry("lock", 1, name, version, hashes=frozenset({str(digest_of(content))}))


def proposal(name: str = "alpha", version: str = "1.0", licence: str = "MIT", num_files: int = 1) -> Proposal:
    names = [f"{name}-{version}-py{number}-none-any.whl" for number in range(2, 2 + num_files)]
    return Proposal(name, version, {one: Digest(digest_of(one.encode())) for one in names}, licence)


@pytest.mark.parametrize(
    "other",
    [
        offer("alpha-1.0-py3-none-any.whl", b"another"),
        offer("beta-1.0-py3-none-any.whl"),
        offer("alpha-1.1-py3-none-any.whl"),
        offer("alpha-1.0.exe"),
        IndexFile(filename="alpha-1.0-py3-none-any.whl", url="", digest=None),
    ],
)
def test_only_files_of_the_version_with_a_hash_of_the_lock_are_taken(other: IndexFile) -> None:
    assert files_of(entry(), [other, offer(SOURCE)]) == (offer(SOURCE),)


def test_versions_are_compared_in_normal_form() -> None:
    assert files_of(entry(version="1.0.post01"), [offer("alpha-1.0.post1.tar.gz")])


@pytest.mark.parametrize(
    ("tags", "chosen"),
    [
        (HERE, "alpha-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"),
        (HERE[1:], "alpha-1.0-py3-none-any.whl"),
        ([], SOURCE),
    ],
)
def test_the_file_that_an_installer_takes_is_chosen(tags: list[Tag], chosen: str) -> None:
    names = (
        SOURCE,
        "alpha-1.0-py3-none-any.whl",
        "alpha-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "alpha-1.0-cp311-cp311-win_amd64.whl",
    )
    assert [one.filename for one in narrow(map(offer, names), tags)] == [chosen]


def test_nothing_is_chosen_where_nothing_fits() -> None:
    assert narrow([offer("alpha-1.0-cp311-cp311-win_amd64.whl"), offer("x.whl")], HERE) == ()


@pytest.mark.parametrize("reviewer", [NOBODY, Reviewer("ann", ANN.approved_on, ""), Reviewer("", ANN.approved_on, "x")])
def test_what_nobody_answers_for_is_not_approved(reviewer: Reviewer) -> None:
    with pytest.raises(ApprovedFileError):
        parse_approved(insert(EMPTY, [("alpha", render(proposal(), reviewer, Approved()))]))


@pytest.mark.parametrize("licence", ["", "Dual License", "Apache 2.0", 'x"\napproved_by = "mallory'])
def test_a_licence_that_is_no_expression_is_left_to_a_person(licence: str) -> None:
    block = render(proposal(licence=licence), ANN, Approved())
    assert '\nlicence = ""  # the project says: ' in block
    assert block.count("\napproved_by") == 1
    with pytest.raises(ApprovedFileError):
        parse_approved(insert(EMPTY, [("alpha", block)]))


def test_quotes_and_ends_of_lines_stay_in_their_text() -> None:
    block = render(proposal(), Reviewer('a"\\', ANN.approved_on, "one\ntwo"), Approved())
    found = parse_approved(insert(EMPTY, [("alpha", block)])).packages["alpha"]
    assert (found.approved_by, found.reason) == ('a"\\', "one two")


@pytest.mark.parametrize("num_files", [1, 2])
def test_a_whole_proposal_is_an_approved_file(num_files: int) -> None:
    found = parse_approved(insert(EMPTY, [("alpha", render(proposal(num_files=num_files), ANN, Approved()))]))
    assert {file.filename: file.digest for file in found.files()} == proposal(num_files=num_files).files
    assert found.packages["alpha"].licence == "MIT"


def test_a_version_goes_below_its_package_and_comments_stay() -> None:
    text = document(f"# about alpha\n{package()}", f"\n# about beta\n# and more\n{package('beta')}")
    approved = parse_approved(text)
    new = [proposal(version="2.0"), proposal("beta", "2.0"), proposal("gamma")]
    found = insert(text, [(one.name, render(one, ANN, approved)) for one in new])
    parsed = parse_approved(found)
    assert {name: list(one.versions) for name, one in parsed.packages.items()} == {
        "alpha": ["1.0", "2.0"],
        "beta": ["1.0", "2.0"],
        "gamma": ["1.0"],
    }
    assert '# about beta\n# and more\n[[package]]\nname = "beta"' in found
    assert set(text.split()) <= set(found.split())


def test_a_file_in_another_form_is_left_alone() -> None:
    text = 'package = [{name = "alpha"}, {name = "beta"}]'
    with pytest.raises(ApprovedFileError, match="by hand"):
        insert(text, [("alpha", "x = 1\n")])


@dataclass
class Team:
    """A team with a lock, and a folder of the files that it names."""

    folder: Path

    @property
    def approved(self) -> Path:
        return self.folder / "approved.toml"

    def wheel(self, name: str, version: str = "1.0", *headers: str) -> str:
        file = self.folder / "wheels" / f"{name}-{version}-py3-none-any.whl"
        file.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(file, "w") as archive:
            lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *headers]
            archive.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines))
        return f"{name}=={version} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"

    def run(self, *lines: str, flags: tuple[str, ...] = ()) -> Result:
        (self.folder / "lock.txt").write_text("".join(lines), encoding="utf-8")
        words = [str(self.folder / "lock.txt"), "--from", str(self.folder / "wheels"), "--approved", str(self.approved)]
        return CliRunner().invoke(app, ["propose", *words, "--approved-by", "ann", "--reason", "in use", *flags])


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


def test_a_lock_that_does_not_pin_everything_proposes_nothing(team: Team) -> None:
    done = team.run("alpha==1.0\n")
    assert isinstance(done.exception, EvidenceError)


def test_what_the_source_does_not_have_is_said(team: Team) -> None:
    done = team.run(team.wheel("alpha"), f"gone==1.0 --hash=sha256:{'a' * 64}\n")
    assert done.exit_code == 1
    assert "not proposed: gone==1.0" in done.stderr
    assert "1 versions proposed, 1 not" in done.stderr


class Liar:
    """A source whose files are not what its page says, or fit nowhere."""

    name = "liar"
    tag = "py3-none-any"

    def project(self, name: str) -> IndexProject:
        return IndexProject(name=name, files=(offer(f"{name}-1.0.1-{self.tag}.whl"),))

    def read(self, file: IndexFile) -> Iterator[bytes]:
        yield f"not {file.filename}".encode()


def proposed_from(source: Liar, folder: Path) -> Proposed:
    lock = folder / "lock.txt"
    lock.write_text(f"alpha==1.0.01 --hash={digest_of(b'x')}\n", encoding="utf-8")
    return propose([lock], Approved(), source, settings=LockSettings(), tags=HERE, say=lambda _: None)


def test_a_wheel_that_is_another_than_the_lock_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HashDiffersError):
        proposed_from(Liar(), tmp_path)


def test_what_fits_nowhere_here_is_said(tmp_path: Path) -> None:
    source = Liar()
    source.tag = "cp311-cp311-win_amd64"
    found = proposed_from(source, tmp_path)
    assert (found.proposals, found.problems) == (
        (),
        ("alpha==1.0.1: liar offers no such file that can be installed here",),
    )


def test_a_team_starts_and_goes_on(team: Team) -> None:
    first = team.wheel("alpha", "1.0", "License-Expression: MIT"), team.wheel("beta", "1.0", "License: ISC")
    done = team.run(*first, flags=("--write", "--here"))
    assert (done.exit_code, done.stdout) == (0, "")
    assert [one.licence for one in parse_approved(team.approved.read_text("utf-8")).packages.values()] == ["MIT", "ISC"]
    again = team.run(*first)
    assert (again.exit_code, again.stdout) == (0, "")
    newer = team.run(team.wheel("alpha", "2.0"), first[1])
    assert newer.stdout.startswith('# below alpha:\n[[package.version]]\nversion = "2.0"\n')
    team.run(team.wheel("alpha", "2.0"), first[1], flags=("--write",))
    assert list(parse_approved(team.approved.read_text("utf-8")).packages["alpha"].versions) == ["1.0", "2.0"]


def test_classifiers_are_shown_and_not_believed(team: Team) -> None:
    done = team.run(team.wheel("alpha", "1.0", "Classifier: License :: OSI Approved :: BSD License"))
    assert 'licence = ""  # the project says: BSD License' in done.stdout


def test_the_json_has_what_is_proposed_and_what_is_not(team: Team) -> None:
    gone = f"gone==1.0 --hash=sha256:{'a' * 64}\n"
    done = team.run(team.wheel("alpha", "1.0", "License: MIT"), gone, flags=("--json",))
    found = msgspec.json.decode(done.stdout)
    assert (done.exit_code, found["schema_version"]) == (1, 1)
    assert [(one["name"], one["licence"]) for one in found["proposals"]] == [("alpha", "MIT")]
    assert "gone==1.0" in found["problems"][0]


def test_our_own_names_and_other_files_of_an_approved_version_are_for_a_person(team: Team) -> None:
    team.approved.write_text(document(package(), names='private = ["beta"]'), encoding="utf-8")
    line = team.wheel("beta"), team.wheel("alpha").replace("\n", "")
    other = team.folder / "wheels" / "alpha-1.0-py2-none-any.whl"
    other.write_bytes(b"other")
    done = team.run(line[0], f"{line[1]} --hash=sha256:{hashlib.sha256(b'other').hexdigest()}\n")
    assert done.exit_code == 1
    assert "one of our names" in done.stderr
    assert 'add by hand: "alpha-1.0-py2-none-any.whl" = "sha256:' in done.stderr
