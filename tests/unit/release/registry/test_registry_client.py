"""The client against registries that lie, lead elsewhere, break off, or want to know who asks."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pratique.release.errors import ConflictError, NotFoundError, UnavailableError, VerificationError
from pratique.release.registry._authorizing import TokenRequest
from pratique.release.registry._http import Http
from pratique.release.registry.client import HttpRegistry
from pratique.release.registry.credentials import AuthFiles
from pratique.release.registry.errors import ManifestError, RegistryRefusedError
from pratique.release.registry.interface import IMAGE_INDEX, IMAGE_MANIFEST
from pratique.release.registry.rules import FRONT_HEADER
from pratique.release.registry.settings import RegistrySettings
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit

BLOB = b"some bytes of a blob" * 10
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": IMAGE_MANIFEST}).encode()
DIGEST = digest_of(MANIFEST)


@dataclass
class Said:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    """Bytes that are announced and not sent."""


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Scripted:
    """Answers by a function; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], Said] = lambda _asked: Said(404)
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: no waiting for an acknowledgement between them

            def handle_any(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, self.rfile.read(size))
                script.asked.append(asked)
                said = script.answer(asked)
                self.send_response(said.status)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(said.body) + said.cut))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(said.body)
                self.close_connection = bool(said.cut)

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = handle_any  # noqa: N815 - http.server's names

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.repository = f"{self.address}/team/app"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)

    def always(self, *said: Said) -> None:
        """Answer these in turn, the last one for ever."""
        left = list(said)
        self.answer = lambda _asked: left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.release.registry._http._PAUSE_SECONDS", 0.001)


@pytest.fixture
def registry() -> Iterator[Scripted]:
    script = Scripted()
    yield script
    script.close()


@pytest.fixture
def other() -> Iterator[Scripted]:
    script = Scripted()
    yield script
    script.close()


@pytest.fixture
def auth_file(tmp_path: Path, registry: Scripted) -> Path:
    file = tmp_path / "auth.json"
    login = {"auth": base64.b64encode(b"ada:secret").decode()}
    file.write_text(json.dumps({"auths": {registry.address: login}}))
    return file


@pytest.fixture
def client(auth_file: Path) -> HttpRegistry:
    return HttpRegistry(RegistrySettings(attempts=2, chunk_bytes=65_536), AuthFiles((auth_file,)))


def manifest_answer(content: bytes = MANIFEST, media_type: str = IMAGE_MANIFEST, **headers: str) -> Said:
    return Said(200, content, {"Content-Type": media_type, **{k.replace("_", "-"): v for k, v in headers.items()}})


# Lies


