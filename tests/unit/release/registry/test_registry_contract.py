"""What every registry keeps and refuses. Over HTTP the integration tests run the very same."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.errors import RefusedError
from pratique.release.errors import ConflictError, NotFoundError, VerificationError
from pratique.release.registry.errors import ManifestError, RegistryRefusedError, RepositoryNameError
from pratique.release.registry.interface import IMAGE_INDEX, IMAGE_MANIFEST
from pratique.release.registry.memory import MemoryRegistry
from pratique.release.values import Digest, digest_of

if TYPE_CHECKING:
    from pratique.release.registry.interface import Registry

pytestmark = pytest.mark.unit

ABSENT = digest_of(b"nothing of this kind")


@dataclass
class Case:
    """A registry, an empty repository of it, and what it can do."""

    registry: Registry
    repository: str
    has_referrers_api: bool
    has_conditional_writes: bool
    has_immutable_tags: bool

    def image(self, name: str, *, subject: Digest | None = None, artifact_type: str = "", size: int = 0) -> bytes:
        """Put an image's blobs, and return its manifest."""
        config = self.registry.put_blob(self.repository, json.dumps({"name": name}).encode())
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "config": {"mediaType": "application/test", "digest": config.digest, "size": config.size_bytes},
            "layers": [],
            "annotations": {"name": name},
        }
        if artifact_type:
            manifest["artifactType"] = artifact_type
        if subject is not None:
            manifest["subject"] = {"mediaType": IMAGE_MANIFEST, "digest": subject, "size": size or 100}
        return json.dumps(manifest).encode()

    def put(self, name: str, tag: str, **conditions: Any) -> Digest:
        return self.registry.put_manifest(self.repository, tag, self.image(name), IMAGE_MANIFEST, **conditions)


def case_in_memory(*, is_able: bool) -> Case:
    registry = MemoryRegistry(has_referrers_api=is_able, has_conditional_writes=is_able, has_immutable_tags=is_able)
    return Case(registry, "registry.test/team/app", is_able, is_able, is_able)


@pytest.fixture(params=["front", "plain"])
def case(request: pytest.FixtureRequest) -> Case:
    return case_in_memory(is_able=request.param == "front")


@pytest.fixture
def able() -> Case:
    """One that has all that registries may have: what only such a one does is asked of no other."""
    return case_in_memory(is_able=True)


