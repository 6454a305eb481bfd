"""`pratique build` as people call it: exit codes, JSON, the registry; and programs that fail."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pratique.release.build.base import BaseRequest, make_base
from pratique.release.build.errors import BuildRequestError
from pratique.release.build.layertar import LayerLimits, read_entries
from pratique.release.build.layout import LayoutImage
from pratique.release.build.programs import Program, run
from pratique.release.build.push import push_image
from pratique.release.errors import ConflictError, ToolFailedError, ToolMissingError, UnavailableError

pytestmark = pytest.mark.integration


def pratique(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pratique.cli.main", "build", *words],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "registry.yml"
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    config.write_text(json.dumps({"version": "0.1", "storage": storage, "http": {"addr": f"127.0.0.1:{port}"}}))
    with subprocess.Popen(["docker-registry", "serve", str(config)], stderr=subprocess.DEVNULL) as process:
        for _ in range(200):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=1):
                break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}/team/chat"
        process.terminate()


def test_a_build_is_pushed_by_its_commit_and_a_tag_is_never_moved(
    checkout: Any, dockerfile: Callable[..., str], registry: str, tmp_path: Path
) -> None:
    checkout.commit(Dockerfile=dockerfile(runtime="COPY Dockerfile /d"))
    words = (
        *("--context", str(checkout.folder), "--output", str(checkout.output), "--base", str(checkout.base.folder)),
        *("--build-arg", f"BASE={checkout.reference}", "--push", registry),
    )
    done = pratique(*words, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    tag = record["tag"]
    assert record["schema_version"] == 1
    assert "running the tests of the stage 'test'" in done.stderr
    host, _, name = registry.partition("/")
    address = f"http://{host}/v2/{name}/manifests/{tag}"
    request = urllib.request.Request(address, method="HEAD")
    request.add_header("Accept", "application/vnd.oci.image.manifest.v1+json")
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - the same
        assert answer.headers["Docker-Content-Digest"] == record["image"]
    log = tmp_path / "log"
    checkout.commit(Dockerfile=dockerfile())
    # The image is a base now, fetched from the registry by its digest.
    other = checkout.build(arguments={"BASE": f"{registry}@{record['image']}"}, base_layouts=())
    assert [one.digest for one in other.record.bases] == [record["image"]]
    with pytest.raises(ConflictError, match="a tag is never moved"):
        push_image(other.image, registry, tag, log=log, timeout_seconds=30)
    push_image(other.image, registry, "other", log=log, timeout_seconds=30)
    push_image(other.image, registry, "other", log=log, timeout_seconds=30)  # is there already
    with pytest.raises(UnavailableError, match="could not be asked"):
        push_image(other.image, "127.0.0.1:1/a", tag, log=log, timeout_seconds=30)
    with pytest.raises(ToolFailedError, match="manifest unknown"):
        checkout.build(arguments={"BASE": f"{registry}@sha256:{'0' * 64}"}, base_layouts=())


def test_a_base_in_another_form_than_oci_is_refused_with_its_name(
    checkout: Any, dockerfile: Callable[..., str], registry: str
) -> None:
    source = f"oci:{checkout.base.folder}"
    words = ["skopeo", "copy", "--quiet", "--format", "v2s2", "--dest-tls-verify=false", source]
    subprocess.run([*words, f"docker://{registry}:docker"], check=True)
    words = ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{registry}:docker"]
    digest = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    checkout.commit(Dockerfile=dockerfile())
    with pytest.raises(BuildRequestError, match="another form than OCI") as raised:
        checkout.build(arguments={"BASE": f"{registry}:docker@{digest}"}, base_layouts=())
    assert "sha256:" in str(raised.value.hint)


def test_exit_codes_and_a_dry_run(checkout: Any, dockerfile: Callable[..., str], tmp_path: Path) -> None:
    checkout.commit(Dockerfile=dockerfile(), Moving="FROM debian:12 AS test\nFROM debian AS runtime\n")
    place = ("--context", str(checkout.folder), "--output", str(tmp_path / "none"))
    base = ("--base", str(checkout.base.folder), "--build-arg", f"BASE={checkout.reference}")
    dry = pratique(*place, *base, "--dry-run", "--json")
    assert (dry.returncode, json.loads(dry.stdout)["bases"]) == (0, [checkout.reference])
    assert not (tmp_path / "none").exists()
    refused = pratique(*place, "--file", "Moving", "--dry-run")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "line 1: the base 'debian:12' is not named by digest" in refused.stderr
    for wrong in (("--build-arg", "BASE"), ("--secret", "a=/missing"), ("--push", "host/a:tag"), ("--file", "none")):
        assert pratique(*place, *base, *wrong).returncode == 2, wrong
    path = str(Path(sys.executable).parent) + ":" + str(tmp_path)
    for name in ("git", "skopeo", "unshare"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    missing = pratique(*place, *base, PATH=path)
    assert missing.returncode == 3
    assert "apt-get install buildah" in missing.stderr


def test_a_base_that_would_be_made_is_told(tmp_path: Path) -> None:
    words = ("base", "--output", str(tmp_path / "none"), "--package", "python3", "--dry-run")
    dry = pratique(*words, SOURCE_DATE_EPOCH="5")
    assert (dry.returncode, (tmp_path / "none").exists()) == (0, False)
    assert "--include=usr-is-merged,python3" in dry.stderr
    assert pratique(*words[:-1], "--package", "no;name").returncode == 2
    missing = pratique(*words[:-1], PATH=str(tmp_path))
    assert (missing.returncode, "apt-get install mmdebstrap" in missing.stderr) == (3, True)


def test_images_are_compared_by_hand(checkout: Any, dockerfile: Callable[..., str], tmp_path: Path) -> None:
    checkout.commit(Dockerfile=dockerfile(runtime="COPY Dockerfile /d"))
    first = checkout.build(output=tmp_path / "a").image.folder
    checkout.commit(Dockerfile=dockerfile(runtime="COPY Dockerfile /d\nUSER 5"))
    second = checkout.build(output=tmp_path / "b").image.folder
    same = pratique("compare", str(first), str(first))
    assert (same.returncode, same.stdout[:16]) == (0, "the same: sha256")
    differ = pratique("compare", str(first), str(second), "--json")
    found = {(one["where"], one["path"], one["what"]) for one in json.loads(differ.stdout)["differences"]}
    assert differ.returncode == 1
    assert {("layer 2", "d", "content"), ("config", "config.User", "value")} <= found


def test_an_image_is_inspected_by_hand(checkout: Any, dockerfile: Callable[..., str], tmp_path: Path) -> None:
    checkout.commit(Dockerfile=dockerfile(runtime="RUN touch /x && chmod 4755 /x"))
    image = checkout.build().image.folder
    done = pratique("inspect", str(image), "--json")
    found = {(one["rule"], one["where"]) for one in json.loads(done.stdout)["findings"]}
    assert (done.returncode, ("root-user", "User") in found) == (1, True)
    config = tmp_path / "release.toml"
    allow = [
        f'[[release.hygiene.allow]]\nrule = "{rule}"\nwhere = "*"\nreason = "made for this test"\n' for rule, _ in found
    ]
    config.write_text("".join(allow) + "[release.build]\n", encoding="utf-8")
    allowed = pratique("inspect", str(image), "--config", str(config))
    assert allowed.returncode == 0, allowed.stdout + allowed.stderr
    assert "Allowed: made for this test" in allowed.stdout
    assert "rules; " in allowed.stderr


def test_a_program_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ToolFailedError, match=r"(?s)did not end within 0\.5 s.*told"):
        run(Program("sh", "dash"), ["-c", "echo told >&2; sleep 60 & sleep 60"], timeout_seconds=0.5)
    assert time.monotonic() - started < 10
    log = tmp_path / "log"
    with pytest.raises(ToolFailedError, match=r"(?s)ended with code 3.*\(it said nothing\)"):
        run(Program("sh", "dash"), ["-c", "exit 3"], timeout_seconds=5, log=log)
    assert log.read_bytes() == b"$ sh -c exit 3\n"
    with pytest.raises(ToolMissingError, match="no-such-program"):
        run(Program("no-such-program", "nothing"), [], timeout_seconds=1)


def entries_of(image: LayoutImage) -> dict[str, tuple[str, int, int]]:
    with image.open_layer(image.layers[0]) as stream:
        entries = read_entries(stream, LayerLimits())
        return {entry.path: (entry.kind, entry.mode, entry.size) for entry in entries}


@pytest.mark.slow
def test_a_base_is_made_of_debian_packages_alone(tmp_path: Path) -> None:
    image, record = make_base(BaseRequest(tmp_path, ()), log=tmp_path / "log")
    assert {"libc6", "dpkg", "base-files"} <= {package.name for package in record.packages}
    entries = entries_of(image)
    assert not [path for path, (kind, mode, _) in entries.items() if kind == "file" and mode & 0o6000]
    assert entries["etc/hostname"] == entries["etc/resolv.conf"] == ("file", 0o644, 0)
    left_out = ("usr/share/man/man1/", "usr/share/locale/", "var/lib/apt/lists/", "var/cache/apt/")
    assert not [path for path, (_, _, size) in entries.items() if size and path.startswith(left_out)]
    assert "usr/share/doc/libc6/copyright" in entries
    assert not [path for path, (kind, _, _) in entries.items() if kind == "device"]


FAKE_DOCKER = """#!/bin/sh
[ "$2" = version ] && { echo "github.com/docker/buildx v0.14.0 0123"; exit; }
echo "$@" >> SEEN
for word; do case $word in type=oci,*) word=${word#*dest=}; cp -r LAYOUT "${word%%,*}";; esac; done
"""


def test_buildkit_is_told_what_to_build_and_its_layout_is_read(
    checkout: Any, dockerfile: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no Docker engine here: a program in its place says what it was told, and writes a layout."""
    from pratique.core.clock import SystemClock
    from pratique.core.ids import SequentialIds
    from pratique.release.build.buildkit import BuildKitBuilder
    from pratique.release.build.pipeline import BuildRequest, Workplace, build_image
    from pratique.release.build.settings import BuildSettings

    fake = tmp_path / "docker"
    text = FAKE_DOCKER.replace("SEEN", str(tmp_path / "seen")).replace("LAYOUT", str(checkout.base.folder))
    fake.write_text(text, encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    checkout.commit(Dockerfile=dockerfile(), **{"Dockerfile.dockerignore": "x\n"})
    request = BuildRequest(
        checkout.folder,
        "Dockerfile",
        checkout.output,
        arguments={"BASE": checkout.reference},
        base_layouts=(checkout.base.folder,),
    )
    at = Workplace(BuildSettings(builder="buildkit"), BuildKitBuilder, SystemClock(), SequentialIds(), lambda _: None)
    result = build_image(request, at)
    assert (result.record.builder.name, result.record.builder.version) == ("buildkit", "0.14.0")
    assert [layer.diff_id for layer in result.image.layers] == [layer.diff_id for layer in checkout.base.layers]
    told = (tmp_path / "seen").read_text(encoding="utf-8").splitlines()
    assert [line.split("--target ")[1].split()[0] for line in told] == ["deps", "test", "runtime"]
    assert ["--no-cache" in line for line in told] == [True, False, False]
