"""Who wrote a commit, as git has it; and that their approval counts for nothing at the gate."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.release.evidence.images_made import build_record
from tests.unit.release.policy.evidence_set import IMAGE, decide, dossier, policy, reasons, with_member

from pratique.release.build.errors import BuildRequestError
from pratique.release.build.source import read_source
from pratique.release.evidence.provenance import provenance_of

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Repository:
    folder: Path

    def git(self, *words: str, author: str = "dev@team.example", committer: str = "") -> str:
        names = {"AUTHOR": author, "COMMITTER": committer or author}
        told = {f"GIT_{who}_{what}": name for who, name in names.items() for what in ("NAME", "EMAIL")}
        ran = subprocess.run(
            ["git", "-C", str(self.folder), *words],
            check=True,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder), **told},
        )
        return ran.stdout.strip()

    def commit(self, message: str, author: str, committer: str = "") -> str:
        self.git("commit", "--quiet", "--allow-empty", "--message", message, author=author, committer=committer)
        return self.git("rev-parse", "HEAD")

    def authors(self, since: str = "") -> tuple[str, ...]:
        return read_source(self.folder, allow_dirty=False, since=since).authors


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "chat")
    made.folder.mkdir()
    made.git("init", "--quiet", "--initial-branch", "main")
    made.commit("First", "old@team.example")
    return made


def test_authors_co_authors_and_committers_of_the_commit_are_its_authors(repository: Repository) -> None:
    repository.commit(
        "Change\n\nCo-authored-by: Chi <chi@team.example>\nco-authored-by: ana@team.example",
        "ben@home.example",
        "merger@team.example",
    )
    expected = ("ana@team.example", "ben@home.example", "chi@team.example", "merger@team.example")
    assert repository.authors() == expected


def test_who_wrote_something_that_a_merge_brings_is_an_author(repository: Repository) -> None:
    repository.git("switch", "--quiet", "--create", "feature")
    repository.commit("One", "ben@team.example")
    repository.commit("Two", "chi@team.example")
    repository.git("switch", "--quiet", "main")
    before = repository.commit("Meanwhile", "ana@team.example")
    repository.git("merge", "--quiet", "--no-ff", "--message", "Merge", "feature", author="merger@team.example")
    assert repository.authors() == ("ben@team.example", "chi@team.example", "merger@team.example")
    everybody = ("ana@team.example", "ben@team.example", "chi@team.example", "merger@team.example")
    assert repository.authors(since=f"{before}^") == everybody


def test_a_mailmap_in_the_repository_hides_nobody(repository: Repository) -> None:
    repository.folder.joinpath(".mailmap").write_text("<somebody@else.example> <ben@team.example>\n")
    repository.git("add", "--all")
    repository.commit("Change", "ben@team.example")
    assert repository.authors() == ("ben@team.example",)


def test_a_merge_in_a_shallow_clone_is_refused(repository: Repository, tmp_path: Path) -> None:
    repository.git("switch", "--quiet", "--create", "feature")
    repository.commit("One", "ben@team.example")
    repository.git("switch", "--quiet", "main")
    repository.git("merge", "--quiet", "--no-ff", "--message", "Merge", "feature")
    repository.git("clone", "--quiet", "--depth", "1", repository.folder.as_uri(), str(tmp_path / "shallow"))
    with pytest.raises(BuildRequestError, match="shallow clone") as caught:
        Repository(tmp_path / "shallow").authors()
    assert "fetch-depth: 0" in str(caught.value.hint)


def test_a_shallow_clone_of_a_plain_commit_says_who_wrote_it(repository: Repository, tmp_path: Path) -> None:
    repository.commit("One", "ben@team.example")
    repository.git("clone", "--quiet", "--depth", "1", repository.folder.as_uri(), str(tmp_path / "shallow"))
    assert Repository(tmp_path / "shallow").authors() == ("ben@team.example",)
    with pytest.raises(BuildRequestError, match="shallow clone"):
        Repository(tmp_path / "shallow").authors(since="HEAD")


def test_a_commit_that_is_not_there_is_wrong_usage(repository: Repository) -> None:
    with pytest.raises(BuildRequestError, match="who wrote"):
        repository.authors(since="v9")


def test_the_approval_of_who_wrote_the_commit_does_not_count(repository: Repository) -> None:
    by = policy(('reviewers = ["ana", "ben", "chi"]', 'reviewers = ["ben", "ana"]'))
    for author, allowed in (("stranger@team.example", True), ("Chi@team.example", False)):
        repository.commit("Change", author)
        provenance = provenance_of(build_record(IMAGE, authors=repository.authors()), ())
        annotations = provenance.build_definition.resolved_dependencies[0].annotations
        edit = with_member("buildDefinition/resolvedDependencies/0/annotations", annotations)
        found = decide(dossier({"provenance": edit}), by=by)
        assert (found.verdict == "allow") is allowed
        assert ("own_work" in {one.code for one in reasons(found, "approvals")}) is not allowed
