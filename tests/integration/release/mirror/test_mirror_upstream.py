"""The upstream over HTTP: what it may do to us, and facts for a check, with advisories and a base from Git."""

from __future__ import annotations

import hashlib
import http.server
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pratique.core.errors import CallerError
from pratique.release.advisories.importing import ImportRequest, import_advisories
from pratique.release.mirror.checking import CheckRequest, CheckResult, check_change
from pratique.release.mirror.errors import UpstreamError
from pratique.release.mirror.interface import IndexFile
from pratique.release.mirror.settings import MirrorSettings
from pratique.release.mirror.sources import HttpIndex

pytestmark = pytest.mark.integration

NOW = datetime(2024, 6, 1, tzinfo=UTC)
METADATA = b"Name: alpha\nVersion: 1.0\nLicense-Expression: MIT\n"
Answers = dict[str, tuple[int, dict[str, str], bytes]]


@pytest.fixture
def answers() -> Answers:
    return {}


@pytest.fixture
def address(answers: Answers) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def index(address: str) -> HttpIndex:
    return HttpIndex(MirrorSettings(upstream=f"{address}/simple/", max_file_bytes=100, read_seconds=2.0))


def page(**changes: object) -> bytes:
    file = {
        "filename": "alpha-1.0-py3-none-any.whl",
        "url": "/f/alpha-1.0-py3-none-any.whl",
        "hashes": {"sha256": "a" * 64},
        "upload-time": "2024-01-01T00:00:00Z",
        "core-metadata": {"sha256": hashlib.sha256(METADATA).hexdigest()},
    }
    return json.dumps({"meta": {"api-version": "1.1"}, "name": "alpha", "files": [file | changes]}).encode()


def test_a_page_is_found_where_redirects_lead(index: HttpIndex, answers: Answers) -> None:
    answers["/simple/alpha/"] = (301, {"Location": "/other/"}, b"")
    answers["/other/"] = (200, {}, page(url="x.whl"))
    found = index.project("alpha")
    assert found is not None
    assert found.files[0].url.endswith("/other/x.whl")
    assert index.project("unknown") is None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((500, {}, b""), "answered 500"),
        ((302, {"Location": "/simple/alpha/"}, b""), "redirects more than"),
        ((302, {"Location": "file:///etc/passwd"}, b""), "is not asked"),
        ((302, {"Location": "http://192.0.2.1/"}, b""), "is not asked"),
        ((200, {"Content-Length": "9999"}, b"{}"), "does not answer"),
        ((200, {}, b"<html>"), "expected a page"),
    ],
)
def test_an_upstream_that_does_not_keep_to_the_rules_is_told(
    index: HttpIndex, answers: Answers, answer: tuple[int, dict[str, str], bytes], said: str
) -> None:
    answers["/simple/alpha/"] = answer
    with pytest.raises(UpstreamError, match=said):
        index.project("alpha")


def test_a_file_is_read_up_to_its_limit(index: HttpIndex, answers: Answers, address: str) -> None:
    answers["/f"], answers["/large"] = (200, {}, b"x" * 100), (200, {}, b"x" * 101)
    assert b"".join(index.read(IndexFile(filename="f", url=f"{address}/f"))) == b"x" * 100
    for url in ("/large", "/gone"):
        with pytest.raises(UpstreamError):
            b"".join(index.read(IndexFile(filename="f", url=address + url)))


def test_an_upstream_over_tls_leads_nowhere_without() -> None:
    with pytest.raises(UpstreamError, match="only https"):
        b"".join(HttpIndex(MirrorSettings()).read(IndexFile(filename="f", url="http://127.0.0.1:1/f")))


Check = Callable[[str], CheckResult]


@pytest.fixture
def check(tmp_path: Path, address: str, answers: Answers) -> Check:
    (tmp_path / "osv").mkdir()
    record = {
        "id": "PYSEC-2024-1",
        "modified": "2024-05-01T00:00:00Z",
        "summary": "a hole",
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "alpha"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "0.9"}]}],
            }
        ],
    }
    (tmp_path / "osv" / "PYSEC-2024-1.json").write_text(json.dumps(record), encoding="utf-8")
    database = tmp_path / "advisories.db"
    import_advisories(ImportRequest(sources=(tmp_path / "osv",), database=database, now=NOW), say=lambda _line: None)
    answers["/simple/alpha/"] = (200, {}, page())
    answers["/f/alpha-1.0-py3-none-any.whl.metadata"] = (200, {}, METADATA)
    settings = MirrorSettings(approved=tmp_path / "approved.toml", upstream=f"{address}/simple/")
    (tmp_path / "approved.toml").write_text(
        'schema = 1\n[[package]]\nname = "alpha"\nlicence = "MIT"\napproved_by = "ann"\napproved_on = 2024-05-02\n'
        'reason = "a test"\n[[package.version]]\nversion = "1.0"\n'
        f'files = {{ "alpha-1.0-py3-none-any.whl" = "sha256:{"a" * 64}" }}\n',
        encoding="utf-8",
    )
    return lambda base: check_change(settings, CheckRequest(base=base, facts=None, database=database, now=NOW))


def test_a_good_release_is_allowed_by_what_index_and_advisories_say(check: Check) -> None:
    result = check("")
    assert (result.verdict, result.num_new_files) == ("allowed", 1)
    assert [(one.level, one.rule) for one in result.findings] == [("note", "maintainers")]


def test_a_vulnerable_release_is_refused(check: Check, tmp_path: Path, answers: Answers) -> None:
    file = tmp_path / "approved.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("1.0", "0.5"), encoding="utf-8")
    answers["/simple/alpha/"] = (200, {}, page(filename="alpha-0.5-py3-none-any.whl"))
    assert "vulnerable" in {one.rule for one in check("").findings if one.level == "refused"}


def test_metadata_that_are_not_what_the_page_says_are_not_believed(check: Check, answers: Answers) -> None:
    answers["/f/alpha-1.0-py3-none-any.whl.metadata"] = (200, {}, METADATA.replace(b"MIT", b"ISC"))
    assert ("note", "licence") in [(one.level, one.rule) for one in check("").findings]


def test_a_base_in_git_is_what_was_approved_before(check: Check, tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=One", "-c", "user.email=one@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    with pytest.raises(CallerError, match="there is no approved"):
        check("HEAD")
    subprocess.run([*git, "add", "approved.toml"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "Approve"], check=True)
    result = check("HEAD")
    assert (result.verdict, result.num_new_files) == ("allowed", 0)
