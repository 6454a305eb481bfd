"""The team's house: folder, checkout, keys, servers; and what is done for every release."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.release_drill.desk import Desk, expect
from benchmarks.release_drill.parts import (
    podman_words,
    running_containers,
    serving,
    serving_registry,
    webhook,
)
from benchmarks.release_drill.texts import (
    OLD_RECORDS,
    VULNERABLE,
    Pace,
    Places,
    approved_text,
    config_text,
    lock_text,
    policy_text,
)

from pratique.fleet.targets.local import LocalTarget
from pratique.testkit.ports import reserved_port

__all__ = ["Shop", "failed_rules", "open_shop"]

_SERVICE: Final = Path(__file__).parent / "service"
_SIGNERS: Final = ("builder", "scanner", "rollout", "ana", "ben")


@dataclass
class Shop:
    """What the story works with."""

    desk: Desk
    places: Places
    pace: Pace
    bases: Path
    alerts_url: str
    alerts: list[dict[str, object]]
    images: dict[str, str] = field(default_factory=dict)
    """Digests, by what the story calls them."""

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        return self.desk.folder

    @property
    def config(self) -> tuple[str, str]:
        """The flag that every command gets."""
        return ("--config", str(self.folder / "pratique.toml"))

    def about(self, name: str) -> tuple[str, ...]:
        """Say which image, in which repository."""
        return (self.images[name], "--repository", self.places.repository, *self.config)

    def key(self, name: str) -> tuple[str, str]:
        """Say who signs."""
        return ("--key", str(self.folder / "keys" / f"{name}.key"))

    def commit(self, message: str) -> None:
        """Commit what is in the checkout."""
        identity = ("-c", "user.name=Chi", "-c", "user.email=chi@team.example")
        self.desk.run("git", "-C", "source", "add", "--all")
        self.desk.run("git", "-C", "source", *identity, "commit", "--quiet", "--message", message)

    def import_advisories(self, now: str) -> None:
        """Make the database of what the feed has."""
        self.desk.pratique("advisories", "import", "feed", "--as-of", now, *self.config)

    def build(self, name: str) -> str:
        """Build what is committed, push it, and return its digest."""
        words = ["build", "--context", "source", "--output", f"build-{name}", "--lock", "requirements.txt"]
        for base, argument, reference in zip(
            ("python", "python-pip"), ("BASE", "DEPS_BASE"), self.places.bases, strict=True
        ):
            words += ["--base", str(self.bases / base / "image"), "--build-arg", f"{argument}={reference}"]
        words += ["--secret", f"pip.conf={self.folder}/pip.conf", "--source", "https://git.example/team/names"]
        told = self.desk.pratique(*words, "--push", self.places.repository, *self.config, "--json").told
        self.images[name] = str(told["image"])
        return self.images[name]

    def prove(self, name: str, *, baseline: str | None) -> None:
        """Collect the evidence about an image, sign it, and sign the image."""
        out = f"evidence-{name}"
        against = ["--first"]
        if baseline is not None:
            sbom = f"evidence-{baseline}/sbom.json"
            against = ["--baseline", self.images[baseline], "--baseline-sbom", sbom]
        words = ["evidence", "collect", f"build-{name}/image", "--repository", self.places.repository]
        words += ["--output", out, "--record", f"build-{name}/build-record.json", "--author", "chi@team.example"]
        self.desk.pratique(*words, *against, *self.config)
        kinds = ("sbom", "dependencies", "hygiene", "provenance")
        self._attach([f"{out}/{kind}.json" for kind in kinds], "builder")
        self._attach([f"{out}/vulnerabilities.json"], "scanner")
        self.desk.pratique("sign", *self.about(name), *self.key("builder"))

    def scan_again(self, name: str) -> None:
        """Look an image up in the database of now."""
        words = ["evidence", "collect", f"build-{name}/image", "--repository", self.places.repository]
        words += ["--sbom", f"evidence-{name}/sbom.json", "--no-hygiene", "--output", f"scan-{name}"]
        self.desk.pratique(*words, *self.config)
        self._attach([f"scan-{name}/vulnerabilities.json"], "scanner")

    def agree(self, name: str, reason: str) -> list[str]:
        """Review the changed dependencies, and approve by two people; return the packages that were accepted.

        Before, the gate is asked: it has to block what nobody approved.
        """
        asked = (*self.about(name), "--environment", "production")
        decision = self.desk.pratique("gate", *asked, "--json", code=1).told
        expect(holds="approvals" in failed_rules(decision), what="nothing ships that nobody approved")
        listed = self.desk.pratique("review", *asked, "--json").told
        packages = [str(one["change"]["package"]) for diff in listed["diffs"] for one in diff["changes"]]
        if packages:
            accepted = [word for one in packages for word in ("--accept", one)]
            self.desk.pratique("review", *asked, *accepted, "--reason", reason, *self.key("ben"))
        for person in ("ana", "ben"):
            self.desk.pratique("approve", *asked, "--reason", reason, *self.key(person))
        return packages

    def _attach(self, files: list[str], signer: str) -> None:
        self.desk.pratique(
            "evidence", "attach", *files, "--repository", self.places.repository, *self.config, *self.key(signer)
        )


def failed_rules(decision: Any) -> list[str]:  # noqa: ANN401 - the JSON of a command
    """Return the rules of a gate's decision that did not pass."""
    return [str(one["rule"]) for one in decision["rules"] if one["outcome"] != "pass"]


