"""A small model that could be imported, keys that sign, and a server's trust in them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from pratique.core.clock import ManualClock
from pratique.inference.artifacts.manifest import verify, write_manifest
from pratique.release.models.admission import Trust
from pratique.release.models.artifact import ModelArtifact, ModelFile
from pratique.release.policy.decision import Decision
from pratique.release.policy.document import Identity
from pratique.release.predicates import DECISION, RELEASE
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import FileKey
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import make_statement
from pratique.release.values import Digest, digest_of

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
HEADER = b'{"a":{"dtype":"U8","shape":[100],"data_offsets":[0,100]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(100)
POLICY = digest_of(b"a policy")
OTHER = digest_of(b"another artifact")


def write_model(folder: Path, *, seed: int = 0, is_adapter: bool = False) -> Path:
    """Write an imported model or adapter, with its manifest."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS[:-1] + bytes([seed]))
    (folder / ("adapter_config.json" if is_adapter else "config.json")).write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("# A model\n")
    (folder / "merges.txt").write_bytes(b"")  # an empty blob is one, too
    write_manifest(folder, name=folder.name, origin="a test", licence="MIT")
    verify(folder)
    return folder


def file(name: str, content: bytes = b"{}") -> ModelFile:
    return ModelFile(name, digest_of(content), len(content))


TINY = ModelArtifact(
    kind="model",
    name="tiny",
    files=(file("config.json"), file("model.safetensors", WEIGHTS)),
    licence="Apache-2.0",
)
ADAPTER = replace(TINY, kind="adapter", base=OTHER)


def decision(subject: Digest, **changes: object) -> Decision:
    values: dict[str, object] = {
        "verdict": "allow",
        "repository": "registry.example/models/tiny",
        "digest": subject,
        "environment": "production",
        "decided_at": NOW - timedelta(hours=1),
        "policy": POLICY,
        "rules": (),
    }
    return Decision(**{**values, **changes})  # type: ignore[arg-type]  # one of the fields, by its name


@dataclass
class Signatory:
    """A key, and what it has signed."""

    key: FileKey = field(default_factory=lambda: FileKey(ec.generate_private_key(ec.SECP256R1())))

    @property
    def identity(self) -> Identity:
        return Identity(key=parse_public_key(self.key.public_key_der).fingerprint)

    def sign(self, subject: Digest) -> bytes:
        return KeyedSigner(self.key).sign(make_statement(subject, RELEASE, {}).payload)

    def decide(self, subject: Digest, content: Decision | None = None) -> bytes:
        made = content or decision(subject)
        return KeyedSigner(self.key).sign(make_statement(subject, DECISION, made).payload)


def verifier(*known: Signatory) -> BundleVerifier:
    return BundleVerifier(tuple(parse_public_key(one.key.public_key_der) for one in known))


def trust(signer: Signatory, decider: Signatory | None = None) -> Trust:
    if decider is None:
        return Trust(signers=(signer.identity,))
    return Trust(signers=(signer.identity,), environment="production", deciders=(decider.identity,))


def clock() -> ManualClock:
    return ManualClock(epoch_seconds=NOW.timestamp())
