"""The installer of npm packages, with an npm of the test's own: the lock, failures, what is done already."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from pratique.testkit.errors import ServiceMissingError, ToolsInstallError
from pratique.testkit.tools import install
from pratique.testkit.tools.install import install_npm_packages, is_installed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.unit


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def put(script: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin{os.pathsep}/usr/bin")

    return put


def test_the_lock_has_a_hash_for_every_package_and_names_no_registry() -> None:
    lock = json.loads((files("pratique.testkit.tools") / "package-lock.json").read_text())
    wanted = json.loads((files("pratique.testkit.tools") / "package.json").read_text())["dependencies"]
    packages = {name: one for name, one in lock["packages"].items() if name}
    assert all(one["integrity"].startswith("sha512-") for one in packages.values())
    assert "://" not in json.dumps(lock)
    assert lock["packages"][""]["dependencies"] == wanted
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted


def test_packages_are_installed_once(npm: Callable[[str], None], tmp_path: Path) -> None:
    npm('echo "$@" >> calls; mkdir -p node_modules')
    folder = tmp_path / "cache" / "tools"
    assert not is_installed(folder)
    assert install_npm_packages(folder)
    assert not install_npm_packages(folder)
    assert (folder / "calls").read_text().splitlines() == ["ci --ignore-scripts --no-fund --no-audit --loglevel=error"]
    (folder / "node_modules" / ".pratique-lock-digest").write_text("of another version")
    assert install_npm_packages(folder)


def test_a_failure_of_npm_is_told_with_its_last_words_and_leaves_nothing_done(
    npm: Callable[[str], None], tmp_path: Path
) -> None:
    npm("seq 100; echo the registry is away >&2; exit 7")
    with pytest.raises(ToolsInstallError, match=r"exit code 7:\n(?s:.*)the registry is away") as caught:
        install_npm_packages(tmp_path)
    assert len(str(caught.value).splitlines()) < 20
    assert not is_installed(tmp_path)


def test_an_npm_that_hangs_is_given_up(
    npm: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm("exec sleep 20")
    monkeypatch.setattr(install, "_SECONDS", 0.05)
    with pytest.raises(ToolsInstallError, match="was not done after"):
        install_npm_packages(tmp_path)


def test_without_npm_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServiceMissingError, match="apt-get install nodejs npm"):
        install_npm_packages(tmp_path)


def test_a_folder_that_cannot_be_made_is_told(npm: Callable[[str], None], tmp_path: Path) -> None:
    npm("true")
    (tmp_path / "file").touch()
    with pytest.raises(ToolsInstallError, match="PRATIQUE_TESTKIT_TOOLS"):
        install_npm_packages(tmp_path / "file" / "tools")
