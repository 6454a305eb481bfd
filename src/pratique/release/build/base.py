"""A base image made from Debian packages alone: no registry, and the same bits while the archive stays the same.

Taken out: documentation but the licences, translations, caches, logs, and every set-uid and set-gid bit, which nothing
in a container needs. Python's own modules are compiled with hashes in the place of times, so that they stay valid
when every file gets one time. Files that an engine mounts over are there and empty, so that no build leaves a trace;
devices, which it makes, are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import msgspec

from pratique.release.build.errors import BuildRequestError
from pratique.release.build.layertar import LayerLimits, read_entries
from pratique.release.build.layout import LayoutImage, add_layer, canonical_json, write_image
from pratique.release.build.normalise import rfc3339
from pratique.release.build.programs import Program, run
from pratique.release.errors import EvidenceError
from pratique.release.values import Digest

__all__ = ["MMDEBSTRAP", "BasePackage", "BaseRecord", "BaseRequest", "base_words", "installed_packages", "make_base"]

MMDEBSTRAP: Final = Program("mmdebstrap", "mmdebstrap")
RECORD: Final = "base-record.json"
_STATUS: Final = "var/lib/dpkg/status"
_MAX_STATUS_BYTES: Final = 64 * 1024 * 1024
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9+.-]*(?:=[A-Za-z0-9.+:~-]+)?")
_SUITE: Final = re.compile(r"[a-z][a-z0-9-]*")
_VERSION: Final = re.compile(r"mmdebstrap (\S+)")
_LEFT_OUT: Final = ("usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/doc")
_ASK_SECONDS: Final = 30.0
_CLEAN: Final = r"""
set -eu
cd "$1"
rm -rf var/log/* var/cache/ldconfig/* var/cache/apt/* var/lib/apt/lists/* var/cache/debconf/*-old var/lib/dpkg/*-old
rm -f var/lib/dbus/machine-id etc/.pwd.lock etc/passwd- etc/group- etc/shadow- etc/gshadow-
: > etc/hostname; : > etc/hosts; : > etc/resolv.conf; chmod 0644 etc/hostname etc/hosts etc/resolv.conf
find . -xdev -type f -perm /6000 -exec chmod ug-s {} +
find . -xdev -name __pycache__ -type d -prune -exec rm -rf {} +
if [ -x usr/bin/python3 ]; then
  export PYTHONHASHSEED=0
  chroot . /usr/bin/python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /usr/lib/python3* >&2
fi
"""


@dataclass(frozen=True, slots=True)
class BaseRequest:
    """What to make."""

    output: Path
    packages: tuple[str, ...]
    """Debian packages, `name` or `name=version`, beside what is essential."""
    suite: str = "bookworm"
    epoch: int = 0
    """Seconds since 1970: no file is newer."""
    mirrors: tuple[str, ...] = ()
    """Lines of sources.list, or addresses, in the place of Debian's own; a snapshot of a day, for example."""
    timeout_seconds: float = 900.0


class BasePackage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An installed package."""

    name: str
    version: str
    architecture: str


class BaseRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a base was made of; written beside it."""

    schema_version: Literal[1] = 1
    image: Digest
    suite: str
    epoch: int
    requested: tuple[str, ...]
    packages: tuple[BasePackage, ...]
    made_with: str


def make_base(request: BaseRequest, *, log: Path) -> tuple[LayoutImage, BaseRecord]:
    """Make a base image and its record.

    Raises:
        BuildRequestError: a package or the suite is no name.
        ToolMissingError, ToolFailedError: mmdebstrap is not there, or could not.
    """
    with TemporaryDirectory(prefix="pratique-base-") as work:
        tar = Path(work) / "base.tar"
        environment = {"SOURCE_DATE_EPOCH": str(request.epoch), "PYTHONHASHSEED": "0", "TMPDIR": work, "LC_ALL": "C"}
        words = list(base_words(request, tar))
        run(MMDEBSTRAP, words, timeout_seconds=request.timeout_seconds, log=log, environment=environment)
        packages = _packages_in(tar)
        folder = request.output / "image"
        with tar.open("rb") as stream:
            layer = add_layer(folder, stream)
    image = write_image(folder, _config(request, layer.diff_id, packages), [layer])
    said = run(MMDEBSTRAP, ["--version"], timeout_seconds=_ASK_SECONDS).decode(errors="replace")
    found = _VERSION.search(said)
    record = BaseRecord(
        image=image.digest,
        suite=request.suite,
        epoch=request.epoch,
        requested=request.packages,
        packages=packages,
        made_with=f"mmdebstrap {found[1] if found else 'of an unknown version'}",
    )
    content = msgspec.json.format(msgspec.json.encode(record), indent=2)
    (request.output / RECORD).write_bytes(content + b"\n")
    return image, record


def base_words(request: BaseRequest, target: Path) -> Iterator[str]:
    """Return mmdebstrap's arguments. Pure.

    Raises:
        BuildRequestError: a package or the suite is no name, or a mirror is an option.
    """
    for package in request.packages:
        if not _NAME.fullmatch(package):
            raise BuildRequestError(f"'{package[:100]}' is no Debian package: name, or name=version")
    for mirror in request.mirrors:
        if mirror.startswith("-"):  # an option of mmdebstrap, and some of those run programs
            raise BuildRequestError(f"'{mirror[:100]}' is no mirror: an address, or a line of sources.list")
    if not _SUITE.fullmatch(request.suite):
        raise BuildRequestError(f"'{request.suite[:100]}' is no suite of Debian, as bookworm is")
    yield from ("--mode=root", "--variant=essential", "--format=tar", "--quiet", "--skip=output/dev")
    yield "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    yield f"--include={','.join(['usr-is-merged', *request.packages])}"
    for folder in _LEFT_OUT:
        yield f"--dpkgopt=path-exclude=/{folder}/*"
    yield "--dpkgopt=path-include=/usr/share/doc/*/copyright"
    yield f"--customize-hook={_CLEAN}"
    yield from (request.suite, str(target), *request.mirrors)


def _packages_in(tar: Path) -> tuple[BasePackage, ...]:
    with tar.open("rb") as stream:
        for entry in read_entries(stream, LayerLimits()):
            if entry.path == _STATUS and entry.content is not None and entry.size <= _MAX_STATUS_BYTES:
                return installed_packages(entry.content.read().decode("utf-8", "replace"))
    raise EvidenceError(f"what mmdebstrap made has no {_STATUS} that can be read")


def installed_packages(status: str) -> tuple[BasePackage, ...]:
    """Read dpkg's status file: what is installed, sorted by name. Pure."""
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            found.append(
                BasePackage(
                    name=fields["Package"], version=fields["Version"], architecture=fields.get("Architecture", "")
                )
            )
    return tuple(sorted(found, key=lambda one: (one.name, one.architecture)))


def _config(request: BaseRequest, diff_id: Digest, packages: Sequence[BasePackage]) -> bytes:
    created = rfc3339(request.epoch)
    architecture = next((one.architecture for one in packages if one.name == "libc6"), "amd64")
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
    return canonical_json(
        {
            "architecture": architecture,
            "os": "linux",
            "created": created,
            "config": {"Env": [f"PATH={path}"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": created, "created_by": f"mmdebstrap {request.suite} {' '.join(request.packages)}"}],
        }
    )
