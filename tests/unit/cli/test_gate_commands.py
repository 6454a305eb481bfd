"""`pratique gate`, `approve`, `review`, `revoke`: flags in, words and exit codes out. The rooms are in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
from tests.unit.release.policy.evidence_set import IMAGE, POLICY_TEXT, REPOSITORY, dossier
from tests.unit.release.policy.shell_parts import ListLedger, Shelf, clock, ledger
from typer.testing import CliRunner, Result

from pratique.cli import _release
from pratique.cli._release import Rooms
from pratique.cli.approve import approve, review
from pratique.cli.gate import gate, revoke
from pratique.core.errors import CallerError
from pratique.release.errors import DigestError
from pratique.release.policy.acts import DoesNotCountError
from pratique.release.policy.explain import decision_schema
from pratique.release.policy.gate import PolicyMismatchError
from pratique.release.policy.settings import PolicySettings
from pratique.release.settings import ReleaseSettings
from pratique.release.signing.interface import Dossier, StatementSigner
from pratique.release.signing.keys import create_key
from pratique.release.signing.publickey import PublicKey, parse_public_key
from pratique.release.signing.settings import SigningSettings
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.values import Subject, digest_of

pytestmark = pytest.mark.unit

WITHOUT_BEN = ("approval-ben", "approval-chi", "review")
ABOUT = (IMAGE, "--repository", REPOSITORY, "--environment", "production")


BY_OTHERS = {
    "approval-ben": lambda piece: replace(piece, party="ana"),
    "review": lambda piece: replace(piece, party="chi"),
}
"""The set without Ben, whose key is made anew."""


@dataclass
class World:
    """What the commands find."""

    folder: Path
    evidence: Dossier = field(default_factory=lambda: dossier(BY_OTHERS))
    book: ListLedger = field(default_factory=ledger)
    shelf: Shelf = field(default_factory=Shelf)
    opened_with: list[Path | None] = field(default_factory=list)

    @property
    def public(self) -> PublicKey:
        return parse_public_key((self.folder / "ben.key.pub").read_bytes())

    def rooms(self, signer: StatementSigner | None = None) -> Rooms:
        return Rooms(
            load_dossier=self.load,
            attach=self.attach,
            ledger=self.book,
            signer=signer,
            verifier=BundleVerifier((self.public,)),
            policy=PolicySettings(file=self.folder / "promotion.toml"),
            clock=clock(),
        )

    def load(self, _: Subject) -> Dossier:
        return self.evidence

    def attach(self, subject: Subject, bundle: bytes) -> None:
        self.shelf.attach(subject, bundle)
        made = BundleVerifier((self.public,)).verify(bundle)
        self.evidence = Dossier(subject, (*self.evidence.attestations, made), ())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    create_key(tmp_path / "ben.key", kind="p256", password=b"pass word")
    (tmp_path / "password").write_text("pass word\n", encoding="utf-8")
    text = POLICY_TEXT.replace("sha256:" + "5" * 64, made.public.fingerprint)
    (tmp_path / "promotion.toml").write_text(text, encoding="utf-8")

    @contextmanager
    def opened(
        config: Path | None, sign: Callable[[ReleaseSettings], StatementSigner] | None = None
    ) -> Iterator[Rooms]:
        made.opened_with.append(config)
        named = SigningSettings(key_file=tmp_path / "ben.key", password_file=tmp_path / "password")
        yield made.rooms(sign(ReleaseSettings(signing=named)) if sign is not None else None)

    monkeypatch.setattr(_release, "opened", opened)
    return made


def run(command: Any, *arguments: str) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def key_of(world: World) -> tuple[str, ...]:
    return ("--key", str(world.folder / "ben.key"), "--password-file", str(world.folder / "password"))


def kinds(world: World) -> list[str]:
    return [entry.kind for entry in world.book.written[3:]]


def test_an_allowed_artifact_exits_with_0_and_is_recorded(world: World) -> None:
    ran = run(gate, *ABOUT)
    assert (ran.exit_code, ran.stdout.split(" ")[0]) == (0, "ALLOW")
    assert kinds(world) == ["decision"]


def test_a_blocked_artifact_exits_with_1_and_says_what_to_do(world: World) -> None:
    world.evidence = dossier(without=WITHOUT_BEN)
    ran = run(gate, *ABOUT, "--actor", "ci")
    assert ran.exit_code == 1
    assert ran.stdout.startswith("BLOCK ")
    assert "→ Have one of ana, ben, chi review the diff" in ran.stdout
    assert kinds(world) == ["decision"]
    assert world.book.written[-1].actor == "ci"


def test_what_cannot_be_decided_exits_with_3(world: World) -> None:
    world.book.is_away = True
    ran = run(gate, *ABOUT)
    assert (ran.exit_code, ran.stdout.split(" for ")[0].rpartition(" ")[0]) == (3, "COULD NOT DECIDE")


def test_a_dry_run_records_nothing(world: World) -> None:
    run(gate, *ABOUT, "--dry-run")
    assert kinds(world) == []
    assert run(revoke, IMAGE, "--what", "image", "--reason", "x", "--dry-run").exit_code == 0
    assert kinds(world) == []


def test_the_json_keeps_its_schema(world: World) -> None:
    ran = run(gate, *ABOUT, "--json", "--dry-run")
    jsonschema.Draft202012Validator(json.loads(decision_schema())).validate(json.loads(ran.stdout))


def test_reviewing_and_approving_lead_to_an_open_gate(world: World) -> None:
    world.evidence = dossier(without=WITHOUT_BEN)
    listed = run(review, *ABOUT)
    assert listed.stdout.splitlines()[1] == "  pkg:pypi/msgspec - → 0.20.0: new"
    assert json.loads(run(review, *ABOUT, "--json").stdout)["diffs"][0]["changes"][0]["why"] == "new"
    made = run(review, *ABOUT, "--accept", "pkg:pypi/msgspec", "--reason", "small", *key_of(world))
    assert made.stdout.startswith(f"reviewed by key {world.public.fingerprint}: statement sha256:")
    said = json.loads(run(approve, *ABOUT, "--reason", "1.4.0", "--json", *key_of(world)).stdout)
    assert said["schema_version"] == 1
    assert said["statement"] in {one.statement.digest for one in world.evidence.attestations}
    ran = run(gate, *ABOUT)
    assert (ran.exit_code, "1 of 2 approvals" in ran.stdout) == (1, True)
    assert kinds(world) == ["evidence", "approval", "decision"]


def test_what_would_be_signed_is_shown_and_not_signed(world: World) -> None:
    for command, more in ((approve, ()), (review, ("--accept", "pkg:pypi/msgspec"))):
        ran = run(command, *ABOUT, "--reason", "x", "--dry-run", *more)
        assert json.loads(ran.stdout)["subject"][0]["digest"]["sha256"] == IMAGE.removeprefix("sha256:")
    assert (kinds(world), world.shelf.laid) == ([], [])


def test_what_does_not_count_is_not_written(world: World) -> None:
    with pytest.raises(DoesNotCountError):
        run(approve, *ABOUT, "--reason", "x", "--author", "ben@home.example", *key_of(world))
    assert (kinds(world), world.shelf.laid) == ([], [])


def test_without_a_diff_there_is_nothing_to_review(world: World) -> None:
    world.evidence = dossier(without=("diff",))
    with pytest.raises(CallerError, match="Expected one diff"):
        run(review, *ABOUT, "--accept", "pkg:pypi/x", "--reason", "x", *key_of(world))


def test_a_revoked_image_is_blocked(world: World) -> None:
    ran = run(revoke, IMAGE, "--what", "image", "--reason", "broken into", "--actor", "ana")
    assert ran.stdout == f"revoked the image {IMAGE}: entry 3\n"
    said = json.loads(run(revoke, digest_of(b"key"), "--what", "key", "--reason", "lost", "--json").stdout)
    assert (said["schema_version"], said["index"]) == (1, 4)
    assert run(gate, *ABOUT).exit_code == 1


def test_a_tag_is_no_digest(world: World) -> None:
    with pytest.raises(DigestError):
        run(gate, "latest", *ABOUT[1:])
    with pytest.raises(DigestError):
        run(revoke, "latest", "--what", "image", "--reason", "x")


def test_flags_come_before_the_settings(world: World) -> None:
    with pytest.raises(PolicyMismatchError):
        run(gate, *ABOUT, "--policy-digest", digest_of(b"reviewed"))
    with pytest.raises(CallerError):
        run(gate, *ABOUT, "--policy", str(world.folder / "none.toml"))
    run(gate, *ABOUT, "--config", "pratique.toml")
    assert world.opened_with[-1] == Path("pratique.toml")


def test_who_runs_it_is_the_actor_and_a_user_without_a_name_is_unknown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError(1000)

    monkeypatch.setattr("getpass.getuser", nameless)
    run(gate, *ABOUT)
    assert world.book.written[-1].actor == "unknown"
