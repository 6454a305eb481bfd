from __future__ import annotations

import datetime as dt
import functools
import random
from collections.abc import Callable

import msgspec
import pytest
from tests.unit.release.signing.interleaving import Choose, Interleaving, all_orders
from tests.unit.release.signing.watched_registry import REPOSITORY, WatchedRegistry

from pratique.core.errors import RefusedError
from pratique.release.errors import ConflictError, EvidenceError, NotFoundError, UnavailableError
from pratique.release.registry.interface import IMAGE_INDEX, IMAGE_MANIFEST, Manifest
from pratique.release.registry.manifests import referrer_descriptor
from pratique.release.registry.names import fallback_tag
from pratique.release.signing.attach import attach, back_off, repair_index
from pratique.release.signing.bundle import BUNDLE_V03
from pratique.release.signing.dossier import load_dossier
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import FileKey, create_key
from pratique.release.signing.layout import make_index, own_tag, parse_index
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import make_statement
from pratique.release.values import Digest, Subject, digest_of

pytestmark = pytest.mark.unit

AT = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
IMAGE = b'{"schemaVersion":2}'
SUBJECT = Subject(REPOSITORY, digest_of(IMAGE))


class RegistryRefusedError(RefusedError):
    def __init__(self) -> None:
        super().__init__("manifest invalid")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> FileKey:
    return create_key(tmp_path_factory.mktemp("key") / "signing.key", kind="p256", password=None)


@pytest.fixture(scope="module")
def bundles(key: FileKey) -> list[bytes]:
    """Six attestations of the same image."""
    signer = KeyedSigner(key)
    return [signer.sign(make_statement(SUBJECT.digest, f"urn:{number}", {}).payload) for number in range(6)]


@pytest.fixture
def checks(key: FileKey) -> BundleVerifier:
    return BundleVerifier((parse_public_key(key.public_key_der),))


def filled(*, has_referrers: bool = False, is_conditional: bool = False) -> WatchedRegistry:
    registry = WatchedRegistry(has_referrers=has_referrers, is_conditional=is_conditional)
    registry.push_image(IMAGE)
    return registry


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


def types(registry: WatchedRegistry, checks: BundleVerifier) -> list[str]:
    return sorted(one.statement.predicate_type for one in load_dossier(registry, SUBJECT, checks).attestations)


def indexed(registry: WatchedRegistry) -> set[Digest]:
    """What a tool that knows the index alone would find."""
    return set(parse_index(registry.manifest(REPOSITORY, fallback_tag(SUBJECT.digest))))


def test_a_bundle_lies_as_cosign_writes_it(bundles: list[bytes]) -> None:
    registry = filled()
    attached = attach(registry, SUBJECT, bundles[0], at=AT)
    assert attached.bundle == digest_of(bundles[0])
    assert msgspec.json.decode(registry.manifests[attached.manifest].content) == {
        "schemaVersion": 2,
        "mediaType": IMAGE_MANIFEST,
        "artifactType": BUNDLE_V03,
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        },
        "layers": [{"mediaType": BUNDLE_V03, "digest": attached.bundle, "size": len(bundles[0])}],
        "subject": {"mediaType": IMAGE_MANIFEST, "digest": SUBJECT.digest, "size": len(IMAGE)},
        "annotations": {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": "urn:0",
            "org.opencontainers.image.created": "2026-03-01T12:00:00Z",
        },
    }
    tag = fallback_tag(SUBJECT.digest)
    index = msgspec.json.decode(registry.manifest(REPOSITORY, tag).content)
    assert (tag, index["mediaType"]) == (SUBJECT.digest.replace(":", "-"), IMAGE_INDEX)
    (entry,) = index["manifests"]
    assert (entry["digest"], entry["artifactType"]) == (attached.manifest, BUNDLE_V03)
    assert entry["annotations"]["dev.sigstore.bundle.predicateType"] == "urn:0"
    assert entry["size"] == len(registry.manifests[attached.manifest].content)


def test_attaching_again_changes_nothing(bundles: list[bytes]) -> None:
    registry = filled()
    first = attach(registry, SUBJECT, bundles[0], at=AT)
    before = dict(registry.tagged)
    assert attach(registry, SUBJECT, bundles[0], at=AT) == first
    assert registry.tagged == before


def test_where_referrers_are_listed_no_tag_is_written(bundles: list[bytes], checks: BundleVerifier) -> None:
    registry = filled(has_referrers=True)
    attach(registry, SUBJECT, bundles[0], at=AT)
    assert set(registry.tagged) == {"latest"}
    assert types(registry, checks) == ["urn:0"]


