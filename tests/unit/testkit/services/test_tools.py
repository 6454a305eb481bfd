"""Where programs and packages are looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pratique.testkit.errors import ServiceMissingError
from pratique.testkit.services.tools import find_npm_file, find_program, find_python_package, tools_folder

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRATIQUE_TESTKIT_TOOLS", str(tmp_path / "tools"))
    return tmp_path / "tools"


def put(folder: Path, name: str) -> Path:
    file = folder / "node_modules" / "package" / name
    file.parent.mkdir(parents=True)
    file.touch()
    return file


def test_npm_file_of_the_project_wins_over_that_of_the_tools(tmp_path: Path, tools: Path) -> None:
    above, inner = put(tmp_path / "project", "a-1.jar"), tmp_path / "project" / "tests"
    inner.mkdir()
    far = put(tools, "a-2.jar")
    assert find_npm_file("package", "a-*.jar", start=inner) == above
    assert find_npm_file("package", "a-*.jar", start=tmp_path) == far


@pytest.mark.parametrize(
    ("older", "newer"),
    [("a-3.9.0.jar", "a-3.13.2.jar"), ("a-3.13.2-beta.jar", "a-3.13.2.jar"), ("a-9.jar", "a-10.0.jar")],
)
def test_of_several_versions_the_newest_is_taken(tmp_path: Path, older: str, newer: str) -> None:
    found = put(tmp_path, newer)
    found.with_name(older).touch()
    assert find_npm_file("package", "a-*.jar", start=tmp_path) == found


def test_npm_package_that_is_nowhere_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServiceMissingError, match=r"'package' is not installed.*npm install --save-dev package"):
        find_npm_file("package", "a.jar")


def test_program_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "registry"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program("registry", hint="") == program
    with pytest.raises(ServiceMissingError, match=r"'other' is not on the path Hint: get it"):
        find_program("other", hint="get it")


def test_python_package() -> None:
    assert find_python_package("pytest", extra="testkit")
    with pytest.raises(ServiceMissingError, match=r'pip install "pratique\[testkit\]"'):
        find_python_package("no-such-package-here", extra="testkit")


def test_tools_are_in_the_cache_unless_a_folder_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tools_folder() == tmp_path / "tools"
    monkeypatch.delenv("PRATIQUE_TESTKIT_TOOLS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tools_folder() == tmp_path / "pratique" / "testkit-tools"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tools_folder() == tmp_path / ".cache" / "pratique" / "testkit-tools"
