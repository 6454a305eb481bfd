"""pylock.toml and uv.lock: what is refused, with which rule and in which line."""

from __future__ import annotations

import pytest

from pratique.release.lock.interface import Read
from pratique.release.lock.pylock import read_pylock
from pratique.release.lock.settings import LockSettings
from pratique.release.lock.uvlock import read_uv_lock

pytestmark = pytest.mark.unit

SHA = "a" * 64
URL = "https://files.pythonhosted.org/packages/a-1-py3-none-any.whl"
WHEEL = f'{{ name = "a-1-py3-none-any.whl", url = "{URL}", hashes = {{ sha256 = "{SHA}" }} }}'
LOCAL = WHEEL.replace(f'url = "{URL}"', 'path = "a-1-py3-none-any.whl"')
NO_FILE = 'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "a"\nversion = "1"\nwheels = []'
UV_WHEEL = f'{{ url = "{URL}", hash = "sha256:{SHA}", size = 1 }}'
REGISTRY = 'source = { registry = "https://pypi.org/simple" }'


def pylock(packages: str) -> Read:
    head = 'lock-version = "1.0"\ncreated-by = "test"\n'
    return read_pylock(head + packages, "pylock.toml", LockSettings())


def uv(packages: str, version: int = 1) -> Read:
    return read_uv_lock(f'version = {version}\nrequires-python = ">=3.11"\n' + packages, "uv.lock", LockSettings())


def found_in(read: Read) -> list[tuple[int, str]]:
    return [(problem.line, problem.rule) for problem in read.problems]


@pytest.mark.parametrize(
    ("package", "rule"),
    [
        (f'name = "a"\nwheels = [{WHEEL}]', "floating-version"),
        (f'name = "a"\nversion = "1"\nwheels = [{WHEEL.replace("sha256", "md5")}]', "weak-hash"),
        (f'name = "a"\nversion = "1"\nwheels = [{WHEEL.replace(SHA, "abc")}]', "malformed"),
        (f'name = "a"\nversion = "1"\nwheels = [{WHEEL.replace("pythonhosted", "example")}]', "unlisted-index"),
        (
            f'name = "a"\nversion = "1"\nwheels = [{WHEEL.replace("/packages/", "/../evil/")}]',
            "unlisted-index",
        ),
        (f'name = "a"\nversion = "1"\nwheels = [{LOCAL}]', "local-path"),
        (f'name = "a"\nversion = "1"\nindex = "https://example.org/simple"\nwheels = [{WHEEL}]', "unlisted-index"),
        ('name = "a"\nvcs = { type = "git", url = "https://example.org/a", commit-id = "1" }', "vcs"),
        ('name = "a"\ndirectory = { path = "a" }', "local-path"),
        ('name = "a"\ndirectory = { path = ".", editable = true }', "editable"),
        (f'name = "a"\narchive = {{ url = "{URL}", hashes = {{ sha256 = "{SHA}" }} }}', "direct-url"),
    ],
)
def test_a_pylock_that_does_not_pin_is_refused_with_its_line(package: str, rule: str) -> None:
    good = f'[[packages]]\nname = "b"\nversion = "1"\nwheels = [{WHEEL.replace("a-1", "b-1")}]\n'
    read = pylock(f"{good}[[packages]]\n{package}\n")
    assert found_in(read) == [(7, rule)]
    assert [entry.name for entry in read.entries] == ["b"]


@pytest.mark.parametrize(
    "text", ["= 1", NO_FILE, 'lock-version = "9.0"\ncreated-by = "x"\npackages = []', "packages = 1"]
)
def test_what_is_no_pylock_is_refused(text: str) -> None:
    assert found_in(read_pylock(text, "pylock.toml", LockSettings())) == [(0, "malformed")]


def test_a_pylock_with_everything_pinned_passes() -> None:
    sdist = WHEEL.replace("-py3-none-any.whl", ".tar.gz").replace(SHA, "b" * 64)
    index = 'index = "https://pypi.org/simple/"\nmarker = "sys_platform == \'linux\'"'
    read = pylock(f'[[packages]]\nname = "a"\nversion = "1"\n{index}\nsdist = {sdist}\nwheels = [{WHEEL}]\n')
    assert not read.problems
    assert read.entries[0].hashes == {f"sha256:{SHA}", f"sha256:{'b' * 64}"}
    assert read.entries[0].marker == 'sys_platform == "linux"'


