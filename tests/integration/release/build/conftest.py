"""A base image of a shell and a few programs of this machine, a checkout, and builds of it that take seconds."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pratique.core.clock import SystemClock
from pratique.core.ids import SequentialIds
from pratique.release.build.buildah import BuildahBuilder
from pratique.release.build.layout import LayoutImage, add_layer, canonical_json, write_image
from pratique.release.build.pipeline import BuildRequest, BuildResult, Workplace, build_image
from pratique.release.build.settings import BuildSettings

PROGRAMS = ("bash", "cat", "ls", "mkdir", "chmod", "date", "touch", "sleep")


def files_of_this_machine() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in PROGRAMS:
        program = Path(shutil.which(name) or "/missing").resolve()
        found[f"bin/{name}"] = program
        listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
        for path in re.findall(r"(/\S+) \(0x", listed):
            found[path.lstrip("/")] = Path(path).resolve()
    found["bin/sh"] = found["bin/bash"]
    return found


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> LayoutImage:
    folder = tmp_path_factory.mktemp("base")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("etc/hostname", "etc/hosts", "etc/resolv.conf"):
            tar.addfile(tarfile.TarInfo(name))
        for name in ("tmp", "dev", "proc", "sys", "run", "var"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for path, source in files_of_this_machine().items():
            info = tarfile.TarInfo(path)
            content = source.read_bytes()
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    out.seek(0)
    layer = add_layer(folder, out)
    rootfs = {"type": "layers", "diff_ids": [layer.diff_id]}
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": rootfs,
        "history": [{"created_by": "test"}],
    }
    return write_image(folder, canonical_json(config), [layer])


@dataclass
class Checkout:
    """A repository with a Dockerfile, and builds of it."""

    folder: Path
    output: Path
    base: LayoutImage
    said: list[str] = field(default_factory=list)

    @property
    def reference(self) -> str:
        return f"localhost/tiny@{self.base.digest}"

    def git(self, *words: str) -> None:
        identity = ("-c", "user.name=One", "-c", "user.email=one@example.org")
        subprocess.run(["git", "-C", str(self.folder), *identity, *words], check=True, capture_output=True)

    def commit(self, **files: str) -> None:
        for name, text in files.items():
            path = self.folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "A change")

    def build(self, **request: Any) -> BuildResult:
        settings = BuildSettings(stage_timeout_seconds=60.0)
        at = Workplace(settings, BuildahBuilder, SystemClock(), SequentialIds(), self.said.append)
        plain: dict[str, Any] = {
            "context": self.folder,
            "dockerfile": "Dockerfile",
            "output": self.output,
            "arguments": {"BASE": self.reference},
            "base_layouts": (self.base.folder,),
        }
        return build_image(BuildRequest(**(plain | request)), at)


@pytest.fixture
def checkout(tmp_path: Path, tiny_base: LayoutImage) -> Checkout:
    made = Checkout(tmp_path / "source", tmp_path / "out", tiny_base)
    made.folder.mkdir()
    made.git("init", "--quiet")
    return made


@pytest.fixture
def dockerfile() -> Callable[..., str]:
    """Write a Dockerfile whose stages have these instructions."""

    def write(*, deps: str = "", test: str = "RUN true", runtime: str = "") -> str:
        return f"ARG BASE\nFROM $BASE AS deps\n{deps}\nFROM $BASE AS test\n{test}\nFROM $BASE AS runtime\n{runtime}\n"

    return write
