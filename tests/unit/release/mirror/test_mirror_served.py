"""Sync from a source in memory, and what the application then answers."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.unit.release.mirror.approved_text import OTHER, WHEEL, document, package

from pratique.release.mirror.app import make_app
from pratique.release.mirror.errors import ApprovedFileError, UpstreamError
from pratique.release.mirror.index import JSON_TYPE
from pratique.release.mirror.interface import IndexFile, IndexProject
from pratique.release.mirror.metadata import field_of, licence_of, metadata_of_wheel
from pratique.release.mirror.settings import MirrorSettings
from pratique.release.mirror.shelf import Shelf, load_approved, read_approved
from pratique.release.mirror.sources import FolderSource
from pratique.release.mirror.store import MirrorStore
from pratique.release.mirror.sync import SyncReport, SyncRequest, sync
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit

METADATA = (
    b"Metadata-Version: 2.4\nName: alpha\nVersion: 1.0\nRequires-Python: >=3.8\nLicense-Expression: MIT\n\nText\n"
)
DAY = datetime(2024, 1, 1, tzinfo=UTC)


def add(archive: zipfile.ZipFile, name: str, content: bytes | str) -> None:
    archive.writestr(zipfile.ZipInfo(name), content)  # without the time of now: the file has one digest


def wheel(*, metadata: bytes | None = METADATA, twice: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        add(archive, "alpha.py", "")
        if metadata is not None:
            add(archive, "alpha-1.0.dist-info/METADATA", metadata)
        if twice:
            add(archive, "beta-1.0.dist-info/METADATA", metadata or b"")
    return out.getvalue()


CONTENT = wheel()
DIGEST = digest_of(CONTENT)
SHA = DIGEST.removeprefix("sha256:")


@dataclass
class MemorySource:
    """An upstream whose answers a test sets."""

    name: str = "memory"
    files: dict[str, IndexFile] = field(default_factory=dict)
    content: bytes = CONTENT
    asked: list[str] = field(default_factory=list)

    def offer(self, **changes: Any) -> None:
        plain: dict[str, Any] = {"filename": WHEEL, "url": "u", "digest": DIGEST, "uploaded_at": DAY}
        self.files["alpha"] = IndexFile(**(plain | changes))

    def project(self, name: str) -> IndexProject | None:
        self.asked.append(name)
        if name not in self.files:
            return None
        return IndexProject(name=name, files=(self.files[name],))

    def read(self, file: IndexFile) -> Iterator[bytes]:
        if not self.content:
            raise UpstreamError("gone")
        yield self.content


@dataclass
class Place:
    """A mirror in a folder."""

    settings: MirrorSettings
    source: MemorySource

    @property
    def store(self) -> MirrorStore:
        return MirrorStore(self.settings.store)

    def approve(self, *packages: str, names: str = "") -> None:
        self.settings.approved.write_text(document(*packages, names=names), encoding="utf-8")

    def sync(self, *, is_upstream: bool = True, is_dry_run: bool = False) -> SyncReport:
        request = SyncRequest(is_upstream=is_upstream, is_dry_run=is_dry_run)
        said: list[str] = []
        return sync(load_approved(self.settings.approved), self.source, self.store, request, say=said.append)

    def verdicts(self, **request: bool) -> list[str]:
        return [one.verdict for one in self.sync(**request).outcomes]

    def spoil(self) -> None:
        path = self.store.path_of(DIGEST)
        path.write_bytes(CONTENT[:-1] + b"x")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    settings = MirrorSettings(approved=tmp_path / "approved.toml", store=tmp_path / "store", how_to_ask="Ask us.")
    made = Place(settings, MemorySource())
    made.source.offer()
    made.approve(package(sha=SHA))
    return made


def test_what_is_approved_is_brought_once_with_its_own_metadata(place: Place) -> None:
    assert place.verdicts(is_dry_run=True) == ["would-add"]
    assert not place.store.read_state().files
    assert place.verdicts() == ["added"]
    assert place.verdicts() == ["present"]
    (stored,) = place.store.read_state().files.values()
    assert (stored.size_bytes, stored.requires_python, stored.uploaded_at) == (len(CONTENT), ">=3.8", DAY)
    assert stored.metadata == digest_of(METADATA)


def test_another_hash_upstream_is_refused_and_what_is_here_stays(place: Place) -> None:
    assert place.verdicts() == ["added"]
    place.source.offer(digest=f"sha256:{OTHER}")
    report = place.sync()
    assert report.is_refused
    assert [one.verdict for one in report.outcomes] == ["refused"]
    assert list(place.store.read_state().files) == [DIGEST]


def test_other_bytes_than_the_index_says_are_refused(place: Place) -> None:
    place.source.content = wheel(metadata=None)
    assert place.verdicts() == ["refused"]
    assert not place.store.read_state().files


def test_a_source_without_hashes_is_held_to_the_approved_one(place: Place) -> None:
    place.source.offer(digest=None)
    assert place.verdicts() == ["added"]


def test_a_file_that_changed_in_the_store_is_refused_and_not_replaced(place: Place) -> None:
    assert place.verdicts() == ["added"]
    place.spoil()
    assert place.verdicts() == ["refused"]


def test_what_is_not_offered_is_missing_upstream_and_skipped_in_a_folder(place: Place) -> None:
    place.source.files.clear()
    assert place.verdicts() == ["missing"]
    assert place.verdicts(is_upstream=False) == ["skipped"]
    place.source.offer()
    assert place.verdicts() == ["added"]
    place.source.files.clear()
    assert place.verdicts() == ["present"]


def test_a_name_of_ours_is_never_asked_for_upstream(place: Place) -> None:
    place.approve(package(sha=SHA), names='private = ["alpha"]')
    assert place.verdicts() == ["skipped"]
    assert not place.source.asked
    assert place.verdicts(is_upstream=False) == ["added"]


def test_what_was_taken_back_upstream_is_known_after_the_next_sync(place: Place) -> None:
    place.sync()
    place.source.offer(yanked="broken")
    (outcome,) = place.sync().outcomes
    assert (outcome.verdict, outcome.yanked) == ("present", "broken")
    place.source.offer()
    place.sync(is_upstream=False)  # a folder knows nothing of it
    assert place.store.read_state().files[DIGEST].yanked == "broken"


def test_what_was_brought_before_the_upstream_failed_is_kept(place: Place) -> None:
    place.approve(package(sha=SHA), package("beta", sha=OTHER))
    place.source.files["beta"] = IndexFile(filename="beta-1.0-py3-none-any.whl", url="u")
    reads = place.source.read

    def read(file: IndexFile) -> Iterator[bytes]:
        if file.filename != WHEEL:
            raise UpstreamError("gone")
        return reads(file)

    place.source.read = read  # type: ignore[method-assign]  # fails for one file
    with pytest.raises(UpstreamError):
        place.sync()
    assert list(place.store.read_state().files) == [DIGEST]


def test_a_folder_offers_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / WHEEL).write_bytes(CONTENT)
    (tmp_path / "notes.txt").write_text("", encoding="utf-8")
    source = FolderSource(tmp_path)
    found = source.project("alpha")
    assert found is not None
    assert [(file.filename, file.digest) for file in found.files] == [(WHEEL, DIGEST)]
    assert b"".join(source.read(found.files[0])) == CONTENT
    assert source.project("beta") is None
    with pytest.raises(UpstreamError):
        FolderSource(tmp_path / "gone").project("alpha")


def damaged(method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a-1.dist-info/METADATA", "Name: a\n" * 100)
    content = bytearray(out.getvalue())
    start = content.index(b"METADATA") + len(b"METADATA")
    content[start : start + 12] = b"\xff" * 12
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        b"no archive",
        wheel(metadata=None),
        wheel(twice=True),
        CONTENT[:-30],
        damaged(zipfile.ZIP_DEFLATED),
        damaged(zipfile.ZIP_BZIP2),
        damaged(zipfile.ZIP_LZMA),
    ],
)
def test_a_wheel_without_one_readable_metadata_has_none(content: bytes) -> None:
    assert metadata_of_wheel(io.BytesIO(content)) is None


def test_fields_of_metadata_are_read() -> None:
    assert metadata_of_wheel(io.BytesIO(CONTENT)) == METADATA
    assert field_of(METADATA, "Missing") == ""
    assert licence_of(METADATA) == "MIT"
    assert licence_of(b"License: BSD\n") == "BSD"
    assert licence_of(b"License: A\n  whole\n  text\n") == ""


# What the application answers.


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """Calls the application as a server does."""

    def __init__(self, place: Place) -> None:
        self.shelf = Shelf(place.settings)
        self._app = make_app(self.shelf)

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return asyncio.run(self._call(path, method, headers))

    async def _call(self, path: str, method: str, headers: dict[str, str]) -> Answer:
        sent: list[dict[str, Any]] = []
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": pairs,
            "scheme": "http",
            "server": ("test", 80),
            "http_version": "1.1",
        }

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0)
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            await asyncio.sleep(0)
            sent.append(message)

        await self._app(scope, receive, send)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], answered, b"".join(one.get("body", b"") for one in sent[1:]))


FILE = f"/files/{SHA}/{WHEEL}"


@pytest.fixture
def client(place: Place) -> Client:
    place.sync()
    return Client(place)


def test_pages_are_in_the_form_that_is_asked_for(client: Client) -> None:
    assert b"alpha/" in client.get("/simple/").body
    assert client.get("/simple/alpha/", accept=JSON_TYPE).headers["content-type"] == JSON_TYPE
    assert client.get("/simple/alpha/").headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/simple/alpha/", accept="image/png").status == 406
    assert client.get("/simple/", accept="image/png").status == 406
    assert client.get("/healthz").status == 200


def test_other_spellings_of_a_name_lead_to_the_page(client: Client) -> None:
    assert client.get("/simple/alpha").headers["location"] == "alpha/"
    assert client.get("/simple/Alpha/").headers["location"] == "../alpha/"


@pytest.mark.parametrize("name", ["https:intranet", "javascript:x", "a%0d%0aX:1", "%5cintranet"])
def test_what_is_no_name_leads_nowhere(client: Client, name: str) -> None:
    answer = client.get(f"/simple/{name}")
    assert (answer.status, "location" in answer.headers) == (404, False)


def test_a_page_that_did_not_change_is_not_sent_again(client: Client) -> None:
    tag = client.get("/simple/alpha/").headers["etag"]
    assert client.get("/simple/alpha/", if_none_match=f'"x", W/{tag}').status == 304
    assert client.get("/simple/alpha/", if_none_match=tag, accept=JSON_TYPE).status == 200


@pytest.mark.parametrize(
    ("path", "code"),
    [("/simple/beta/", "not-approved"), ("/simple/alpa/", "looks-like"), ("/simple/-/", "invalid-name")],
)
def test_what_is_not_approved_is_not_found_and_says_how_to_ask(client: Client, path: str, code: str) -> None:
    answer = client.get(path)
    assert (answer.status, answer.headers["x-pratique-reason"]) == (404, code)
    assert b"Ask us." in answer.body or code == "invalid-name"


def test_a_file_and_its_metadata_are_sent(client: Client) -> None:
    answer = client.get(FILE)
    assert (answer.status, answer.body) == (200, CONTENT)
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert client.get(f"{FILE}.metadata").body == METADATA
    head = client.get(FILE, method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(CONTENT)))
    assert client.get(FILE, if_none_match=f'"{SHA}"').status == 304


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-3", 206, slice(0, 4)),
        ("bytes=5-", 206, slice(5, None)),
        ("bytes=-4", 206, slice(-4, None)),
        ("bytes=0-999999999", 206, slice(None)),
        ("bytes=-999999999", 206, slice(None)),
        ("bytes=999999999-", 416, slice(0, 0)),
        ("bytes=-0", 416, slice(0, 0)),
        ("bytes=3-1", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("bytes=0-1,3-4", 200, slice(None)),
        ("lines=0-1", 200, slice(None)),
    ],
)
def test_a_range_is_answered_with_its_bytes(client: Client, asked: str, status: int, part: slice) -> None:
    answer = client.get(FILE, range=asked)
    assert (answer.status, answer.body) == (status, CONTENT[part])
    assert ("content-range" in answer.headers) is (status != 200)


def test_a_range_of_another_file_is_answered_with_all_of_it(client: Client) -> None:
    assert client.get(FILE, range="bytes=0-3", if_range='"other"').status == 200


@pytest.mark.parametrize(
    "path", [f"/files/{OTHER}/{WHEEL}", f"/files/{SHA}/other-1.0-py3-none-any.whl", f"/files/..%2f{SHA}/{WHEEL}"]
)
def test_only_approved_files_under_their_own_names_are_sent(client: Client, path: str) -> None:
    assert client.get(path).status == 404


def test_a_file_without_metadata_says_so(place: Place) -> None:
    content = wheel(metadata=None)
    place.source.content = content
    place.source.offer(digest=digest_of(content))
    sha = digest_of(content).removeprefix("sha256:")
    place.approve(package(sha=sha))
    place.sync()
    assert Client(place).get(f"/files/{sha}/{WHEEL}.metadata").status == 404


def test_a_changed_file_is_gone_from_pages_until_it_is_mended(place: Place, client: Client) -> None:
    place.spoil()
    assert client.get(FILE).status == 410
    page = client.get("/simple/alpha/")
    assert (page.status, page.headers["x-pratique-reason"]) == (410, "tampered")
    place.store.path_of(DIGEST).unlink()
    assert place.verdicts() == ["added"]
    assert client.get(FILE).status == 200
    assert client.get("/simple/alpha/").status == 200


def test_the_recheck_finds_what_nobody_asked_for(place: Place, client: Client) -> None:
    assert client.shelf.recheck() == 0
    place.spoil()
    client.shelf.recheck_safely()
    assert client.get("/simple/alpha/").status == 410
    assert client.shelf.recheck("beta") == 0


def test_a_file_that_is_gone_from_the_store_is_not_answered_as_if_it_never_was(place: Place, client: Client) -> None:
    place.store.path_of(DIGEST).unlink()
    assert client.get(FILE).status == 503


def test_what_is_taken_back_is_gone_with_the_next_request(place: Place, client: Client) -> None:
    assert client.get(FILE).status == 200
    place.approve(package("beta", sha=OTHER))
    assert client.get(FILE).status == 404
    assert client.get("/simple/alpha/").status == 404


def test_an_approved_file_that_cannot_be_read_serves_nothing(place: Place, client: Client) -> None:
    assert client.get(FILE).status == 200
    place.settings.approved.write_bytes(b"\xff")
    assert [client.get(path).status for path in (FILE, "/simple/", "/simple/alpha/", "/healthz")] == [503] * 4
    place.settings.approved.unlink()
    assert client.get(FILE).status == 503
    client.shelf.recheck_safely()
    place.approve(package(sha=SHA))
    assert client.get(FILE).status == 200


def test_an_approved_file_has_a_limit() -> None:
    with pytest.raises(ApprovedFileError, match="more than"):
        read_approved(b"#" * (16 * 1024 * 1024 + 1))
