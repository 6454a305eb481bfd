"""Real pip and uv install through the served mirror: what is approved installs, and nothing else does."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

VERSIONS = {"alpha": "1.0", "beta": "1.0", "typing-helpers": "1.0", "alpa": "1.0", "acme-secrets": "9.9", "old": "1.0"}


def make_wheel(folder: Path, name: str, version: str, body: str = "") -> Path:
    """Write a wheel with one module."""
    module = name.replace("-", "_")
    path = folder / f"{module}-{version}-py3-none-any.whl"
    info = f"{module}-{version}.dist-info"
    metadata = (
        f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nRequires-Python: >=3.8\nLicense-Expression: MIT\n"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}.py", body or f"VERSION = '{version}'\n")
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class Upstream:
    """An index that answers in JSON, as PyPI does; its files can be changed under way."""

    files: dict[str, Path] = field(default_factory=dict)
    yanked: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        upstream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.asked.append(self.path)
                parts = self.path.strip("/").split("/")
                body = upstream.page(parts[1]) if parts[0] == "simple" else upstream.file(parts[1])
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
                pass

        return Handler

    def page(self, name: str) -> bytes | None:
        files = [path for key, path in self.files.items() if key == name]
        if not files:
            return None
        rows = [
            {
                "filename": path.name,
                "url": f"../../files/{path.name}",
                "hashes": {"sha256": sha256(path)},
                "yanked": self.yanked.get(name, False),
                "upload-time": "2024-01-02T03:04:05.000000Z",
                "size": path.stat().st_size,
            }
            for path in files
        ]
        return json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": rows, "versions": []}).encode()

    def file(self, name: str) -> bytes | None:
        return next((path.read_bytes() for path in self.files.values() if path.name == name), None)


@dataclass
class Mirror:
    """A mirror with its files, and the clients that install through it."""

    folder: Path
    upstream: Upstream
    upstream_url: str
    url: str = ""
    process: subprocess.Popen[str] | None = None

    @property
    def approved(self) -> Path:
        return self.folder / "approved-packages.toml"

    @property
    def config(self) -> Path:
        return self.folder / "settings.toml"

    def approve(self, *names: str, private: str = "", digests: dict[str, str] | None = None) -> None:
        text = f'schema = 1\n[names]\nprivate = ["acme-*"{private}]\npopular = ["alpha"]\n'
        for name in names:
            path = self.upstream.files[name]
            digest = (digests or {}).get(name, sha256(path))
            text += (
                f'[[package]]\nname = "{name}"\nlicence = "MIT"\napproved_by = "ann"\napproved_on = 2024-02-03\n'
                f'reason = "a test"\n[[package.version]]\nversion = "{VERSIONS[name]}"\n'
                f'files = {{ "{path.name}" = "sha256:{digest}" }}\n'
            )
        self.approved.write_text(text, encoding="utf-8")

    def pratique(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pratique.cli.main", "mirror", *words, "--config", str(self.config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def start(self) -> None:
        command = [sys.executable, "-m", "pratique.cli.main", "mirror", "serve", "--port", "0", "--config"]
        log = (self.folder / "log").open("w")
        self.process = subprocess.Popen([*command, str(self.config)], stdout=subprocess.PIPE, stderr=log, text=True)
        log.close()
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().removeprefix("listening on ").strip()

    def stop(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process.stdout.close()

    def _run(self, client: str, command: list[str], lines: tuple[str, ...]) -> tuple[int, str]:
        lock = self.folder / "lock.txt"
        lock.write_text("\n".join(lines), encoding="utf-8")
        target = self.folder / f"target-{client}"
        environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
        environment = {key: value for key, value in environment.items() if "INDEX" not in key}
        done = subprocess.run(
            [*command, "--index-url", self.url, "--target", str(target), "-r", str(lock)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment,
            cwd=self.folder,
        )
        return done.returncode, done.stdout + done.stderr

    def pip(self, *lines: str, verbose: bool = False) -> tuple[int, str]:
        words = [
            "install",
            "--isolated",
            "--no-cache-dir",
            "--disable-pip-version-check",
            "--no-deps",
            "--retries",
            "0",
        ]
        hashed = ["--require-hashes"] if any("--hash" in line for line in lines) else []
        return self._run("pip", [sys.executable, "-m", "pip", *words, *hashed, *(["-vv"] if verbose else [])], lines)

    def uv(self, *lines: str) -> tuple[int, str]:
        uv = str(Path(sys.executable).with_name("uv"))
        words = ["pip", "install", "--no-cache", "--no-deps", "--require-hashes", "--python", sys.executable]
        return self._run("uv", [uv, *words], lines)

    def line(self, name: str) -> str:
        return f"{name}=={VERSIONS[name]} --hash=sha256:{sha256(self.upstream.files[name])}"

    def stored(self, name: str) -> Path:
        digits = sha256(self.upstream.files[name])
        return self.folder / "store" / "sha256" / digits[:2] / digits


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    upstream = Upstream()
    (tmp_path / "upstream").mkdir()
    for name, version in VERSIONS.items():
        upstream.files[name] = make_wheel(tmp_path / "upstream", name, version)
    upstream.yanked["old"] = "breaks <everything>"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), upstream.handler())
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/simple/"
    made = Mirror(tmp_path, upstream, url)
    made.config.write_text(
        f'[release.mirror]\napproved = "{made.approved}"\nstore = "{tmp_path / "store"}"\nupstream = "{url}"\n'
        'how_to_ask = "Ask by a pull request."\n',
        encoding="utf-8",
    )
    yield made
    made.stop()
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_is_approved_installs_with_pip_and_uv_by_hash(mirror: Mirror) -> None:
    mirror.approve("alpha", "beta")
    assert mirror.pratique("sync").returncode == 0
    mirror.start()
    lines = (mirror.line("alpha"), mirror.line("beta"))
    for client, install in (("pip", mirror.pip), ("uv", mirror.uv)):
        code, said = install(*lines)
        assert code == 0, said
        assert (mirror.folder / f"target-{client}" / "alpha.py").read_text(encoding="utf-8") == "VERSION = '1.0'\n"


def test_what_is_not_approved_does_not_install_and_is_explained(mirror: Mirror) -> None:
    mirror.approve("alpha")
    assert mirror.pratique("sync").returncode == 0
    mirror.start()
    for name, code in (("beta", "not-approved"), ("alpa", "looks-like"), ("acme-secrets", "private")):
        for install in (mirror.pip, mirror.uv):
            status, said = install(mirror.line(name))
            assert status != 0
            assert name in said
        explained = mirror.pratique("explain", name)
        assert explained.returncode == 1
        assert explained.stdout.startswith(f"{code}: ")
    _, said = mirror.pip(mirror.line("beta"), verbose=True)
    assert "404 Client Error" in said  # pip shows the status of an index's answer, and never its body
    assert not [path for path in mirror.upstream.asked if "acme" in path or "beta" in path]


def test_a_name_of_ours_never_comes_from_the_upstream(mirror: Mirror, tmp_path: Path) -> None:
    theirs = mirror.upstream.files["acme-secrets"]
    (tmp_path / "built").mkdir()
    ours = make_wheel(tmp_path / "built", "acme-secrets", "9.9", "OURS = True\n")
    mirror.approve("alpha", "acme-secrets", digests={"acme-secrets": sha256(ours)})
    assert mirror.pratique("sync").returncode == 0
    assert not [path for path in mirror.upstream.asked if "acme" in path]
    assert mirror.pratique("sync", "--from", str(ours.parent)).returncode == 0
    mirror.start()
    line = f"acme-secrets==9.9 --hash=sha256:{sha256(ours)}"
    code, said = mirror.pip(line)
    assert code == 0, said
    assert "OURS" in (mirror.folder / "target-pip" / "acme_secrets.py").read_text(encoding="utf-8")
    assert sha256(theirs) != sha256(ours)


def test_a_file_that_was_changed_in_the_store_is_not_served(mirror: Mirror) -> None:
    mirror.approve("alpha")
    assert mirror.pratique("sync").returncode == 0
    mirror.start()
    stored = mirror.stored("alpha")
    content = bytearray(stored.read_bytes())
    content[50] ^= 1
    stored.write_bytes(content)
    # Before the recheck finds it the download is refused, afterwards the page: pip shows the latter with -vv only.
    code, said = mirror.pip(mirror.line("alpha"), verbose=True)
    assert code != 0
    assert "410 Client Error" in said
    assert "mirror_file_tampered" in (mirror.folder / "log").read_text(encoding="utf-8")
    assert mirror.pratique("explain", "alpha==1.0").stdout.startswith("tampered: ")


def test_a_release_that_was_replaced_upstream_is_refused_and_the_old_one_stays(mirror: Mirror) -> None:
    mirror.approve("alpha")
    good = mirror.line("alpha")
    assert mirror.pratique("sync").returncode == 0
    make_wheel(mirror.upstream.files["alpha"].parent, "alpha", "1.0", "EVIL = True\n")
    again = mirror.pratique("sync")
    assert again.returncode == 1
    assert "refused" in again.stderr
    assert "mirror_hash_differs" in again.stderr
    mirror.start()
    code, said = mirror.pip(good)
    assert code == 0, said


def test_a_yanked_release_installs_only_by_its_version_and_pip_says_why(mirror: Mirror) -> None:
    mirror.approve("old")
    assert mirror.pratique("sync").returncode == 0
    mirror.start()
    code, said = mirror.pip("old")
    assert code != 0
    assert "No matching distribution" in said
    code, said = mirror.pip(mirror.line("old"))
    assert code == 0, said
    assert "breaks <everything>" in said


def test_what_is_taken_back_is_gone_at_once(mirror: Mirror) -> None:
    mirror.approve("alpha", "beta")
    assert mirror.pratique("sync").returncode == 0
    mirror.start()
    mirror.approve("beta")
    assert mirror.pip(mirror.line("alpha"))[0] != 0
    mirror.approved.write_text("schema = 1\nnonsense = true\n", encoding="utf-8")
    assert mirror.pip(mirror.line("beta"))[0] != 0
