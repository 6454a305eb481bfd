"""Bills of materials, an index and ledger entries for the tests of triage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from pratique.release.advisories.database import AdvisoryDatabase
from pratique.release.advisories.importing import ImportRequest, import_advisories
from pratique.release.ledger.interface import Entry, EntryKind
from pratique.release.promotion.history import Released, Step
from pratique.release.triage.index import Inventory, TriageIndex
from pratique.release.triage.parts import read_parts
from pratique.release.values import Digest, digest_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
REPOSITORY = "registry.example/team/chat"


def purl(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


def sbom(
    *purls: str, needs: Mapping[str, Sequence[str]] | None = None, places: dict[str, tuple[str, str]] | None = None
) -> bytes:
    components = []
    for one in purls:
        layer, path = (places or {}).get(one, ("", ""))
        properties = [
            {"name": "syft:location:0:layerID", "value": layer},
            {"name": "syft:location:0:path", "value": path},
        ]
        components.append({"type": "library", "name": "x", "purl": one, "bom-ref": one, "properties": properties})
    dependencies = [{"ref": one, "dependsOn": list(others)} for one, others in (needs or {}).items()]
    return msgspec.json.encode(
        {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": components, "dependencies": dependencies}
    )


def fill(index: TriageIndex, name: str, document: bytes) -> Digest:
    image = digest_of(name.encode())
    index.add(Inventory(image, REPOSITORY, digest_of(name.encode() + document), read_parts(document)))
    return image


def record(name: str, package: str, *, fixed: str, ecosystem: str = "PyPI", **more: object) -> dict[str, object]:
    events = [{"introduced": "0"}, {"fixed": fixed}]
    affected = {
        "package": {"ecosystem": ecosystem, "name": package},
        "ranges": [{"type": "ECOSYSTEM", "events": events}],
    }
    return {"id": name, "modified": "2026-01-01T00:00:00Z", "affected": [affected], **more}


def advisories(folder: Path, *records: dict[str, object]) -> AdvisoryDatabase:
    source = folder / "osv"
    source.mkdir(exist_ok=True)
    for one in records:
        (source / f"{one['id']}.json").write_bytes(msgspec.json.encode(one))
    import_advisories(ImportRequest((source,), folder / "advisories.db", now=NOW))
    return AdvisoryDatabase(folder / "advisories.db")


def entry(index: int, kind: EntryKind, subject: Digest, body: object, *, environment: str = "production") -> Entry:
    return Entry(
        index=index,
        at=NOW + timedelta(hours=index),
        kind=kind,
        subject=subject,
        environment=environment,
        body=msgspec.json.encode(body),
        actor="ops",
        previous=digest_of(b""),
        hash=digest_of(b"%d" % index),
    )


def released(index: int, subject: Digest, *, environment: str = "production", kind: EntryKind = "promotion") -> Entry:
    body = Released(rollout=digest_of(b"r"), target="local", repository=REPOSITORY, baseline=None)
    return entry(index, kind, subject, body, environment=environment)


def step(index: int, subject: Digest, what: str) -> Entry:
    body = Step(step=what, action="promotion", target="local", repository=REPOSITORY, baseline=None)  # type: ignore[arg-type]  # literals of the tests
    return entry(index, "rollout", subject, body)