def test_a_pylock_that_lacks_a_dependency_is_refused() -> None:
    needs = 'dependencies = [{ name = "a" }, { name = "gone" }]'
    read = pylock(f'[[packages]]\nname = "a"\nversion = "1"\n{needs}\nwheels = [{WHEEL}]\n')
    assert found_in(read) == [(3, "missing-dependency")]
    assert "a needs gone" in read.problems[0].message


def test_lines_are_not_guessed_where_a_string_looks_like_a_header() -> None:
    read = pylock('[tool]\nx = """\n[[packages]]\n"""\n[[packages]]\nname = "a"\ndirectory = { path = "a" }\n')
    assert found_in(read) == [(0, "local-path")]


@pytest.mark.parametrize(
    ("package", "rule"),
    [
        (f"{REGISTRY}\nwheels = [{UV_WHEEL}]", "floating-version"),
        (f'version = "1"\n{REGISTRY}', "missing-hash"),
        (f'version = "1"\n{REGISTRY}\nsdist = {{ url = "{URL}" }}', "missing-hash"),
        (f'version = "1"\n{REGISTRY}\nwheels = [{UV_WHEEL.replace("sha256", "md5")}]', "weak-hash"),
        (f'version = "1"\n{REGISTRY}\nwheels = [{UV_WHEEL.replace("https", "http")}]', "unlisted-index"),
        (f'version = "1"\n{REGISTRY}\nwheels = [{UV_WHEEL.replace("url =", "path =")}]', "local-path"),
        (f'version = "1"\n{REGISTRY.replace("pypi", "example")}\nwheels = [{UV_WHEEL}]', "unlisted-index"),
        (f'version = "1"\nsource = {{ git = "https://example.org/a?rev=1#1" }}\nwheels = [{UV_WHEEL}]', "vcs"),
        (f'version = "1"\nsource = {{ url = "{URL}" }}\nwheels = [{UV_WHEEL}]', "direct-url"),
        (f'version = "1"\nsource = {{ path = "a.whl" }}\nwheels = [{UV_WHEEL}]', "local-path"),
        (f'version = "1"\nsource = {{ directory = "../a" }}\nwheels = [{UV_WHEEL}]', "local-path"),
        (f'version = "1"\nsource = {{ editable = "../a" }}\nwheels = [{UV_WHEEL}]', "editable"),
    ],
)
def test_a_uv_lock_that_does_not_pin_is_refused_with_its_line(package: str, rule: str) -> None:
    good = f'[[package]]\nname = "b"\nversion = "1"\n{REGISTRY}\nwheels = [{UV_WHEEL}]\n'
    read = uv(f'{good}[[package]]\nname = "a"\n{package}\n')
    assert found_in(read) == [(8, rule)]
    assert [entry.name for entry in read.entries] == ["b"]


@pytest.mark.parametrize(
    "text", ["= 1", "version = 2", "version = true", 'version = 1\n[[package]]\nname = "a"\nsource = { other = "x" }']
)
def test_what_is_no_uv_lock_is_refused(text: str) -> None:
    assert found_in(read_uv_lock(text, "uv.lock", LockSettings())) == [(0, "malformed")]


def test_a_uv_lock_of_a_project_passes_and_the_checkout_needs_no_hash() -> None:
    own = '[[package]]\nname = "own"\nversion = "0"\nsource = { editable = "." }\ndependencies = [{ name = "A" }]\n'
    markers = "resolution-markers = [\"sys_platform == 'linux'\"]"
    other = f'[[package]]\nname = "a"\nversion = "1"\n{REGISTRY}\n{markers}\nwheels = [{UV_WHEEL}]\n'
    read = uv(own + other)
    assert not read.problems
    assert [(entry.name, entry.marker) for entry in read.entries] == [("a", "(sys_platform == 'linux')")]


def test_a_uv_lock_that_lacks_a_dependency_is_refused() -> None:
    needs = (
        '[package.optional-dependencies]\nx = [{ name = "gone" }]\n[package.dev-dependencies]\ndev = [{ name = "b" }]'
    )
    read = uv(f'[[package]]\nname = "a"\nversion = "1"\n{REGISTRY}\nwheels = [{UV_WHEEL}]\n{needs}\n')
    assert found_in(read) == [(3, "missing-dependency"), (3, "missing-dependency")]