@contextlib.contextmanager
def open_shop(desk: Desk, pace: Pace, bases: Path) -> Iterator[Shop]:
    """Set everything up and start the servers; take it down at the end."""
    folder = desk.folder
    with contextlib.ExitStack() as kept:
        ports = [kept.enter_context(reserved_port()) for _ in range(6)]
        images = tuple(_base(desk, bases, name, packages) for name, packages in _BASES.items())
        keys = {name: _make_key(desk, name) for name in _SIGNERS}
        upstream = kept.enter_context(serving_registry(folder, ports[0]))
        words = ("registry", "serve", "--upstream", upstream, "--state-dir", str(folder / "front"), "--port", "0")
        front = kept.enter_context(serving(folder, "front", *words))
        places = Places(
            folder=str(folder),
            registry=front.removeprefix("http://"),
            mirror_port=ports[1],
            target_ports=(ports[2], ports[3], ports[4], ports[5]),
            podman=podman_words(folder),
            keys=keys,
            bases=(f"localhost/pratique/python@{images[0]}", f"localhost/pratique/python-pip@{images[1]}"),
        )
        _write_house(folder, places, pace)
        config = ("--config", str(folder / "pratique.toml"))
        desk.pratique("policy", "check", "promotion.toml")
        desk.pratique("mirror", "sync", *config)
        kept.enter_context(serving(folder, "mirror", "mirror", "serve", *config))
        url, alerts = kept.enter_context(webhook())
        kept.enter_context(running_containers(folder))
        kept.callback(_close_target, folder)
        desk.run("git", "init", "--quiet", "source")
        yield Shop(desk, places, pace, bases, url, alerts)


_BASES: Final = {
    "python": ("ca-certificates", "python3"),
    "python-pip": ("ca-certificates", "python3", "python3-pip"),
}


def _base(desk: Desk, bases: Path, name: str, packages: tuple[str, ...]) -> str:
    """Make a base of Debian packages where there is none yet; return its digest."""
    record = bases / name / "base-record.json"
    if not record.is_file():
        words = [word for package in packages for word in ("--package", package)]
        desk.pratique("build", "base", "--output", str(bases / name), *words)
    return str(json.loads(record.read_bytes())["image"])


def _make_key(desk: Desk, name: str) -> str:
    (desk.folder / "keys").mkdir(exist_ok=True)
    file = desk.folder / "keys" / f"{name}.key"
    desk.pratique("signing-key", "create", str(file), "--no-password")
    return str(desk.pratique("signing-key", "show", f"{file}.pub", "--json").told["key"])


def _write_house(folder: Path, places: Places, pace: Pace) -> None:
    shutil.copytree(_SERVICE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "feed").mkdir()
    for record in OLD_RECORDS:
        (folder / "feed" / f"{record['id']}.json").write_text(json.dumps(record), encoding="utf-8")
    mirror = f"http://127.0.0.1:{places.mirror_port}/simple/"
    for name, text in {
        "pratique.toml": config_text(places, pace),
        "promotion.toml": policy_text(places, pace),
        "approved-packages.toml": approved_text(VULNERABLE),
        "pip.conf": f"[global]\nindex-url = {mirror}\nretries = 1\n",
        "source/requirements.txt": lock_text(VULNERABLE),
    }.items():
        (folder / name).write_text(text, encoding="utf-8")


def _close_target(folder: Path) -> None:
    """End the containers and Envoy: no command does, since what runs in production is to run on."""
    from pratique.cli._signing import release_settings

    LocalTarget(release_settings(folder / "pratique.toml").promotion.targets["production"]).close()
