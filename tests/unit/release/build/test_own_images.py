"""The project's own Dockerfiles keep the rules that it holds others to, and their locks pin everything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pratique.release.build.dockerfile import parse_dockerfile
from pratique.release.build.downloads import hashes_in_lock
from pratique.release.build.rules import BuildRules, find_problems

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[4]
DOCKERFILES = sorted((ROOT / "deploy" / "images").glob("*/Dockerfile"))
RULES = BuildRules(target="runtime", test_stage="test", network_stages=("deps",), contexts=frozenset({"page"}))
ARGUMENTS = dict.fromkeys(("BASE", "DEPS_BASE"), f"localhost/base@sha256:{'0' * 64}")


def test_there_is_the_orchestrators() -> None:
    assert [path.parent.name for path in DOCKERFILES] == ["orchestrator"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_it_keeps_the_rules(path: Path) -> None:
    assert find_problems(parse_dockerfile(path.read_text(encoding="utf-8")), RULES, ARGUMENTS) == ()


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_every_lock_that_is_copied_has_a_hash_for_every_package(path: Path) -> None:
    locks = set(re.findall(r"requirements/[a-z-]+\.txt", path.read_text(encoding="utf-8")))
    assert locks
    for lock in locks:
        text = (ROOT / lock).read_text(encoding="utf-8")
        packages = re.split(r"(?m)^(?=[a-z0-9][a-z0-9._-]*==)", text)[1:]
        assert packages
        assert not [package.split()[0] for package in packages if not hashes_in_lock(package)]
