"""What is served, and how it is explained and written."""

from __future__ import annotations

import html.parser
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.release.mirror.approved_text import OTHER, SHA, WHEEL, document, package

from pratique.release.mirror.approved import parse_approved
from pratique.release.mirror.deciding import Catalogue, explain, served_files
from pratique.release.mirror.errors import UpstreamError
from pratique.release.mirror.index import JSON_TYPE, parse_project
from pratique.release.mirror.pages import HTML_TYPE, PLAIN_HTML, choose_form, project_page, projects_page
from pratique.release.mirror.store import State, StoredFile
from pratique.release.values import Digest

pytestmark = pytest.mark.unit

DIGEST = Digest(f"sha256:{SHA}")
NAMES = 'private = ["acme-*", "inhouse"]\npopular = ["requests"]'


def stored(**changes: Any) -> StoredFile:
    plain: dict[str, Any] = {"filename": WHEEL, "size_bytes": 7}
    return StoredFile(**(plain | changes))


def catalogue(*, files: dict[str, StoredFile] | None = None, **changes: Any) -> Catalogue:
    approved = parse_approved(document(package(), package("beta", "1.0", OTHER), names=NAMES))
    state = State(files={DIGEST: stored()} if files is None else files)
    plain: dict[str, Any] = {"how_to_ask": "Ask."}
    return Catalogue(approved, state, **(plain | changes))


@pytest.mark.parametrize(
    ("name", "version", "code"),
    [
        ("alpha", "", "served"),
        ("Alpha", "1", "no-version"),
        ("ALPHA", "1.0", "served"),
        ("alpha", "v1.0", "served"),
        ("alpha", "one", "no-version"),
        ("beta", "1.0", "not-synced"),
        ("beta", "", "not-synced"),
        ("acme-tools", "", "private"),
        ("inhouse", "1.0", "private"),
        ("in-house", "", "looks-like"),
        ("requets", "", "looks-like"),
        ("httpxx", "", "looks-like"),
        ("requests", "", "not-approved"),
        ("unheard-of", "", "not-approved"),
        ("../etc", "", "invalid-name"),
    ],
)
def test_every_answer_has_its_code_and_a_mend(name: str, version: str, code: str) -> None:
    found = explain(catalogue(known=frozenset({"httpx"})), name, version)
    assert (found.code, found.is_served) == (code, code == "served")
    assert found.is_served or found.mend


def test_a_tampered_file_is_not_served_and_said_so() -> None:
    changed = catalogue(tampered={DIGEST: "other bytes"})
    assert not served_files(changed, "alpha")
    found = explain(changed, "alpha", "1.0")
    assert (found.code, found.is_served) == ("tampered", False)
    assert "other bytes" in found.reason


@pytest.mark.parametrize(("reason", "said"), [("broken", "broken"), ("", "no reason is given")])
def test_a_yanked_file_is_served_with_its_reason(reason: str, said: str) -> None:
    found = explain(catalogue(files={DIGEST: stored(yanked=reason)}), "alpha")
    assert (found.code, found.is_served) == ("yanked", True)
    assert said in found.reason


def test_our_own_reason_to_yank_comes_before_theirs() -> None:
    text = document(package() + 'yanked = "ours"\n')
    ours = Catalogue(parse_approved(text), State(files={DIGEST: stored(yanked="theirs")}))
    assert [file.yanked for file in served_files(ours, "alpha")] == ["ours"]


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", PLAIN_HTML),
        ("*/*", PLAIN_HTML),
        (JSON_TYPE, JSON_TYPE),
        (f"{JSON_TYPE}, {HTML_TYPE}; q=0.1, text/html; q=0.01", JSON_TYPE),
        (f"{JSON_TYPE};q=0.2, {HTML_TYPE};q=0.8", HTML_TYPE),
        ("application/vnd.pypi.simple.latest+json", JSON_TYPE),
        ("text/html, */*", PLAIN_HTML),
        (f"*/*, {JSON_TYPE}", JSON_TYPE),
        ("application/vnd.pypi.simple.v2+json", None),
        ("image/png", None),
        ("text/html;q=0", None),
        ("text/html;q=x", None),
        ("text/html;level=1", PLAIN_HTML),
    ],
)
def test_a_client_gets_the_form_that_it_likes_best(accept: str, form: str | None) -> None:
    assert choose_form(accept) == form


class Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "a":
            self.found.append(dict(attrs))


