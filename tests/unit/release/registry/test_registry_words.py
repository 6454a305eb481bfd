"""Names, manifests, rules, logins and challenges: the decisions that need no registry."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.release.registry._answers import next_page
from pratique.release.registry._authorizing import Challenge, parse_challenge
from pratique.release.registry._http import Answer, origin_of
from pratique.release.registry.credentials import AuthFileError, AuthFiles, Login, default_auth_files
from pratique.release.registry.errors import ManifestError, RepositoryNameError
from pratique.release.registry.interface import IMAGE_INDEX, IMAGE_MANIFEST
from pratique.release.registry.manifests import (
    Descriptor,
    add_referrer,
    filter_referrers,
    make_index,
    merge_indexes,
    read_manifest,
    referrer_descriptor,
    subject_of,
)
from pratique.release.registry.names import fallback_tag, is_loopback, parse_reference, parse_repository
from pratique.release.registry.rules import (
    MUTABLE_TAGS,
    Condition,
    PreconditionError,
    TagMovedError,
    is_mutable,
    require_writable,
)
from pratique.release.values import Digest, digest_of

pytestmark = pytest.mark.unit

ONE, TWO, THREE = (digest_of(name) for name in (b"1", b"2", b"3"))
HUB = "https://index.docker.io/v1/"


def referrer(digest: Digest, artifact_type: str = "a/b") -> Descriptor:
    return Descriptor(media_type=IMAGE_MANIFEST, digest=digest, size=1, artifact_type=artifact_type)


# Names


@pytest.mark.parametrize(
    ("text", "address", "path"),
    [
        ("registry.test/app", "registry.test", "app"),
        ("localhost/app", "localhost", "app"),
        ("127.0.0.1:5000/a/b__c/d-e.f", "127.0.0.1:5000", "a/b__c/d-e.f"),
        ("[::1]:5000/app", "[::1]:5000", "app"),
        ("docker.io/library/alpine", "registry-1.docker.io", "library/alpine"),
    ],
)
def test_a_repository_has_a_host_and_a_path(text: str, address: str, path: str) -> None:
    name = parse_repository(text)
    assert (name.address, name.path, str(name)) == (address, path, text)


@pytest.mark.parametrize(
    "text",
    ["", "app", "team/app", "registry.test", "registry.test/", "registry.test//a", "registry.test/a@sha256:1",
     "registry.test/a:v1", "https://registry.test/a", "u:p@registry.test/a", "registry.test/a?b", "r.test/a/%2e%2e",
     "registry.test:/a", "registry.test/a\n", "registry.test/" + "a" * 255, "-x.test/a", "registry.test/a___b"],
)  # fmt: skip
def test_what_is_no_repository_is_refused(text: str) -> None:
    with pytest.raises(RepositoryNameError):
        parse_repository(text)


def test_a_reference_is_a_tag_or_a_digest() -> None:
    assert parse_reference("v1.0_a-b") == "v1.0_a-b"
    assert parse_reference(ONE) == ONE
    assert fallback_tag(ONE) == "sha256-" + ONE[7:]


@pytest.mark.parametrize(
    ("address", "expected"),
    [("localhost", True), ("localhost:5000", True), ("127.8.9.1:1", True), ("[::1]:80", True),
     ("localhost.test", False), ("10.0.0.1", False), ("registry.test:5000", False), ("127.0.0.1.test", False)],
)  # fmt: skip
def test_loopback_is_told_by_the_name_alone(address: str, *, expected: bool) -> None:
    assert is_loopback(address) is expected


# Manifests


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\xff", b'{"config":{"digest":"x"}}', b'{"layers":[{"mediaType":"a","digest":"md5:1","size":1}]}',
     b'{"mediaType":"other"}', b'{"subject":{"mediaType":"a","digest":"sha256:1","size":1}}', b" " * (4 * 1024**2 + 1)],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(ManifestError):
        read_manifest(content, IMAGE_MANIFEST)


@pytest.mark.parametrize("media_type", [IMAGE_MANIFEST, IMAGE_INDEX, "application/vnd.other+json"])
def test_what_is_an_image_and_an_index_at_once_is_refused(media_type: str) -> None:
    part = {"mediaType": "a", "digest": ONE, "size": 1}
    content = json.dumps({"config": part, "layers": [part], "manifests": [part]}).encode()
    with pytest.raises(ManifestError, match="parts of an image and of an index"):
        read_manifest(content, media_type)


def test_an_index_that_came_as_an_image_and_an_image_that_came_as_an_index_are_refused() -> None:
    part = {"mediaType": "a", "digest": ONE, "size": 1}
    with pytest.raises(ManifestError, match="parts of an image and of an index"):
        read_manifest(json.dumps({"manifests": [part]}).encode(), IMAGE_MANIFEST)
    with pytest.raises(ManifestError, match="parts of an image and of an index"):
        read_manifest(json.dumps({"layers": [part]}).encode(), IMAGE_INDEX)


def test_a_manifest_with_other_layers_for_other_readers_is_refused() -> None:
    with pytest.raises(ManifestError, match="may be read as two"):
        read_manifest(b'{"layers": [], "Layers": []}', IMAGE_MANIFEST)


def test_a_referrer_is_described_by_what_its_manifest_says() -> None:
    config = {"mediaType": "application/config", "digest": TWO, "size": 1}
    subject = {"mediaType": IMAGE_MANIFEST, "digest": ONE, "size": 9}
    content = json.dumps({"config": config, "subject": subject}).encode()
    described = referrer_descriptor(content, IMAGE_MANIFEST)
    assert (described.artifact_type, described.digest, described.size) == (
        "application/config", digest_of(content), len(content)
    )  # fmt: skip
    assert subject_of(read_manifest(content, IMAGE_MANIFEST)) == ONE
    assert subject_of(read_manifest(b"{}", IMAGE_MANIFEST)) is None
    assert referrer_descriptor(b'{"artifactType":"x"}', IMAGE_MANIFEST).artifact_type == "x"


def test_referrers_are_added_once_and_what_others_wrote_stays() -> None:
    first = add_referrer(None, referrer(ONE))
    assert first == make_index([referrer(ONE)])
    assert add_referrer(first, referrer(ONE)) is None
    strange = json.loads(first)
    strange["manifests"][0]["platform"] = {"os": "linux", "architecture": "amd64"}
    second = add_referrer(json.dumps(strange).encode(), referrer(TWO, "c/d"))
    assert second is not None
    listed = json.loads(second)["manifests"]
    assert [one["digest"] for one in listed] == [ONE, TWO]
    assert listed[0]["platform"] == {"os": "linux", "architecture": "amd64"}
    assert [one["digest"] for one in json.loads(filter_referrers(second, "c/d"))["manifests"]] == [TWO]
    assert json.loads(filter_referrers(second, "none/such"))["manifests"] == []


def test_pages_are_merged_in_their_order() -> None:
    pages = [make_index([referrer(ONE)]), make_index([referrer(TWO)])]
    assert merge_indexes(pages) == make_index([referrer(ONE), referrer(TWO)])
    assert merge_indexes(pages[:1]) is pages[0]
    with pytest.raises(ManifestError):
        merge_indexes([*pages, b"[]"])
    with pytest.raises(ManifestError):
        add_referrer(b'{"manifests":[{}]}', referrer(ONE))
    with pytest.raises(ManifestError):
        add_referrer(f'{{"mediaType":"{IMAGE_MANIFEST}"}}'.encode(), referrer(ONE))


# Rules


def test_tags_do_not_move_unless_they_may() -> None:
    nothing = Condition()
    require_writable("v1", None, ONE, condition=nothing, may_move=False)
    require_writable("v1", ONE, ONE, condition=nothing, may_move=False)
    require_writable("v1", TWO, ONE, condition=nothing, may_move=True)
    with pytest.raises(TagMovedError, match="immutable"):
        require_writable("v1", TWO, ONE, condition=nothing, may_move=False)


@given(
    current=st.sampled_from([None, ONE, TWO]),
    only_if=st.sampled_from([None, ONE, TWO]),
    only_if_absent=st.booleans(),
    may_move=st.booleans(),
)
@settings(max_examples=50)
def test_a_write_is_allowed_exactly_where_its_condition_holds(
    *, current: Digest | None, only_if: Digest | None, only_if_absent: bool, may_move: bool
) -> None:
    condition = Condition(only_if, only_if_absent)
    holds = (only_if is None or current == only_if) and not (only_if_absent and current is not None)
    try:
        require_writable("v1", current, THREE, condition=condition, may_move=may_move)
    except PreconditionError:
        assert not holds
    except TagMovedError:
        assert holds
        assert current is not None
        assert not may_move
    else:
        assert holds
        assert current is None or may_move


@pytest.mark.parametrize(
    ("tag", "expected"),
    [(fallback_tag(ONE), True), (fallback_tag(ONE) + ".sig", True), (fallback_tag(ONE) + ".att", True),
     ("v1", False), ("sha256-1", False), (fallback_tag(ONE) + ".x", False), ("x" + fallback_tag(ONE), False)],
)  # fmt: skip
def test_only_lists_of_evidence_may_move_by_default(tag: str, *, expected: bool) -> None:
    assert is_mutable(tag, MUTABLE_TAGS) is expected


# Logins


def test_the_most_special_login_of_the_first_file_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text(json.dumps({"auths": {
        "registry.test": {"auth": base64.b64encode(b"host:p:w").decode()},
        "registry.test/team": {"auth": base64.b64encode(b"team:pw").decode()},
    }}))  # fmt: skip
    second.write_text(json.dumps({"auths": {
        "registry.test/team/app": {"auth": base64.b64encode(b"late:pw").decode()},
        HUB: {"auth": base64.b64encode(b"hub:pw").decode()},
        "https://old.test/v1/": {"auth": base64.b64encode(b"old:pw").decode()},
    }}))  # fmt: skip
    files = AuthFiles((tmp_path / "none.json", first, second))

    def user(repository: str) -> str | None:
        login = files.login(parse_repository(repository))
        return login.user if login is not None else None

    assert files.login(parse_repository("registry.test/other")) == Login("host", "p:w")
    assert user("registry.test/team/app") == "team"
    assert user("docker.io/library/alpine") == "hub"
    assert user("old.test/a") == "old"
    assert user("unknown.test/a") is None


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"auths":[]}', b" " * (1024 * 1024 + 1), b'{"auths":{"registry.test":{"auth":"?"}}}',
                b'{"auths":{"registry.test":{}}}', b'{"auths":{"registry.test":{"auth":"YWJj"}}}']
)  # fmt: skip
def test_a_file_of_logins_that_cannot_be_read_is_not_passed_over(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "auth.json"
    file.write_bytes(content)
    with pytest.raises(AuthFileError):
        AuthFiles((file,)).login(parse_repository("registry.test/a"))
    with pytest.raises(AuthFileError):
        AuthFiles((tmp_path,)).login(parse_repository("registry.test/a"))


def test_a_login_is_never_shown() -> None:
    assert "secret" not in repr(Login("ada", "secret", "secret"))


def test_logins_are_looked_for_where_podman_and_docker_keep_them() -> None:
    home = {"HOME": "/home/ada"}
    assert default_auth_files(home) == (
        Path("/home/ada/.config/containers/auth.json"), Path("/home/ada/.docker/config.json")
    )  # fmt: skip
    assert default_auth_files({**home, "XDG_RUNTIME_DIR": "/run/1"})[0] == Path("/run/1/containers/auth.json")
    assert default_auth_files({**home, "REGISTRY_AUTH_FILE": "/a"}) == (Path("/a"),)
    assert default_auth_files({"XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"}) == (
        Path("/c/containers/auth.json"), Path("/d/config.json")
    )  # fmt: skip


# Challenges and links


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ("Negotiate", None),
        ('Basic realm="a, b"', Challenge("basic", "a, b")),
        ('BEARER realm="https://t/x",service="s",scope="a b"', Challenge("bearer", "https://t/x", "s", "a b")),
        ('Basic realm="x", Bearer realm="https://t",service=s', Challenge("bearer", "https://t", "s")),
        ('Bearer realm="https://t",error="invalid_token", Basic realm="x"', Challenge("bearer", "https://t")),
    ],
)
def test_bearer_is_answered_before_basic(header: str, expected: Challenge | None) -> None:
    assert parse_challenge(header) == expected


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("", ""),
        ('</more>; rel="prev"', ""),
        ('</more>; rel="next"', "https://r.test/more"),
        ("</more>; rel=next", "https://r.test/more"),
        ('</a>; rel="prev", </b?x=1,2>; title="t"; rel="next"', "https://r.test/b?x=1,2"),
        ('<https://r.test:443/more>; rel="last next"', "https://r.test:443/more"),
    ],
)
def test_a_list_goes_on_where_its_link_says(link: str, expected: str) -> None:
    answer = Answer("GET x", 200, {"Link": link}, b"")
    assert next_page(answer, "https://r.test/v2/a/tags/list") == expected


def test_origins_are_compared_as_they_are_meant() -> None:
    assert origin_of("https://R.test/a") == origin_of("https://u:p@r.test:443/b")
    assert origin_of("http://r.test/") != origin_of("https://r.test/")