def test_a_registry_that_took_a_bundle_and_does_not_list_it_is_not_believed(
    bundles: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, empty = filled(has_referrers=True), make_index({})
    monkeypatch.setattr(registry, "referrers", lambda *_: Manifest(empty, IMAGE_INDEX, digest_of(empty)))
    with pytest.raises(UnavailableError, match="does not list it"):
        attach(registry, SUBJECT, bundles[0], at=AT)


def test_what_says_nothing_about_the_artifact_is_not_attached(key: FileKey) -> None:
    registry = filled()
    other = KeyedSigner(key).sign(make_statement(digest_of(b"other"), "urn:x", {}).payload)
    message = msgspec.json.encode(
        {
            "mediaType": BUNDLE_V03,
            "verificationMaterial": {"publicKey": {}},
            "messageSignature": {"signature": "c2ln"},
        }
    )
    for bundle, reason in ((other, "got one about"), (message, "over a statement"), (b"{}", "is no bundle")):
        with pytest.raises(EvidenceError, match=reason):
            attach(registry, SUBJECT, bundle, at=AT)
    assert set(registry.tagged) == {"latest"}
    assert not registry.blobs


def test_beside_an_artifact_that_is_not_there_nothing_is_attached(bundles: list[bytes]) -> None:
    with pytest.raises(NotFoundError):
        attach(WatchedRegistry(), SUBJECT, bundles[0], at=AT)


def test_an_index_keeps_what_others_wrote_as_they_wrote_it(bundles: list[bytes]) -> None:
    registry = filled()
    other = registry.push_image(b'{"other":1}', tag="other").digest
    foreign = b'{"mediaType":"%s", "digest":"%s","size":11,"x":{"y":1}}' % (IMAGE_MANIFEST.encode(), other.encode())
    registry.put_manifest(REPOSITORY, fallback_tag(SUBJECT.digest), make_index({other: foreign}), IMAGE_INDEX)
    attached = attach(registry, SUBJECT, bundles[0], at=AT)
    assert indexed(registry) == {other, attached.manifest}
    assert foreign in registry.manifest(REPOSITORY, fallback_tag(SUBJECT.digest)).content


def test_a_tag_that_is_taken_by_no_index_is_left_alone(bundles: list[bytes], checks: BundleVerifier) -> None:
    registry = filled()
    registry.push_image(b'{"other":1}', tag=fallback_tag(SUBJECT.digest))
    taken = registry.tagged[fallback_tag(SUBJECT.digest)]
    with pytest.raises(ConflictError, match="is taken"):
        attach(registry, SUBJECT, bundles[0], at=AT)
    assert registry.tagged[fallback_tag(SUBJECT.digest)] == taken
    assert types(registry, checks) == ["urn:0"]


def test_something_else_under_a_tag_of_ours_is_listed_and_proves_nothing(checks: BundleVerifier) -> None:
    registry = filled()
    other = registry.push_image(b'{"other":1}', tag=own_tag(SUBJECT.digest, digest_of(b"anything"))).digest
    repair_index(registry, SUBJECT)
    assert indexed(registry) == {other}
    dossier = load_dossier(registry, SUBJECT, checks)
    assert (dossier.attestations, dossier.unverified) == ((), ())


def test_an_index_that_never_holds_is_given_up_and_nothing_is_lost(
    bundles: list[bytes], checks: BundleVerifier
) -> None:
    registry = filled()

    def vandal(_what: str) -> None:
        registry.tagged.pop(fallback_tag(SUBJECT.digest), None)

    registry.step = vandal
    with pytest.raises(ConflictError, match="did not hold"):
        attach(registry, SUBJECT, bundles[0], at=AT)
    assert types(registry, checks) == ["urn:0"]


def test_a_tag_that_cannot_be_read_while_it_is_written_is_read_again(bundles: list[bytes]) -> None:
    """Debian's registry writes tags in place and fails whoever reads one in that moment."""
    registry = filled()
    torn = [True, True]

    def step(what: str) -> None:
        if what == "read tag" and torn:
            torn.pop()
            raise UnavailableError("internal error: invalid checksum digest format")

    registry.step = step
    attached = attach(registry, SUBJECT, bundles[0], at=AT)
    assert indexed(registry) == {attached.manifest}


@pytest.mark.parametrize(("num_refusals", "is_written"), [(5, True), (6, False)])
def test_a_manifest_that_is_refused_for_a_moment_is_written_again(
    bundles: list[bytes], num_refusals: int, *, is_written: bool
) -> None:
    registry = filled()
    refusals = [True] * num_refusals

    def step(what: str) -> None:
        if what == "write tag" and refusals:
            refusals.pop()
            raise RegistryRefusedError

    registry.step = step
    if is_written:
        attached = attach(registry, SUBJECT, bundles[0], at=AT)
        assert indexed(registry) == {attached.manifest}
        return
    with pytest.raises(RegistryRefusedError):
        attach(registry, SUBJECT, bundles[0], at=AT)


def test_a_registry_that_answers_no_more_is_unavailable_and_what_was_tagged_is_there(
    bundles: list[bytes], checks: BundleVerifier
) -> None:
    registry = filled()

    def step(what: str) -> None:
        if what == "read tag":
            raise UnavailableError("no answer")

    registry.step = step
    with pytest.raises(UnavailableError):
        attach(registry, SUBJECT, bundles[0], at=AT)
    registry.step = lambda _: None
    assert types(registry, checks) == ["urn:0"]


def test_writers_wait_longer_and_longer_and_not_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    for num_rounds in range(1, 60):
        back_off(num_rounds)
    assert all(0 <= seconds <= 1 for seconds in waited)
    assert len(set(waited)) > 50


def writers(registry: WatchedRegistry, bundles: list[bytes]) -> list[Callable[[], object]]:
    return [functools.partial(attach, registry, SUBJECT, bundle, at=AT) for bundle in bundles]


@pytest.mark.parametrize("is_conditional", [False, True], ids=["plain", "conditional"])
@pytest.mark.parametrize(("num_writers", "max_switches"), [(2, 2), (3, 1)])
def test_no_order_of_steps_loses_an_attestation(
    bundles: list[bytes], checks: BundleVerifier, num_writers: int, max_switches: int, *, is_conditional: bool
) -> None:
    """Every order of reads and writes of tags with so many forced switches; more of them in the integration tests."""
    wanted, registry = {f"urn:{number}" for number in range(num_writers)}, filled()
    for choose in all_orders(max_switches=max_switches):
        registry = filled(is_conditional=is_conditional)
        require_none_lost(registry, choose, writers(registry, bundles[:num_writers]))
    assert set(types(registry, checks)) == wanted


def require_none_lost(registry: WatchedRegistry, choose: Choose, attaches: list[Callable[[], object]]) -> None:
    run = Interleaving(choose)
    registry.step = run.step
    run.run(attaches)
    assert run.errors == []
    own = {digest for tag, digest in registry.tagged.items() if "." in tag}
    assert len(own) == len(attaches)
    assert indexed(registry) == own  # readers of the index alone find them too


def read_modify_write(registry: WatchedRegistry, content: bytes) -> None:
    """What other tools do, with a look afterwards and another try."""
    digest = registry.put_manifest(REPOSITORY, digest_of(content), content, IMAGE_MANIFEST)
    tag = fallback_tag(SUBJECT.digest)
    for _ in range(5):
        try:
            entries = parse_index(registry.manifest(REPOSITORY, tag))
        except NotFoundError:
            entries = {}
        if digest in entries:
            return
        entry = msgspec.json.encode(referrer_descriptor(content, IMAGE_MANIFEST))
        registry.put_manifest(REPOSITORY, tag, make_index(entries | {digest: entry}), IMAGE_INDEX)


def test_the_same_orders_do_lose_what_is_written_without_tags_of_its_own() -> None:
    """A look afterwards is not enough: the orders above would show it."""
    lost = 0
    for choose in all_orders(max_switches=3):
        registry = filled()
        run = Interleaving(choose)
        registry.step = run.step
        run.run([functools.partial(read_modify_write, registry, b'{"n":%d}' % name) for name in range(2)])
        lost += len(indexed(registry)) < 2
    assert lost


@pytest.mark.parametrize("seed", range(20))
def test_writers_that_die_lose_nothing_of_the_others_nor_what_they_had_tagged(
    bundles: list[bytes], checks: BundleVerifier, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    registry = filled()
    run = Interleaving(lambda able, _last: dice.choice(able))
    deadly = {dice.randrange(len(bundles) * 5) for _ in range(3)}
    count = iter(range(10_000))

    def step(what: str) -> None:
        run.step(what)
        if next(count) in deadly:
            raise KeyboardInterrupt

    registry.step = step
    run.run(writers(registry, bundles))
    registry.step = lambda _: None
    assert all(isinstance(error, KeyboardInterrupt) for error in run.errors)
    tagged = {digest for tag, digest in registry.tagged.items() if "." in tag}
    assert len(tagged) >= len(bundles) - len(run.errors)
    assert len(types(registry, checks)) == len(tagged)
    assert indexed(registry) == tagged  # the reader has mended it


def test_a_reader_that_may_not_write_still_reads_everything(
    bundles: list[bytes], checks: BundleVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = filled()
    for bundle in bundles:
        attach(registry, SUBJECT, bundle, at=AT)
    del registry.tagged[fallback_tag(SUBJECT.digest)]

    def deny(*_: object, **__: object) -> Digest:
        raise ConflictError("read only")

    monkeypatch.setattr(registry, "put_manifest", deny)
    assert len(types(registry, checks)) == len(bundles)
    assert fallback_tag(SUBJECT.digest) not in registry.tagged


def test_a_reader_writes_nothing_where_nothing_is_missing(bundles: list[bytes], checks: BundleVerifier) -> None:
    registry = filled()
    attach(registry, SUBJECT, bundles[0], at=AT)
    before = registry.num_writes
    load_dossier(registry, SUBJECT, checks)
    assert registry.num_writes == before