def test_what_strangers_wrote_stays_text_in_html() -> None:
    evil = '"><script>alert(1)</script>'
    one = stored(yanked=evil, requires_python=">=3.8", metadata=Digest(f"sha256:{OTHER}"))
    links = Links()
    links.feed(project_page("alpha", served_files(catalogue(files={DIGEST: one}), "alpha"), PLAIN_HTML).decode())
    assert "script" not in links.tags
    assert links.found == [
        {
            "href": f"../../files/{SHA}/{WHEEL}#sha256={SHA}",
            "data-requires-python": ">=3.8",
            "data-yanked": evil,
            "data-core-metadata": f"sha256={OTHER}",
            "data-dist-info-metadata": f"sha256={OTHER}",
        }
    ]


def test_json_has_what_the_interface_asks_for() -> None:
    moment = datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    one = stored(yanked="", requires_python=">=3.8", metadata=Digest(f"sha256:{OTHER}"), uploaded_at=moment)
    page = json.loads(project_page("alpha", served_files(catalogue(files={DIGEST: one}), "alpha"), JSON_TYPE))
    assert page == {
        "meta": {"api-version": "1.1"},
        "name": "alpha",
        "versions": ["1.0"],
        "files": [
            {
                "filename": WHEEL,
                "url": f"../../files/{SHA}/{WHEEL}",
                "hashes": {"sha256": SHA},
                "size": 7,
                "yanked": True,
                "requires-python": ">=3.8",
                "upload-time": "2024-01-02T03:04:05.000006Z",
                "core-metadata": {"sha256": OTHER},
                "dist-info-metadata": {"sha256": OTHER},
            }
        ],
    }


def test_a_plain_file_has_no_more_than_there_is_to_say() -> None:
    (file,) = json.loads(project_page("alpha", served_files(catalogue(), "alpha"), JSON_TYPE))["files"]
    assert file["yanked"] is False
    assert not {"requires-python", "upload-time", "core-metadata"} & set(file)
    assert b"data-" not in project_page("alpha", served_files(catalogue(), "alpha"), HTML_TYPE)


def test_the_list_of_projects_is_in_both_forms() -> None:
    assert json.loads(projects_page(["b", "a"], JSON_TYPE))["projects"] == [{"name": "a"}, {"name": "b"}]
    assert b'<a href="a/">a</a>' in projects_page(["a"], PLAIN_HTML)


def page_of(**changes: Any) -> bytes:
    file = {"filename": WHEEL, "url": "../../f/x.whl", "hashes": {"sha256": SHA}} | changes
    return json.dumps({"meta": {"api-version": "1.3"}, "name": "Alpha", "files": [file]}).encode()


def test_an_index_page_is_read_with_whole_addresses() -> None:
    body = page_of(
        **{
            "yanked": "bad",
            "upload-time": "2024-01-02T03:04:05.0Z",
            "core-metadata": {"sha256": OTHER},
            "requires-python": ">=3",
            "provenance": "https://example.org/p",
        }
    )
    (file,) = parse_project(body, "https://example.org/simple/alpha/", "alpha").files
    assert (file.url, file.digest, file.yanked) == ("https://example.org/f/x.whl", DIGEST, "bad")
    assert (file.metadata, file.requires_python, file.has_provenance) == (f"sha256:{OTHER}", ">=3", True)
    assert file.uploaded_at == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"yanked": True}, "yanked", ""),
        ({"yanked": False}, "yanked", None),
        ({"yanked": ""}, "yanked", None),
        ({"hashes": {"md5": "x"}}, "digest", None),
        ({"hashes": {"sha256": SHA.upper()}}, "digest", DIGEST),
        ({"upload-time": "yesterday"}, "uploaded_at", None),
        ({"core-metadata": True}, "metadata", None),
        ({"provenance": None}, "has_provenance", False),
    ],
)
def test_what_an_index_leaves_open_is_not_guessed(changes: dict[str, Any], field: str, value: object) -> None:
    (file,) = parse_project(page_of(**changes), "https://example.org/simple/alpha/", "alpha").files
    assert getattr(file, field) == value


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"{}",
        page_of().replace(b'"1.3"', b'"2.0"'),
        page_of().replace(b"Alpha", b"Beta"),
        page_of().replace(b"Alpha", b"\xff"),
        page_of(url="https://[files"),
        page_of(url="https://\u2100.example/x.whl"),
    ],
)
def test_what_is_no_page_of_the_project_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamError):
        parse_project(body, "https://example.org/simple/alpha/", "alpha")
