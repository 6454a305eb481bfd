"""Makes small images in OCI layout, statements about them, and build records."""

from __future__ import annotations

import io
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cyclonedx.validation.json  # noqa: F401 - takes seconds to import, which are no test's own

from pratique.release.build.layout import add_layer, write_image
from pratique.release.build.record import BuilderRecord, BuildRecord, Material, SourceRecord
from pratique.release.evidence.images import open_layout
from pratique.release.evidence.interface import Image
from pratique.release.predicates import SBOM
from pratique.release.statements import Statement, make_statement
from pratique.release.values import Digest, digest_of

__all__ = ["COMMIT", "DPKG", "bom", "build_record", "deb", "layer", "make_image", "metadata", "pypi", "sbom_of"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WHEN = datetime(2024, 6, 1, tzinfo=UTC)

DPKG = "\n\n".join(
    f"Package: {name}\nStatus: {status}\nArchitecture: amd64\nMaintainer: nobody <n@example.org>\n"
    f"Version: {version}\nDescription: {name}\n continued: yes"
    for name, version, status in (
        ("openssl", "3.0.11-1~deb12u2", "install ok installed"),
        ("gone", "1.0", "deinstall ok config-files"),
        ("zlib1g", "1:1.2.13.dfsg-1", "hold ok installed"),
    )
)


def metadata(name: str, version: str) -> str:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: MIT\n\nVersion: not this\n"


def layer(*files: tuple[str, str | None]) -> bytes:
    """Write a layer; None makes a folder, and a text like "=> path" a hard link."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for path, text in files:
            info = tarfile.TarInfo(path)
            if text is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
                continue
            if text.startswith("=> "):
                info.type, info.linkname = tarfile.LNKTYPE, text.removeprefix("=> ")
                tar.addfile(info)
                continue
            data = text.encode()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return content.getvalue()


def make_image(folder: Path, *layers: bytes, created: str = "2024-01-01T00:00:00Z") -> Image:
    added = [add_layer(folder, io.BytesIO(one)) for one in layers or (layer(("etc/hostname", "x")),)]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in added]},
    }
    if created:
        config["created"] = created
    write_image(folder, json.dumps(config).encode(), added)
    return open_layout(folder, "registry.example/team/chat")


def deb(name: str, version: str, **qualifiers: str) -> dict[str, Any]:
    marks = "&".join(f"{key}={value}" for key, value in {"distro": "debian-12", **qualifiers}.items())
    purl = f"pkg:deb/debian/{name}@{version}?{marks}"
    return {"type": "library", "name": name, "version": version, "purl": purl}


def pypi(name: str, version: str, *licences: str) -> dict[str, Any]:
    one: dict[str, Any] = {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}"}
    if licences:
        one["licenses"] = [{"expression": licence} for licence in licences]
    return one


def bom(*components: dict[str, Any]) -> dict[str, Any]:
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": list(components)}


def sbom_of(image: Digest, *components: dict[str, Any]) -> Statement:
    return make_statement(image, SBOM, bom(*components))


def build_record(image: Digest, **more: Any) -> BuildRecord:
    source = SourceRecord(
        repository=more.pop("repository", "https://git.example/team/chat"),
        commit=COMMIT,
        committed_at=WHEN,
        is_dirty=more.pop("dirty", False),
        authors=more.pop("authors", ()),
    )
    facts: dict[str, Any] = {
        "image": image,
        "tag": COMMIT,
        "invocation_id": "bld_1",
        "source": source,
        "builder": BuilderRecord(
            id="urn:pratique:builder:ci", name="buildah", version="1.28", parameters={"zlib": "1"}
        ),
        "dockerfile": Material(name="Dockerfile", digest=digest_of(b"FROM")),
        "bases": (Material(name="registry.example/base@sha256:0", digest=digest_of(b"base")),),
        "locks": (Material(name="requirements.txt", digest=digest_of(b"lock")),),
        "downloads": (Material(name="a-1-py3-none-any.whl", digest=digest_of(b"wheel")),),
        "artifacts": (),
        "parameters": {"target": "runtime", "source_date_epoch": "1", "arg:FLAVOUR": "small"},
        "started_at": WHEN,
        "finished_at": WHEN,
        "log": Material(name="build.log", digest=digest_of(b"log")),
    }
    return BuildRecord(**facts | more)