def test_a_manifest_that_is_not_what_its_digest_names_is_refused(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(manifest_answer())
    assert client.manifest(registry.repository, DIGEST).content == MANIFEST
    with pytest.raises(VerificationError, match="expected a manifest of digest"):
        client.manifest(registry.repository, digest_of(b"other"))


def test_a_tag_whose_answer_names_another_digest_is_refused(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(manifest_answer(Docker_Content_Digest=digest_of(b"other")))
    with pytest.raises(VerificationError):
        client.manifest(registry.repository, "v1")


def test_a_manifest_that_calls_itself_another_type_is_refused(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(manifest_answer(media_type=IMAGE_INDEX))
    with pytest.raises(ManifestError, match="calls itself"):
        client.manifest(registry.repository, "v1")


def test_a_manifest_of_too_many_bytes_is_not_read_to_its_end(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(manifest_answer(b" " * (4 * 1024 * 1024 + 1)))
    with pytest.raises(UnavailableError, match="more than"):
        client.manifest(registry.repository, "v1")


def test_the_last_bytes_of_a_wrong_blob_are_never_given_out(client: HttpRegistry, registry: Scripted) -> None:
    content = b"a" * (1024 * 1024)
    registry.always(Said(200, content))
    got: list[bytes] = []
    with client.open_blob(registry.repository, digest_of(b"other")) as stream, pytest.raises(VerificationError):
        got.extend(iter(lambda: stream.read(1000), b""))
    assert sum(map(len, got)) < len(content)
    with pytest.raises(VerificationError):
        client.blob(registry.repository, digest_of(b"other"), max_bytes=2 * len(content))


def test_a_blob_that_breaks_off_is_no_blob(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(Said(200, BLOB, cut=10))
    with pytest.raises(UnavailableError):
        client.blob(registry.repository, digest_of(BLOB), max_bytes=10_000)


def test_a_write_that_the_registry_took_for_another_is_refused(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(Said(201, headers={"Docker-Content-Digest": digest_of(b"other")}))
    with pytest.raises(VerificationError, match="took it for"):
        client.put_manifest(registry.repository, "v1", MANIFEST, IMAGE_MANIFEST)


# Elsewhere


def test_a_login_does_not_follow_a_redirect_to_another_host(
    client: HttpRegistry, registry: Scripted, other: Scripted
) -> None:
    def answer(asked: Asked) -> Said:
        if "authorization" not in asked.headers:
            return Said(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return Said(307, headers={"Location": f"http://{other.address}/storage"})

    registry.answer = answer
    other.always(Said(200, BLOB))
    assert client.blob(registry.repository, digest_of(BLOB), max_bytes=10_000) == BLOB
    assert [one.headers.get("authorization") for one in other.asked] == [None]


@pytest.mark.parametrize("target", ["http://registry.test/storage", "file:///etc/passwd", "ftp://127.0.0.1/x", ""])
def test_a_redirect_to_what_is_not_asked_is_not_followed(client: HttpRegistry, registry: Scripted, target: str) -> None:
    registry.always(Said(302, headers={"Location": target}))
    with pytest.raises(UnavailableError, match=r"leads to|redirects"):
        client.blob(registry.repository, digest_of(BLOB), max_bytes=10)


def test_redirects_in_circles_end(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(Said(302, headers={"Location": "/again"}))
    with pytest.raises(UnavailableError, match="redirects more than"):
        client.blob(registry.repository, digest_of(BLOB), max_bytes=10)


def test_an_upload_led_to_a_host_without_tls_is_not_made(client: HttpRegistry, registry: Scripted) -> None:
    registry.answer = lambda asked: (
        Said(404) if asked.method == "HEAD" else Said(202, headers={"Location": "http://registry.test/up"})
    )
    with pytest.raises(UnavailableError, match="leads to"):
        client.put_blob(registry.repository, BLOB)


def test_an_upload_without_a_location_is_not_made(client: HttpRegistry, registry: Scripted) -> None:
    registry.answer = lambda asked: Said(404 if asked.method == "HEAD" else 202)
    with pytest.raises(UnavailableError, match="expected a Location"):
        client.put_blob(registry.repository, BLOB)


# Who asks


def test_a_token_is_got_with_the_login_and_used_again(client: HttpRegistry, registry: Scripted) -> None:
    valid = ["one"]

    def answer(asked: Asked) -> Said:
        if asked.path.startswith("/token"):
            assert asked.headers["authorization"] == "Basic " + base64.b64encode(b"ada:secret").decode()
            assert asked.path == "/token?service=reg&scope=repository%3Ateam%2Fapp%3Apull"
            return Said(200, json.dumps({"token": valid[-1], "expires_in": 60}).encode())
        if asked.headers.get("authorization") != f"Bearer {valid[-1]}":
            return Said(
                401, headers={"WWW-Authenticate": f'Bearer realm="http://{registry.address}/token",service="reg"'}
            )
        return manifest_answer()

    registry.answer = answer
    for _ in range(2):
        client.manifest(registry.repository, "v1")
    assert [one.path.startswith("/token") for one in registry.asked] == [False, True, False, False]
    valid.append("two")  # the first one has expired
    client.manifest(registry.repository, "v1")


def test_a_challenge_that_nothing_answers_is_a_refusal(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(Said(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}', {"WWW-Authenticate": "Digest"}))
    with pytest.raises(RegistryRefusedError, match="UNAUTHORIZED: who"):
        client.manifest(registry.repository, "v1")


def test_who_has_no_login_does_not_ask_twice(registry: Scripted) -> None:
    registry.always(Said(401, headers={"WWW-Authenticate": 'Basic realm="x"'}))
    with pytest.raises(RegistryRefusedError, match="401"):
        HttpRegistry(RegistrySettings(), AuthFiles(())).manifest(registry.repository, "v1")
    assert len(registry.asked) == 1


def test_a_login_that_is_refused_is_sent_once(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(Said(401, headers={"WWW-Authenticate": 'Basic realm="x"'}))
    with pytest.raises(RegistryRefusedError, match="401"):
        client.manifest(registry.repository, "v1")
    assert len(registry.asked) == 2


def test_a_login_goes_to_no_token_server_without_tls(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(Said(401, headers={"WWW-Authenticate": 'Bearer realm="http://registry.test/token"'}))
    with pytest.raises(UnavailableError, match="only over TLS"):
        client.manifest(registry.repository, "v1")


def test_a_registry_elsewhere_sends_nobody_to_a_program_on_this_machine(registry: Scripted) -> None:
    http = Http(RegistrySettings(), AuthFiles(()))
    with pytest.raises(UnavailableError, match="only over TLS"):
        http._fetch_token(TokenRequest(f"http://{registry.address}/token", "registry.test"))
    assert registry.asked == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token":"a b"}', b'{"token":"a\\r\\nX: y"}'])
def test_what_is_no_token_is_not_sent(client: HttpRegistry, registry: Scripted, body: bytes) -> None:
    realm = f'Bearer realm="http://{registry.address}/token"'
    registry.answer = lambda asked: (
        Said(200, body) if asked.path.startswith("/token") else Said(401, headers={"WWW-Authenticate": realm})
    )
    with pytest.raises(UnavailableError, match="not answer with a token"):
        client.manifest(registry.repository, "v1")


def test_a_refresh_token_is_exchanged_by_post(registry: Scripted, tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    entry = {"auth": base64.b64encode(b"00:").decode(), "identitytoken": "refresh-me"}
    file.write_text(json.dumps({"auths": {registry.repository: entry}}))
    realm = f'Bearer realm="http://{registry.address}/token",service=reg,scope="repository:team/app:pull"'

    def answer(asked: Asked) -> Said:
        if asked.path == "/token":
            assert b"grant_type=refresh_token&refresh_token=refresh-me" in asked.body
            return Said(200, b'{"access_token":"granted"}')
        if "authorization" not in asked.headers:
            return Said(401, headers={"WWW-Authenticate": realm})
        return manifest_answer()

    registry.answer = answer
    client = HttpRegistry(RegistrySettings(), AuthFiles((file,)))
    assert client.manifest(registry.repository, "v1").digest == DIGEST
    assert registry.asked[-1].headers["authorization"] == "Bearer granted"


def test_a_token_server_that_says_no_is_named(client: HttpRegistry, registry: Scripted) -> None:
    realm = f'Bearer realm="http://{registry.address}/token"'
    registry.answer = lambda asked: (
        Said(403, b"nope") if asked.path.startswith("/token") else Said(401, headers={"WWW-Authenticate": realm})
    )
    with pytest.raises(UnavailableError, match=r"token server .* answered 403: nope"):
        client.manifest(registry.repository, "v1")


# Again, and no more


def test_a_read_is_repeated_a_write_with_a_condition_is_not(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(Said(503), manifest_answer())
    assert client.manifest(registry.repository, "v1").digest == DIGEST
    registry.asked.clear()
    registry.answer = lambda asked: Said(200, headers={FRONT_HEADER: "1"}) if asked.path == "/v2/" else Said(503)
    with pytest.raises(UnavailableError, match="503"):
        client.put_manifest(registry.repository, "v1", MANIFEST, IMAGE_MANIFEST, only_if_absent=True)
    assert [one.method for one in registry.asked] == ["GET", "PUT"]
    assert registry.asked[1].headers["if-none-match"] == "*"


def test_attempts_are_bounded(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(Said(429, headers={"Retry-After": "0"}))
    with pytest.raises(UnavailableError, match="429"):
        client.manifest(registry.repository, "v1")
    assert len(registry.asked) == 2


def test_nobody_who_listens_is_an_environment_fault(client: HttpRegistry) -> None:
    with pytest.raises(UnavailableError, match="does not answer"):
        client.manifest("127.0.0.1:1/team/app", "v1")


def test_a_pause_longer_than_the_deadline_is_not_waited_for(auth_file: Path, registry: Scripted) -> None:
    client = HttpRegistry(RegistrySettings(deadline_seconds=0.5), AuthFiles(()))
    registry.always(Said(503, headers={"Retry-After": "100"}))
    with pytest.raises(UnavailableError):
        client.manifest(registry.repository, "v1")
    assert len(registry.asked) == 1


def test_an_upload_that_fails_is_begun_anew(client: HttpRegistry, registry: Scripted) -> None:
    puts: list[Said] = [Said(500), Said(201)]

    def answer(asked: Asked) -> Said:
        if asked.method == "PUT":
            return puts.pop(0)
        return Said(404) if asked.method == "HEAD" else Said(202, headers={"Location": "/up?state=1"})

    registry.answer = answer
    client.put_blob(registry.repository, BLOB)
    assert [one.method for one in registry.asked] == ["HEAD", "POST", "PUT", "POST", "PUT"]
    assert registry.asked[-1].path == f"/up?state=1&digest={DIGEST.partition(':')[0]}%3A{digest_of(BLOB)[7:]}"
    assert registry.asked[-1].body == BLOB


def test_an_upload_is_sent_whole_again_after_a_challenge(client: HttpRegistry, registry: Scripted) -> None:
    def answer(asked: Asked) -> Said:
        if asked.method == "PUT" and "authorization" not in asked.headers:
            return Said(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        if asked.method == "PUT":
            return Said(201)
        return Said(404) if asked.method == "HEAD" else Said(202, headers={"Location": "/up"})

    registry.answer = answer
    client.put_blob(registry.repository, BLOB)
    assert [one.body for one in registry.asked if one.method == "PUT"] == [BLOB, BLOB]


def test_a_large_blob_goes_in_pieces(client: HttpRegistry, registry: Scripted, tmp_path: Path) -> None:
    content = bytes(range(256)) * 600
    file = tmp_path / "blob"
    file.write_bytes(content)

    def answer(asked: Asked) -> Said:
        if asked.method == "POST":
            return Said(202, headers={"Location": "/up/0", "OCI-Chunk-Min-Length": "70000"})
        if asked.method == "PATCH":
            return Said(202, headers={"Location": f"/up/{len(registry.asked)}"})
        return Said(404) if asked.method == "HEAD" else Said(201)

    registry.answer = answer
    client.put_blob(registry.repository, file)
    pieces = [one for one in registry.asked if one.method == "PATCH"]
    assert b"".join(one.body for one in pieces) == content
    assert [one.headers["content-range"] for one in pieces] == ["0-69999", "70000-139999", "140000-153599"]
    assert [one.path.partition("?")[0] for one in registry.asked[2:]] == ["/up/0", "/up/3", "/up/4", "/up/5"]


# Conditions, lists, refusals


def test_a_front_that_was_replaced_by_a_plain_registry_is_noticed(client: HttpRegistry, registry: Scripted) -> None:
    registry.answer = lambda asked: Said(200, headers={FRONT_HEADER: "1"}) if asked.path == "/v2/" else Said(201)
    with pytest.raises(UnavailableError, match="ignores conditions, unlike before"):
        client.put_manifest(registry.repository, "v1", MANIFEST, IMAGE_MANIFEST, only_if=DIGEST)
    assert registry.asked[-1].headers["if-match"] == f'"{DIGEST}"'


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFoundError), (409, ConflictError), (412, ConflictError), (403, RegistryRefusedError),
     (400, RegistryRefusedError), (418, RegistryRefusedError), (507, UnavailableError), (302, UnavailableError)],
)  # fmt: skip
def test_what_the_registry_says_becomes_the_error_that_it_means(
    client: HttpRegistry, registry: Scripted, status: int, kind: type[Exception]
) -> None:
    registry.always(Said(status, b'{"errors":[{"code":"X","message":"because\\n\\u001b[31m"}]}'))
    with pytest.raises(kind, match="X: because  "):
        client.put_manifest(registry.repository, "v1", MANIFEST, IMAGE_MANIFEST)


@pytest.mark.parametrize(
    "said", [Said(404), Said(400), Said(405), manifest_answer(b"{}", "application/json"), manifest_answer(b"{}", "")]
)
def test_only_an_index_counts_as_an_answer_about_referrers(
    client: HttpRegistry, registry: Scripted, said: Said
) -> None:
    registry.always(said)
    assert client.referrers(registry.repository, DIGEST) is None


@pytest.mark.parametrize(("status", "kind"), [(403, RegistryRefusedError), (500, UnavailableError)])
def test_a_registry_that_keeps_referrers_back_is_not_one_without_them(
    client: HttpRegistry, registry: Scripted, status: int, kind: type[Exception]
) -> None:
    registry.always(Said(status))
    with pytest.raises(kind):
        client.referrers(registry.repository, DIGEST)


def test_referrers_on_several_pages_are_one_index(client: HttpRegistry, registry: Scripted) -> None:
    def page(name: str) -> bytes:
        one = {"mediaType": IMAGE_MANIFEST, "digest": digest_of(name.encode()), "size": 1}
        return json.dumps({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": [one]}).encode()

    following = {"Content-Type": IMAGE_INDEX, "Link": '</more>; rel="next"'}
    registry.always(Said(200, page("a"), following), Said(200, page("b"), {"Content-Type": IMAGE_INDEX}))
    found = client.referrers(registry.repository, DIGEST)
    assert found is not None
    listed = [one["digest"] for one in json.loads(found.content)["manifests"]]
    assert listed == [digest_of(b"a"), digest_of(b"b")]
    registry.always(Said(200, page("a"), following), Said(404))
    with pytest.raises(NotFoundError):
        client.referrers(registry.repository, DIGEST)
    registry.always(Said(200, page("a"), following))
    with pytest.raises(UnavailableError, match="does not end"):
        client.referrers(registry.repository, DIGEST)


def test_tags_on_several_pages_are_all_listed(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(
        Said(200, b'{"tags":["a"]}', {"Link": "</v2/team/app/tags/list?last=a>; rel=next"}), Said(200, b'{"tags":null}')
    )
    assert list(client.tags(registry.repository)) == ["a"]
    assert registry.asked[-1].path == "/v2/team/app/tags/list?last=a"


def test_a_list_that_goes_on_at_another_host_is_not_followed(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(Said(200, b'{"tags":["a"]}', {"Link": '<http://127.0.0.1:1/x>; rel="next"'}))
    with pytest.raises(UnavailableError, match="at another host"):
        list(client.tags(registry.repository))


def test_a_list_that_is_none_is_no_empty_list(client: HttpRegistry, registry: Scripted) -> None:
    registry.always(Said(200, b"<html>"))
    with pytest.raises(UnavailableError, match="expected a list of tags"):
        list(client.tags(registry.repository))


def test_a_list_without_end_ends(client: HttpRegistry, registry: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.release.registry.client._MAX_PAGES", 3)
    registry.always(Said(200, b'{"tags":["a"]}', {"Link": '</again>; rel="next"'}))
    with pytest.raises(UnavailableError, match="more than 3 pages"):
        list(client.tags(registry.repository))
    assert len(registry.asked) == 3