class TestManifests:
    def test_a_manifest_is_read_by_tag_and_by_digest_as_it_was_written(self, case: Case) -> None:
        content = case.image("a")
        digest = case.registry.put_manifest(case.repository, "v1", content, IMAGE_MANIFEST)
        by_tag = case.registry.manifest(case.repository, "v1")
        assert by_tag == case.registry.manifest(case.repository, digest)
        assert (by_tag.content, by_tag.media_type, by_tag.digest) == (content, IMAGE_MANIFEST, digest_of(content))

    def test_a_manifest_put_under_its_digest_has_no_tag(self, case: Case) -> None:
        content = case.image("a")
        digest = digest_of(content)
        assert case.registry.put_manifest(case.repository, digest, content, IMAGE_MANIFEST) == digest
        assert case.registry.manifest(case.repository, digest).content == content
        assert list(case.registry.tags(case.repository)) == []

    def test_a_manifest_put_under_another_digest_is_refused(self, case: Case) -> None:
        with pytest.raises(VerificationError, match="expected"):
            case.registry.put_manifest(case.repository, ABSENT, case.image("a"), IMAGE_MANIFEST)

    def test_a_manifest_whose_blob_is_missing_is_refused(self, case: Case) -> None:
        content = case.image("a").replace(b'"layers": []', b'"layers": [{"mediaType":"a/b","size":1,"digest":"%s"}]')
        content = content.replace(b"%s", ABSENT.encode())
        with pytest.raises(RefusedError):
            case.registry.put_manifest(case.repository, "v1", content, IMAGE_MANIFEST)

    def test_what_is_not_there_is_not_found(self, case: Case) -> None:
        for reference in ("v1", ABSENT):
            with pytest.raises(NotFoundError):
                case.registry.manifest(case.repository, reference)
        case.put("a", "v1")
        for reference in ("v2", ABSENT):
            with pytest.raises(NotFoundError):
                case.registry.manifest(case.repository, reference)

    def test_an_index_is_kept_as_what_it_is(self, case: Case) -> None:
        content = case.image("a")
        digest = case.registry.put_manifest(case.repository, digest_of(content), content, IMAGE_MANIFEST)
        child = {"mediaType": IMAGE_MANIFEST, "digest": digest, "size": len(content)}
        index = json.dumps({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": [child]}).encode()
        case.registry.put_manifest(case.repository, "all", index, IMAGE_INDEX)
        found = case.registry.manifest(case.repository, "all")
        assert (found.content, found.media_type) == (index, IMAGE_INDEX)

    @pytest.mark.parametrize("reference", ["", "a:b", "-v1", "v/1", "sha256:AB", "../v1", "v" * 129, "v1\n"])
    def test_what_is_no_reference_is_a_wrong_call(self, case: Case, reference: str) -> None:
        with pytest.raises(RepositoryNameError):
            case.registry.manifest(case.repository, reference)
        with pytest.raises(RepositoryNameError):
            case.registry.put_manifest(case.repository, reference, b"{}", IMAGE_MANIFEST)


class TestTags:
    def test_tags_are_listed_once_each(self, case: Case) -> None:
        assert list(case.registry.tags(case.repository)) == []
        for tag in ("v2", "v1"):
            case.put("a", tag)
        assert sorted(case.registry.tags(case.repository)) == ["v1", "v2"]

    def test_a_tag_may_be_written_again_with_the_same(self, case: Case) -> None:
        assert case.put("a", "v1") == case.put("a", "v1")

    def test_a_tag_is_moved_only_where_tags_may_be(self, case: Case) -> None:
        first = case.put("a", "v1")
        if case.has_immutable_tags:
            with pytest.raises(ConflictError):
                case.put("b", "v1")
            assert case.registry.manifest(case.repository, "v1").digest == first
        else:
            assert case.registry.manifest(case.repository, "v1").digest != case.put("b", "v1")

    def test_tags_that_list_evidence_may_be_moved_everywhere(self, case: Case) -> None:
        tag = ABSENT.replace(":", "-") + ".att"
        case.put("a", tag)
        second = case.put("b", tag)
        assert case.registry.manifest(case.repository, tag).digest == second


class TestConditions:
    def test_a_registry_says_whether_they_hold_and_refuses_them_where_not(self, case: Case) -> None:
        assert case.registry.has_conditional_writes(case.repository) is case.has_conditional_writes
        if case.has_conditional_writes:
            case.put("a", "v1", only_if_absent=True)
            assert list(case.registry.tags(case.repository)) == ["v1"]
            return
        with pytest.raises(RegistryRefusedError, match="ignores conditions"):
            case.put("a", "v1", only_if_absent=True)
        assert list(case.registry.tags(case.repository)) == []

    def test_only_if_absent_holds_once(self, able: Case) -> None:
        first = able.put("a", "v1", only_if_absent=True)
        for name in ("a", "b"):
            with pytest.raises(ConflictError):
                able.put(name, "v1", only_if_absent=True)
        assert able.registry.manifest(able.repository, "v1").digest == first

    def test_only_if_holds_while_the_tag_names_that_digest(self, able: Case) -> None:
        tag = ABSENT.replace(":", "-") + ".att"
        with pytest.raises(ConflictError):
            able.put("a", tag, only_if=ABSENT)
        first = able.put("a", tag)
        second = able.put("b", tag, only_if=first)
        with pytest.raises(ConflictError):
            able.put("c", tag, only_if=first)
        assert able.registry.manifest(able.repository, tag).digest == second

    def test_of_writers_at_once_one_wins(self, able: Case) -> None:
        tag = ABSENT.replace(":", "-") + ".att"
        names = [f"writer {number}" for number in range(8)]
        manifests = [able.image(name) for name in names]
        won: list[Digest] = []
        barrier = threading.Barrier(len(names))

        def write(content: bytes) -> None:
            barrier.wait(10)
            with contextlib.suppress(ConflictError):
                won.append(
                    able.registry.put_manifest(able.repository, tag, content, IMAGE_MANIFEST, only_if_absent=True)
                )

        threads = [threading.Thread(target=write, args=(content,)) for content in manifests]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert won == [able.registry.manifest(able.repository, tag).digest]


class TestBlobs:
    def test_a_blob_is_read_as_it_was_written(self, case: Case, tmp_path: Path) -> None:
        content = bytes(range(256)) * 1000
        file = tmp_path / "blob"
        file.write_bytes(content)
        for given in (content, file, b""):
            put = case.registry.put_blob(case.repository, given)
            data = given.read_bytes() if isinstance(given, Path) else given
            assert (put.digest, put.size_bytes) == (digest_of(data), len(data))
            assert case.registry.blob(case.repository, put.digest, max_bytes=len(data)) == data
            with case.registry.open_blob(case.repository, put.digest) as stream:
                assert stream.read(10) + stream.read() == data

    def test_a_blob_that_is_not_there_is_not_found(self, case: Case) -> None:
        with pytest.raises(NotFoundError):
            case.registry.blob(case.repository, ABSENT, max_bytes=10)
        with pytest.raises(NotFoundError), case.registry.open_blob(case.repository, ABSENT):
            pass

    def test_a_blob_larger_than_allowed_is_refused(self, case: Case) -> None:
        put = case.registry.put_blob(case.repository, b"12345678")
        with pytest.raises(VerificationError, match="at most 7"):
            case.registry.blob(case.repository, put.digest, max_bytes=7)


class TestReferrers:
    def test_a_registry_without_the_api_says_so(self, case: Case) -> None:
        digest = case.put("a", "v1")
        assert (case.registry.referrers(case.repository, digest) is not None) is case.has_referrers_api

    def test_manifests_with_a_subject_are_listed_with_their_type_and_annotations(self, able: Case) -> None:
        digest = able.put("a", "v1")
        empty = able.registry.referrers(able.repository, digest)
        assert empty is not None
        assert (json.loads(empty.content)["manifests"], empty.media_type) == ([], IMAGE_INDEX)
        typed = able.image("typed", subject=digest, artifact_type="application/vnd.test")
        untyped = able.image("untyped", subject=digest)
        other = able.image("other", subject=ABSENT)
        for content in (typed, untyped, typed, other):
            able.registry.put_manifest(able.repository, digest_of(content), content, IMAGE_MANIFEST)
        found = able.registry.referrers(able.repository, digest)
        assert found is not None
        listed = {one["digest"]: one for one in json.loads(found.content)["manifests"]}
        assert set(listed) == {digest_of(typed), digest_of(untyped)}
        assert len(json.loads(found.content)["manifests"]) == 2
        assert listed[digest_of(typed)] == {
            "mediaType": IMAGE_MANIFEST,
            "digest": digest_of(typed),
            "size": len(typed),
            "artifactType": "application/vnd.test",
            "annotations": {"name": "typed"},
        }
        assert listed[digest_of(untyped)]["artifactType"] == "application/test"

    def test_a_referrer_may_be_there_before_its_subject(self, able: Case) -> None:
        subject = able.image("late")
        referrer = able.image("early", subject=digest_of(subject))
        able.registry.put_manifest(able.repository, "evidence", referrer, IMAGE_MANIFEST)
        found = able.registry.referrers(able.repository, digest_of(subject))
        assert found is not None
        assert [one["digest"] for one in json.loads(found.content)["manifests"]] == [digest_of(referrer)]

    def test_referrers_written_at_once_are_all_listed(self, able: Case) -> None:
        digest = able.put("a", "v1")
        contents = [able.image(f"evidence {number}", subject=digest) for number in range(16)]

        def write(content: bytes) -> None:
            able.registry.put_manifest(able.repository, digest_of(content), content, IMAGE_MANIFEST)

        threads = [threading.Thread(target=write, args=(content,)) for content in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        found = able.registry.referrers(able.repository, digest)
        assert found is not None
        listed = {one["digest"] for one in json.loads(found.content)["manifests"]}
        assert listed == {digest_of(content) for content in contents}


class TestNames:
    @pytest.mark.parametrize("name", ["app", "host/app", "r.test/App", "r.test/a/../b", "r.test/a:1"])
    def test_what_is_no_repository_is_a_wrong_call(self, case: Case, name: str) -> None:
        calls = (
            lambda: case.registry.manifest(name, "v1"),
            lambda: case.registry.put_manifest(name, "v1", b"{}", IMAGE_MANIFEST),
            lambda: case.registry.blob(name, ABSENT, max_bytes=1),
            lambda: case.registry.put_blob(name, b""),
            lambda: list(case.registry.tags(name)),
            lambda: case.registry.has_conditional_writes(name),
        )
        for call in calls:
            with pytest.raises(RepositoryNameError):
                call()

    def test_malformed_manifests_are_refused_in_memory(self) -> None:
        registry = MemoryRegistry()
        for content in (b"", b"[]", b'{"mediaType":"other/type"}', b'{"subject":{"digest":"sha256:1"}}'):
            with pytest.raises(ManifestError):
                registry.put_manifest("registry.test/a", "v1", content, IMAGE_MANIFEST)
